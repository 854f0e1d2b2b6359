package jobs_test

import (
	"context"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/scheduler/internal/jobs"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// greeting is a worker's job stream on which it says hello, and no more.
type greeting struct {
	grpc.ServerStream
	ctx   context.Context
	hello chan *rotav1.FromJobWorker
}

func (g *greeting) Context() context.Context       { return g.ctx }
func (g *greeting) Send(*rotav1.ToJobWorker) error { return nil }
func (g *greeting) Recv() (*rotav1.FromJobWorker, error) {
	select {
	case m := <-g.hello:
		return m, nil
	case <-g.ctx.Done():
		return nil, io.EOF
	}
}

// openSession opens a session of worker w, incarnation i, and returns how to end it.
func openSession(ctx context.Context, t *testing.T, under *memory.Store) (session int64, end func()) {
	t.Helper()
	lease, _, err := under.Grant(ctx, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	value, err := record.Encode(&storepb.Session{Version: record.Version, Name: "w", Incarnation: "i", Lease: int64(lease), Scheduler: "s1"})
	if err != nil {
		t.Fatal(err)
	}
	_, session, err = under.Txn(ctx, nil, []store.Op{{Key: store.SessionKey("w"), Value: value, Lease: lease}})
	if err != nil {
		t.Fatal(err)
	}
	return session, func() { _ = under.Revoke(ctx, lease) }
}

// TestHelloOfAnEarlierSession: a hello that was on its way, or waited at a scheduler, until its
// worker had another session does not announce the worker. It may have begun jobs since that
// were given up for lost with the earlier session, and their room would be given away.
func TestHelloOfAnEarlierSession(t *testing.T) {
	t.Parallel()
	alone(t, nil, func(t *testing.T, c *jobs.Control, _ *faulty.Store, under *memory.Store) {
		ctx := auth.Inside(t.Context())
		open := func() (session int64, end func()) { return openSession(ctx, t, under) }
		// greet says hello, and reports whether the worker is announced, and how the stream ends.
		greet := func(session int64, meanwhile func()) (announced bool, err error) {
			on, cancel := context.WithCancel(ctx)
			defer cancel()
			g := &greeting{ctx: on, hello: make(chan *rotav1.FromJobWorker, 1)}
			g.hello <- &rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Hello{Hello: &rotav1.JobHello{Name: "w", Incarnation: "i", Session: session, Any: true, Slots: 1}}}
			ended := make(chan error, 1)
			go func() { ended <- c.Connect(g) }()
			time.Sleep(time.Second)
			meanwhile()
			time.Sleep(time.Second)
			_, announced, _, getErr := under.Get(ctx, store.JobWorkerKey("w"))
			if getErr != nil {
				t.Fatal(getErr)
			}
			cancel()
			return announced, <-ended
		}
		first, end := open()
		end()
		var second int64
		if announced, err := greet(first, func() { second, end = open() }); announced || status.Code(err) != codes.Unavailable {
			t.Errorf("a hello that waited for the next session: announced %v, %v", announced, err)
		}
		if announced, err := greet(first, func() {}); announced || status.Code(err) != codes.Unavailable {
			t.Errorf("a hello that comes after that: announced %v, %v", announced, err)
		}
		if announced, err := greet(second, func() {}); !announced {
			t.Errorf("a hello of this session: %v", err)
		}
		end()
		time.Sleep(time.Second)
		if announced, err := greet(0, func() { open() }); !announced {
			t.Errorf("a hello of a worker that had no session yet: %v", err)
		}
	})
}

// TestAnnouncementDeleted: a worker whose announcement somebody deletes is announced anew,
// as its stream ends and it comes again. Else it would take no jobs as long as it lives.
func TestAnnouncementDeleted(t *testing.T) {
	t.Parallel()
	alone(t, nil, func(t *testing.T, c *jobs.Control, _ *faulty.Store, under *memory.Store) {
		ctx := auth.Inside(t.Context())
		session, _ := openSession(ctx, t, under)
		g := &greeting{ctx: ctx, hello: make(chan *rotav1.FromJobWorker, 1)}
		g.hello <- &rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Hello{Hello: &rotav1.JobHello{Name: "w", Incarnation: "i", Session: session, Any: true, Slots: 1}}}
		ended := make(chan error, 1)
		go func() { ended <- c.Connect(g) }()
		time.Sleep(time.Second)
		select {
		case err := <-ended:
			t.Fatal("the stream ended by itself:", err)
		default:
		}
		if _, _, err := under.Txn(ctx, nil, []store.Op{{Key: store.JobWorkerKey("w"), Delete: true}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		select {
		case err := <-ended:
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%v; want the worker to come again", err)
			}
		default:
			t.Error("the stream goes on; the worker is announced no more")
		}
	})
}

// TestStreamEnds: a worker whose stream has ended is announced no more while its session
// lives on, as its process may be dead: what is placed there would wait for the rest of the
// lease, and be lost then. It is announced again when it comes again.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	alone(t, nil, func(t *testing.T, c *jobs.Control, _ *faulty.Store, under *memory.Store) {
		ctx := auth.Inside(t.Context())
		session, _ := openSession(ctx, t, under)
		announced := func() bool {
			time.Sleep(time.Second)
			_, found, _, err := under.Get(ctx, store.JobWorkerKey("w"))
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		connect := func() (end func()) {
			on, cancel := context.WithCancel(ctx)
			g := &greeting{ctx: on, hello: make(chan *rotav1.FromJobWorker, 1)}
			g.hello <- &rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Hello{Hello: &rotav1.JobHello{Name: "w", Incarnation: "i", Session: session, Any: true, Slots: 1}}}
			ended := make(chan error, 1)
			go func() { ended <- c.Connect(g) }()
			return func() { cancel(); <-ended }
		}
		for range 2 {
			end := connect()
			if !announced() {
				t.Fatal("a worker with a stream is not announced")
			}
			end()
			if announced() {
				t.Fatal("a worker without a stream is announced")
			}
		}
		first := connect()
		announced()
		second := connect()
		announced()
		first()
		if !announced() {
			t.Error("the end of a stream that another has replaced takes the worker away")
		}
		second()
	})
}
