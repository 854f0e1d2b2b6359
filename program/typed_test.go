package program

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type question struct {
	A, B int
	Text string
}

type answer struct{ Sum int }

func TestTyped(t *testing.T) {
	t.Parallel()
	for name, enc := range map[string]Encoding{"gob": nil, "json": JSON} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			typed := Typed[question, answer]{Encoding: enc}
			var fs Functions
			must(t, fs.RegisterTaskConn("sum", func(ctx context.Context, c Conn) error {
				return typed.Serve(ctx, c, func(_ context.Context, from string, q *question) (*answer, error) {
					if from != c.Name() || q.Text != "^" {
						return nil, errors.New("not mine: " + from + q.Text)
					}
					return &answer{q.A + q.B}, nil
				})
			}))
			p := New("typed-" + name)
			must(t, p.SpawnTask("sum", 2, Resources{}))
			must(t, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
				got, err := typed.Request(ctx, c, "sum-1", &question{2, 3, "^"})
				if err != nil || got.Sum != 5 {
					t.Errorf("got %v, %v", got, err)
				}
				var re *RemoteError
				if _, err := typed.Request(ctx, c, "sum-1", &question{2, 3, "?"}); !errors.As(err, &re) || re.Text != "not mine: sum-1?" {
					t.Errorf("an error as answer: %v", err)
				}
				if _, err := c.Request(ctx, Msg{Task: "sum-0", Data: []byte("garbage")}); !errors.As(err, &re) {
					t.Errorf("garbage: %v", err)
				}
				back := Typed[answer, answer]{Encoding: enc}
				must(t, typed.Broadcast(ctx, c, "sum", &question{1, 1, "^"}))
				for range 2 {
					if got, _, err := back.Recv(ctx, c); err != nil || got.Sum != 2 {
						t.Errorf("got %v, %v", got, err)
					}
				}
				return nil
			}))
			must(t, p.Run(t.Context(), InProcess(WithFunctions(&fs))))
		})
	}
}

func TestProto(t *testing.T) {
	t.Parallel()
	typed := Typed[wrapperspb.Int64Value, durationpb.Duration]{Encoding: Proto}
	var fs Functions
	must(t, fs.RegisterTaskConn("seconds", func(ctx context.Context, c Conn) error {
		return typed.Serve(ctx, c, func(_ context.Context, _ string, v *wrapperspb.Int64Value) (*durationpb.Duration, error) {
			return &durationpb.Duration{Seconds: v.GetValue()}, nil
		})
	}))
	p := New(t.Name())
	must(t, p.SpawnTask("seconds", 1, Resources{}))
	must(t, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
		got, err := typed.Request(ctx, c, "seconds-0", wrapperspb.Int64(90))
		if err != nil || got.GetSeconds() != 90 {
			t.Errorf("got %v, %v", got, err)
		}
		return nil
	}))
	must(t, p.Run(t.Context(), InProcess(WithFunctions(&fs))))
	if _, err := Proto.Marshal(3); err == nil {
		t.Error("3 is no protobuf message")
	}
}
