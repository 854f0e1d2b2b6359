package program

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/rota-project/rota/internal/program/link"
)

// spanOf is a context within a recorded span of this number.
func spanOf(ctx context.Context, n byte) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, n}, SpanID: trace.SpanID{2, n}, TraceFlags: trace.FlagsSampled,
	}))
}

// numberOf is the number of the span that a message was sent within; 0 for none.
func numberOf(m Msg) byte {
	sc := trace.SpanContextFromContext(m.Context(context.Background()))
	if sc.IsValid() && (!sc.IsRemote() || !sc.IsSampled() || sc.TraceID() != trace.TraceID{1, sc.SpanID()[1]}) {
		return 255
	}
	return sc.SpanID()[1]
}

// TestTraces: whoever receives a message finds the span that it was sent within, in both
// forms and directions, and none with one that was sent within none; and none at all unless
// the program says so.
func TestTraces(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		for name, opts := range map[string][]PlaceOption{"in process": nil, "linked": {WithLoopback()}} {
			t.Run(fmt.Sprintf("%s/%v", name, on), func(t *testing.T) {
				t.Parallel()
				want := func(n byte) byte {
					if on {
						return n
					}
					return 0
				}
				fs := &Functions{}
				must(t, fs.RegisterTaskConn("conn", func(ctx context.Context, c Conn) error {
					for n := byte(0); n < 3; n++ {
						m, err := c.Recv(ctx)
						if err != nil {
							return err
						}
						if got := numberOf(m); got != want(n) || string(m.Data) != fmt.Sprint(n) {
							return fmt.Errorf("message %q is within %d, want %d", m.Data, got, want(n))
						}
						if err := c.Send(m.Context(ctx), Msg{Data: m.Data}); err != nil {
							return err
						}
					}
					m, err := c.Recv(ctx)
					if err != nil {
						return err
					}
					if got := numberOf(m); !m.IsRequest() || got != want(9) {
						return fmt.Errorf("the request is within %d", got)
					}
					return c.Send(m.Context(ctx), m.Reply(nil))
				}))
				must(t, fs.RegisterTaskFunc("channel", func(in <-chan Msg, out chan<- Msg, _ []string, _ map[string]string) error {
					for m := range in {
						out <- Msg{Data: m.Data}.Within(m.Context(context.Background()))
						out <- Msg{Data: m.Data}
					}
					return nil
				}))
				p := New(t.Name()[len("TestTraces/"):len("TestTraces/")+2]+fmt.Sprint(on), Config{Traces: on})
				must(t, p.SpawnTask("conn", 1, Resources{}))
				must(t, p.SpawnTask("channel", 1, Resources{}))
				must(t, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
					ctx, cancel := context.WithTimeout(ctx, time.Minute)
					defer cancel()
					receive := func(n byte) error {
						m, err := c.Recv(ctx)
						if got := numberOf(m); err == nil && got != want(n) {
							err = fmt.Errorf("%s answers within %d, want %d", m.Task, got, want(n))
						}
						return err
					}
					for n := byte(0); n < 3; n++ {
						at := ctx
						if n > 0 {
							at = spanOf(ctx, n)
						}
						if err := errors.Join(c.Send(at, Msg{Task: "conn-0", Data: []byte(fmt.Sprint(n))}), receive(n)); err != nil {
							return err
						}
					}
					if _, err := c.Request(spanOf(ctx, 9), Msg{Task: "conn-0"}); err != nil {
						return err
					}
					return errors.Join(c.Broadcast(spanOf(ctx, 7), "channel", []byte("x")), receive(7), receive(0))
				}))
				must(t, p.Run(t.Context(), InProcess(append(opts, WithFunctions(fs))...)))
			})
		}
	}
}

// sink takes messages.
type sink struct {
	link.Outlet
	sent, pairs int
}

func (s *sink) Send(context.Context, uint64, []byte) error { s.sent++; return nil }

func (s *sink) SendPair(context.Context, uint64, []byte, uint64, []byte) error { s.pairs++; return nil }

// TestTracesCostNothing: where no trace is asked for, or there is no span, a message takes no
// memory for one, and no byte on the way.
func TestTracesCostNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	to := &sink{}
	m := &Msg{Data: []byte("x")}
	for _, on := range []bool{false, true} {
		if n := testing.AllocsPerRun(1000, func() { _ = put(ctx, to, m, on) }); n != 0 {
			t.Errorf("traces %v: %v allocations a message", on, n)
		}
	}
	_ = put(spanOf(ctx, 1), to, m, false)
	if to.pairs != 0 {
		t.Error("a trace context was sent that nobody asked for")
	}
	if _ = put(spanOf(ctx, 1), to, m, true); to.pairs != 1 {
		t.Error("none was sent")
	}
}

// TestRate: a rate is of whole spans of time, in two digits.
func TestRate(t *testing.T) {
	t.Parallel()
	var r rate
	at := time.Unix(1000, 0)
	for _, c := range []struct {
		after time.Duration
		all   uint64
		want  float64
	}{
		{0, 1000, 0},
		{time.Second, 2000, 0},
		{rateEvery, 1000 + 5*1234, 1200},
		{rateEvery + time.Second, 1000 + 5*1234 + 500, 1200},
		{2 * rateEvery, 1000 + 5*1234, 0},
		{3 * rateEvery, 1000 + 5*1234 + 1, 0.2},
		{4 * rateEvery, 1000 + 5*1234 + 1 + 5*98765432, 99e6},
	} {
		if got := r.of(c.all, at.Add(c.after)); got != c.want {
			t.Errorf("after %v: %v, want %v", c.after, got, c.want)
		}
	}
}
