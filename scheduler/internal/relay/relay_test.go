package relay_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/scheduler/internal/relay"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pieces is what receives them one after another, then waits for ctx.
func pieces(ctx context.Context, list ...*rotav1.OutputPiece) func() (*rotav1.OutputPiece, error) {
	return func() (*rotav1.OutputPiece, error) {
		if len(list) == 0 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		p := list[0]
		if list = list[1:]; p == nil {
			return nil, io.EOF
		}
		return p, nil
	}
}

func as(ctx context.Context, worker string) context.Context {
	return auth.With(ctx, auth.Identity{Kind: auth.ByCert, Name: worker, Worker: worker})
}

// TestWhoMayPush: output is taken only from the worker that was asked, by the id that it
// was asked with.
func TestWhoMayPush(t *testing.T) {
	t.Parallel()
	d := relay.NewDesk()
	r := d.Open("w")
	defer d.Close(r)
	for name, c := range map[string]struct {
		worker, id string
		code       codes.Code
	}{"another worker": {"v", r.ID, codes.PermissionDenied}, "another id": {"w", "x", codes.NotFound}, "no id": {"w", "", codes.NotFound}} {
		err := d.Push(as(t.Context(), c.worker), pieces(t.Context(), &rotav1.OutputPiece{Read: c.id, Data: []byte("x")}))
		if status.Code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r2 := d.Open("w"); r2.ID == r.ID || len(r.ID) < 20 {
		t.Errorf("ids %s, %s", r.ID, r2.ID)
	}
}

// TestEnds: each way in which a read ends, for who reads and for the worker.
func TestEnds(t *testing.T) {
	t.Parallel()
	stop := errors.New("enough")
	for name, c := range map[string]struct {
		say  []*rotav1.OutputPiece // nil: the end in order
		f    error                 // of who reads, at the first piece
		gone bool                  // the worker's stream ends
		want func(error) bool
		push func(error) bool
	}{
		"in order":  {say: []*rotav1.OutputPiece{{Data: []byte("x")}, nil}, want: func(err error) bool { return err == nil }, push: func(err error) bool { return err == nil }},
		"not there": {say: []*rotav1.OutputPiece{{Error: job.ReadNotFound, ErrorText: "x"}}, want: is(codes.NotFound), push: is(codes.OK)},
		"not kept":  {say: []*rotav1.OutputPiece{{Error: job.ReadNone, ErrorText: "x"}}, want: is(codes.FailedPrecondition), push: is(codes.OK)},
		"busy":      {say: []*rotav1.OutputPiece{{Error: job.ReadBusy, ErrorText: "x"}}, want: is(codes.ResourceExhausted), push: is(codes.OK)},
		"offset":    {say: []*rotav1.OutputPiece{{Error: job.ReadOffset, ErrorText: "x"}}, want: func(err error) bool { return convert.Field(err) == "offset" }, push: is(codes.OK)},
		"unknown":   {say: []*rotav1.OutputPiece{{Error: "later", ErrorText: "x"}}, want: is(codes.Internal), push: is(codes.OK)},
		"the reader goes, and nothing more comes": {say: []*rotav1.OutputPiece{{Data: []byte("x")}}, f: stop, want: func(err error) bool { return errors.Is(err, stop) }, push: is(codes.NotFound)},
		"the worker goes":                         {say: []*rotav1.OutputPiece{{Data: []byte("x")}}, gone: true, want: is(codes.Unavailable), push: is(codes.NotFound)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := relay.NewDesk()
				r := d.Open("w")
				ctx, cancel := context.WithCancel(as(t.Context(), "w"))
				defer cancel()
				if c.say[0] != nil {
					c.say[0].Read = r.ID
				}
				pushed := make(chan error, 1)
				go func() { pushed <- d.Push(ctx, pieces(ctx, c.say...)) }()
				gone := make(chan struct{})
				err := r.Each(ctx, gone, func(*rotav1.OutputPiece) error {
					if c.gone {
						close(gone)
					}
					return c.f
				})
				d.Close(r)
				if !c.want(err) {
					t.Errorf("the reader is told %v", err)
				}
				if err := <-pushed; !c.push(err) {
					t.Errorf("the worker is told %v", err)
				}
			})
		})
	}
}

func is(code codes.Code) func(error) bool {
	return func(err error) bool { return status.Code(err) == code }
}

// TestOnward: a call is passed on with the caller's own credentials, and once.
func TestOnward(t *testing.T) {
	t.Parallel()
	in := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer x", auth.NamespaceKey, "n", "other", "y"))
	if relay.Forwarded(in) {
		t.Error("passed on before it was")
	}
	md, _ := metadata.FromOutgoingContext(relay.Onward(in))
	if md.Get("authorization")[0] != "Bearer x" || md.Get(auth.NamespaceKey)[0] != "n" || md.Get("other") != nil {
		t.Errorf("%v", md)
	}
	if !relay.Forwarded(metadata.NewIncomingContext(t.Context(), md)) {
		t.Error("it would be passed on once more")
	}
}

// TestPeers: one connection to each, and none after the end.
func TestPeers(t *testing.T) {
	t.Parallel()
	dials := 0
	p := relay.NewPeers(func(address string) (*grpc.ClientConn, error) {
		dials++
		if address == "bad" {
			return nil, errors.New("no such address")
		}
		return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	})
	one, err := p.To("a")
	again, err2 := p.To("a")
	if err != nil || err2 != nil || one != again || dials != 1 {
		t.Errorf("%v, %v, %d dials", err, err2, dials)
	}
	if _, err := p.To("bad"); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	p.Close()
	for _, p := range []*relay.Peers{p, relay.NewPeers(nil)} {
		if _, err := p.To("a"); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
	}
}
