package kindtest

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// node is a scheduler with probes.
type node struct {
	*server.Server
	addr string
	conn *grpc.ClientConn
}

func newStore(t *testing.T) store.Store {
	t.Helper()
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	return st
}

func newNode(t *testing.T, name string, cfg server.Config) *node {
	t.Helper()
	for _, l := range []*net.Listener{&cfg.GRPC, &cfg.HTTP} {
		var err error
		if *l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Scheduler.Name, cfg.Kinds = name, []kind.Kind{probes()}
	cfg.Scheduler.Lease = cmp.Or(cfg.Scheduler.Lease, 10*time.Second) // a busy machine may keep a worker from renewing for a while
	cfg.Scheduler.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	n := &node{addr: cfg.GRPC.Addr().String()}
	var err error
	if n.Server, err = server.Start(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.stop)
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.conn, err = grpc.NewClient(n.addr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.conn.Close() })
	return n
}

// stop ends the scheduler. It may be called twice.
func (n *node) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = n.Stop(ctx)
}

func (n *node) ask(ctx context.Context, what string, p probe) (probe, error) {
	answer := &message{}
	if err := n.conn.Invoke(ctx, method(what), packed(p), answer); err != nil {
		return probe{}, err
	}
	return p, unpacked(answer, &p)
}

func (n *node) must(t *testing.T, what string, p probe) probe {
	t.Helper()
	p, err := n.ask(t.Context(), what, p)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return p
}

// until waits for a probe to be as f says.
func (n *node) until(t *testing.T, name string, f func(probe) bool) probe {
	t.Helper()
	for {
		p := n.must(t, "Get", probe{Name: name})
		if f(p) {
			return p
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("waited in vain; last %+v", p)
		}
	}
}

// seen waits for a probe to have told what it found.
func (n *node) seen(t *testing.T, name string) probe {
	t.Helper()
	return n.until(t, name, func(p probe) bool { return p.Found == "seen from "+p.Worker && p.Worker != "" })
}

type amounts = map[string]float64

// TestProbe: one is placed on a worker with room for it, runs there, and tells what it
// found. What has no room beside what another kind of work takes waits, and says why.
func TestProbe(t *testing.T) {
	t.Parallel()
	n, w := newNode(t, "s", server.Config{Scheduler: scheduler.Config{Store: newStore(t)}}), newWitness(t)
	n.must(t, "Set", probe{Name: "first", Resources: amounts{"cpus": 2}})
	if p := n.must(t, "Get", probe{Name: "first"}); p.Why != "no worker takes probes" {
		t.Errorf("without workers: %+v", p)
	}
	newHost(t, "w1", w, amounts{"cpus": 3}, n.addr)
	if p := n.seen(t, "first"); p.Worker != "w1" || !slices.Equal(w.of("first"), []string{"w1"}) {
		t.Errorf("%+v on %q", p, w.of("first"))
	}
	if _, err := n.ask(t.Context(), "Set", probe{Name: "first"}); status.Code(err) != codes.AlreadyExists {
		t.Errorf("again: %v", err)
	}
	waits := func(name string) {
		t.Helper()
		n.must(t, "Set", probe{Name: name, Resources: amounts{"cpus": 2}})
		if p := n.until(t, name, func(p probe) bool { return strings.Contains(p.Why, "cpus") }); p.Worker != "" {
			t.Errorf("without room: %+v", p)
		}
	}
	waits("second") // beside the first
	n.must(t, "Delete", probe{Name: "second"})
	tasks := rotav1.NewTasksClient(n.conn)
	if _, err := tasks.ApplyTasks(t.Context(), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "t", Resources: amounts{"cpus": 1.5}}}}); err != nil {
		t.Fatal(err)
	}
	holder := func() string {
		why, err := tasks.Why(t.Context(), &rotav1.WhyRequest{Id: "t"})
		if err != nil {
			t.Fatal(err)
		}
		i := why.GetInstances()[0]
		return cmp.Or(i.GetInstance().GetWorker(), strings.Join(i.GetReasons(), " "))
	}
	for !strings.Contains(holder(), "cpus") { // beside the probe there is no room for the task
		time.Sleep(10 * time.Millisecond)
	}
	n.must(t, "Delete", probe{Name: "first"})
	for holder() != "w1" || len(w.of("first")) > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	waits("third") // beside the task
	if _, err := tasks.DeleteTasks(t.Context(), &rotav1.DeleteTasksRequest{Ids: []string{"t"}}); err != nil {
		t.Fatal(err)
	}
	n.seen(t, "third")
}

// TestWorkerGone: a probe goes elsewhere when its worker leaves, and when that has died,
// and is never on two.
func TestWorkerGone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*worked){"leaves": func(h *worked) { h.stop() }, "dies": func(h *worked) { h.kill() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, w := newNode(t, "s", server.Config{Scheduler: scheduler.Config{Store: newStore(t), Lease: 2 * time.Second}}), newWitness(t)
			hosts := map[string]*worked{}
			for _, name := range []string{"w1", "w2"} {
				hosts[name] = newHost(t, name, w, nil, n.addr)
			}
			n.must(t, "Set", probe{Name: "p"})
			was := n.seen(t, "p")
			end(hosts[was.Worker])
			is := n.until(t, "p", func(p probe) bool {
				if on := w.of("p"); len(on) > 1 {
					t.Fatalf("it is on %q", on)
				}
				return p.Found != "" && p.Worker != was.Worker
			})
			if is.Generation <= was.Generation || !slices.Equal(w.of("p"), []string{is.Worker}) {
				t.Errorf("after %+v %+v, on %q", was, is, w.of("p"))
			}
		})
	}
}

// TestLeaderGone: another scheduler places what comes next; what runs goes on as it is.
func TestLeaderGone(t *testing.T) {
	t.Parallel()
	st, w := newStore(t), newWitness(t)
	one := newNode(t, "s1", server.Config{Scheduler: scheduler.Config{Store: st}})
	n := newNode(t, "s2", server.Config{Scheduler: scheduler.Config{Store: st}})
	newHost(t, "w1", w, amounts{"cpus": 3}, one.addr, n.addr)
	n.must(t, "Set", probe{Name: "p", Resources: amounts{"cpus": 2}})
	was := n.seen(t, "p")
	one.stop()
	n.must(t, "Set", probe{Name: "big", Resources: amounts{"cpus": 2}})
	n.must(t, "Set", probe{Name: "small", Resources: amounts{"cpus": 1}})
	n.seen(t, "small")
	if p := n.must(t, "Get", probe{Name: "big"}); p.Worker != "" || !strings.Contains(p.Why, "cpus") {
		t.Errorf("the next leader has not counted what runs: %+v", p)
	}
	if is := n.must(t, "Get", probe{Name: "p"}); is.Generation != was.Generation || is.Session != was.Session || w.starts("p") != 1 {
		t.Errorf("%+v is %+v, started %d times", was, is, w.starts("p"))
	}
}

// TestWhoMay: the kind's own table says who may ask what; what it does not name nobody may.
func TestWhoMay(t *testing.T) {
	t.Parallel()
	tokens := &auth.Tokens{}
	n := newNode(t, "s", server.Config{
		Scheduler: scheduler.Config{Store: newStore(t)}, Authenticator: &auth.Authenticator{Tokens: tokens},
	})
	as := func(tok auth.Token) context.Context {
		tok, secret, err := auth.NewToken(tok, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		tokens.Update([]auth.Token{tok}, nil)
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret.Reveal())
	}
	viewer, admin := as(auth.Token{Name: "v", Role: auth.Viewer}), as(auth.Token{Name: "a", Role: auth.Admin})
	feeds := as(auth.Token{Name: "f", Role: auth.Operator, Kinds: []string{"feed-*"}})
	for _, c := range []struct {
		name   string
		ctx    context.Context
		method string
		want   codes.Code
	}{
		{"a stranger looks", t.Context(), "Get", codes.Unauthenticated},
		{"a viewer looks", viewer, "Get", codes.NotFound},
		{"a viewer declares", viewer, "Set", codes.PermissionDenied},
		{"an operator of other kinds", feeds, "Set", codes.PermissionDenied},
		{"an admin declares", admin, "Set", codes.OK},
		{"an admin asks what is in no table", admin, "Unlisted", codes.PermissionDenied},
	} {
		if _, err := n.ask(c.ctx, c.method, probe{Name: "x"}); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// Only a worker's certificate takes probes.
	s, err := n.conn.NewStream(admin, &connectDesc, "/"+workService+"/Connect")
	if err == nil {
		_ = s.SendMsg(packed(report{Name: "w1", Incarnation: "i"}))
		err = s.RecvMsg(&message{})
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("an admin who says to be a worker: %v", err)
	}
}

// TestNoOthersMethods: a kind cannot change who may call what is not its own.
func TestNoOthersMethods(t *testing.T) {
	t.Parallel()
	thief := probes()
	thief.Policy[rotav1.Tasks_ApplyTasks_FullMethodName] = auth.Rule{Public: true}
	cfg := server.Config{Scheduler: scheduler.Config{Store: newStore(t), Name: "s"}, Kinds: []kind.Kind{thief}}
	for _, l := range []*net.Listener{&cfg.GRPC, &cfg.HTTP} {
		var err error
		if *l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = (*l).Close() }()
	}
	if s, err := server.Start(cfg); err == nil {
		_ = s.Stop(t.Context())
		t.Error("it could")
	}
}
