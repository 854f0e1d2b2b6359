package peer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/peer"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// list is a service's list of tasks, which may change or be broken.
type list struct {
	n      atomic.Int64
	broken atomic.Bool
	asked  atomic.Int64
}

func (l *list) generate(context.Context) ([]rota.Task, error) {
	l.asked.Add(1)
	if l.broken.Load() {
		return nil, errors.New("the database is away")
	}
	out := make([]rota.Task, l.n.Load())
	for i := range out {
		out[i] = rota.Task{ID: fmt.Sprintf("t%03d", i), Payload: []byte("work")}
	}
	return out, nil
}

// runs counts who runs what, and that nobody else does.
type runs struct {
	t  *testing.T
	mu sync.Mutex
	by map[string]string
}

func (r *runs) on(name string) worker.TaskFunc {
	return func(ctx context.Context, a worker.Assigned) error {
		r.mu.Lock()
		if who, ok := r.by[a.ID()]; ok {
			r.t.Errorf("%s runs on %s and on %s", a.ID(), who, name)
		}
		r.by[a.ID()] = name
		r.mu.Unlock()
		<-ctx.Done()
		r.mu.Lock()
		delete(r.by, a.ID())
		r.mu.Unlock()
		return nil
	}
}

func (r *runs) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.by)
}

func newNode(t *testing.T, s store.Store, name string, l *list, c peer.Config) *peer.Node {
	t.Helper()
	c.Store, c.Root, c.Name, c.Generator = s, "test", name, l.generate
	n, err := peer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil && !errors.Is(err, peer.ErrWorkerNumExceedMaximum) {
			t.Errorf("stop %s: %v", name, err)
		}
	})
	return n
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		var l list
		l.n.Store(30)
		r := &runs{t: t, by: map[string]string{}}
		nodes := make([]*peer.Node, 3)
		for i := range nodes {
			name := fmt.Sprintf("r%d", i)
			nodes[i] = newNode(t, st, name, &l, peer.Config{Gather: 3, MaxNumNodes: 3})
			if got := nodes[i].Status(); got != worker.StatusNew {
				t.Errorf("before Run: %s", got)
			}
			if err := nodes[i].HandleTask("", r.on(name)); err != nil {
				t.Fatal(err)
			}
			nodes[i].Start()
		}
		leaders := 0
		for _, n := range nodes {
			if !n.TryLeaveBarrier(time.Minute) || !n.IsAllRunning() || n.Status() != worker.StatusLeftBarrier {
				t.Fatalf("%s: not all tasks run; it is %s", n.Name(), n.Status())
			}
			if got := len(n.Tasks()); got != 10 {
				t.Errorf("%s runs %d, want 10", n.Name(), got)
			}
			synctest.Wait()
			wholeCluster(t, n, r)
			if n.Leads() {
				leaders++
			}
			rec := httptest.NewRecorder()
			n.ReadyHandler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz?scope=cluster", nil))
			if rec.Code != http.StatusOK {
				t.Errorf("readiness of %s: %d %s", n.Name(), rec.Code, rec.Body)
			}
		}
		if leaders != 1 {
			t.Errorf("%d leaders", leaders)
		}

		late := newNode(t, st, "late", &l, peer.Config{MaxNumNodes: 3, JoinWait: time.Second})
		if err := late.HandleTask("", r.on("late")); err != nil {
			t.Fatal(err)
		}
		if err := late.Run(t.Context()); !errors.Is(err, peer.ErrWorkerNumExceedMaximum) || !errors.Is(late.Err(), err) {
			t.Errorf("a fourth replica of three: %v, %v", err, late.Err())
		}

		// A list that cannot be had leaves everything as it is.
		l.n.Store(0)
		l.broken.Store(true)
		asked := l.asked.Load()
		if err := nodes[0].NotifySchedule(t.Context(), "a test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if l.asked.Load() == asked || r.total() != 30 {
			t.Errorf("after a broken list, asked for %d times: %d tasks run", l.asked.Load()-asked, r.total())
		}
		l.n.Store(40)
		l.broken.Store(false)
		if err := nodes[1].NotifySchedule(t.Context(), "the database is back"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if r.total() != 40 {
			t.Errorf("%d tasks run, want 40", r.total())
		}

		// The leader goes.
		for i, n := range nodes {
			if n.Leads() {
				if err := n.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n.Status() != worker.StatusDead || n.IsAllRunning() && len(n.Tasks()) > 0 {
					t.Errorf("after Stop: %s with %d tasks", n.Status(), len(n.Tasks()))
				}
				nodes = append(nodes[:i], nodes[i+1:]...)
				break
			}
		}
		time.Sleep(2 * time.Second)
		if len(nodes[0].Tasks()) != 20 || len(nodes[1].Tasks()) != 20 || r.total() != 40 {
			t.Errorf("after the leader left: %d and %d of %d", len(nodes[0].Tasks()), len(nodes[1].Tasks()), r.total())
		}
	})
}

// wholeCluster checks that a replica knows who runs what in all of them.
func wholeCluster(t *testing.T, n *peer.Node, r *runs) {
	t.Helper()
	c, err := n.Cluster()
	if err != nil || c.Leader == "" || len(c.Replicas) != 3 || !c.AllRunning || time.Since(c.AsOf) > time.Second || len(c.Instances) != r.total() {
		t.Errorf("%s knows of the cluster: %+v, %v", n.Name(), c, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range c.Instances {
		if p.Replica != r.by[p.Task] || p.State != ownership.Running || p.Generation == 0 {
			t.Errorf("%s knows of %s: %+v, and it runs on %s", n.Name(), p.Task, p, r.by[p.Task])
		}
	}
	if key := n.ElectionKey(); key != "rota/peers/test/leader" {
		t.Errorf("election key %q", key)
	}
}

func TestWatchTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		var l list
		l.n.Store(3)
		n := newNode(t, st, "", &l, peer.Config{})
		events, err := n.WatchTask()
		if err != nil {
			t.Fatal(err)
		}
		n.Start()
		var mu sync.Mutex
		given := map[string]bool{}
		taken := 0
		go func() {
			for e := range events {
				mu.Lock()
				if e.Given {
					given[e.ID()] = string(e.Task.Payload) == "work"
				} else {
					taken++
				}
				mu.Unlock()
			}
		}()
		if !n.TryLeaveBarrier(time.Minute) {
			t.Fatal("not all tasks run")
		}
		synctest.Wait() // until the receiver has heard of each
		if err := n.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(given) != 3 || !given["t000"] || taken != 3 {
			t.Errorf("given %v, taken %d", given, taken)
		}
	})
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	var l list
	good := peer.Config{Etcd: etcd.Config{Endpoints: []string{"127.0.0.1:1"}}, Root: "r", Generator: l.generate}
	for field, change := range map[string]func(*peer.Config){
		"endpoints":     func(c *peer.Config) { c.Etcd.Endpoints = nil },
		"root":          func(c *peer.Config) { c.Root = "" },
		"generator":     func(c *peer.Config) { c.Generator = nil },
		"max_num_nodes": func(c *peer.Config) { c.MaxNumNodes = -1 },
		"ttl":           func(c *peer.Config) { c.TTL = -1 },
		"gather":        func(c *peer.Config) { c.Gather = -1 },
		"join_wait":     func(c *peer.Config) { c.JoinWait = -1 },
		"hold":          func(c *peer.Config) { c.Hold = 2 },
		"hold_for":      func(c *peer.Config) { c.HoldFor = -1 },
		"name":          func(c *peer.Config) { c.Name = "two words" },
	} {
		c := good
		change(&c)
		_, err := peer.New(c)
		var wrong *rota.FieldError
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if n, err := peer.New(good); err != nil || n.Name() == "" {
		t.Errorf("a good configuration: %v", err)
	}
}

func TestStopBeforeStart(t *testing.T) {
	t.Parallel()
	var l list
	n, err := peer.New(peer.Config{Store: memory.New(), Root: "r", Generator: l.generate})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := n.Run(t.Context()); err == nil {
		t.Error("Run after Stop")
	}
	if err := n.NotifySchedule(t.Context(), ""); err == nil {
		t.Error("notified without running")
	}
	if c, err := n.Cluster(); err == nil {
		t.Errorf("knows of the cluster without running: %+v", c)
	}
}

// TestReplacement: where the cluster is full, the replacement of a replica that was
// killed says why it does not take part, and does when the lease of the other is over.
func TestReplacement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		var l list
		l.n.Store(4)
		broken := faulty.New(st, nil) // the way to the store of the one that is killed
		t.Cleanup(broken.Close)
		var nodes []*peer.Node
		for i, s := range []store.Store{st, broken} {
			n := newNode(t, s, fmt.Sprintf("r%d", i), &l, peer.Config{MaxNumNodes: 2})
			if err := n.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
				t.Fatal(err)
			}
			n.Start()
			nodes = append(nodes, n)
		}
		for _, n := range nodes {
			if !n.TryLeaveBarrier(time.Minute) || n.Err() != nil {
				t.Fatalf("%s: %v", n.Name(), n.Err())
			}
		}
		broken.Set(faulty.Down) // kill -9
		began := time.Now()
		next := newNode(t, st, "r2", &l, peer.Config{MaxNumNodes: 2})
		if err := next.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
			t.Fatal(err)
		}
		next.Start()
		time.Sleep(time.Second)
		if err := next.Err(); !errors.Is(err, peer.ErrWorkerNumExceedMaximum) || next.Status() != worker.StatusNew {
			t.Errorf("while the other's lease lasts: %s, %v", next.Status(), err)
		}
		for next.Status() != worker.StatusLeftBarrier && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(began); d > 6*time.Second || next.Err() != nil {
			t.Errorf("it joined after %v: %v", d, next.Err())
		}
		time.Sleep(time.Second)
		if n := len(next.Tasks()); n != 2 || !next.IsAllRunning() {
			t.Errorf("the replacement runs %d; all run: %v", n, next.IsAllRunning())
		}
		select {
		case <-next.Done():
			t.Error("it is done before it has ended")
		default:
		}
		broken.Set(faulty.Up)
	})
}

// TestOutlived: a replica whose tasks do not stop when its lease ends says so, and
// the service decides what becomes of the process.
func TestOutlived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		t.Cleanup(func() { under.Close() })
		st := faulty.New(under, nil)
		t.Cleanup(st.Close)
		var l list
		l.n.Store(1)
		var code atomic.Int64
		n, err := peer.New(peer.Config{Store: st, Root: "r", Generator: l.generate, Exit: func(c int) { code.Store(int64(c)) }})
		if err != nil {
			t.Fatal(err)
		}
		free := make(chan struct{})
		if err := n.HandleTask("", func(context.Context, worker.Assigned) error { <-free; return nil }); err != nil {
			t.Fatal(err)
		}
		n.Start()
		if !n.TryLeaveBarrier(time.Minute) {
			t.Fatal("not all tasks run")
		}
		st.Set(faulty.Down)
		<-n.Done()
		if err := n.Err(); !errors.Is(err, worker.ErrOutlived) || code.Load() != worker.ExitFenced || n.Status() != worker.StatusDead {
			t.Errorf("%s: %v, status %d", n.Status(), err, code.Load())
		}
		close(free)
	})
}

// TestShrunkList: what the generator says is taken, however little is left, unless the
// service asks for such lists to be held.
func TestShrunkList(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hold float64
		want int
	}{"as it is": {0, 0}, "held": {0.5, 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				t.Cleanup(func() { st.Close() })
				var l list
				l.n.Store(10)
				r := &runs{t: t, by: map[string]string{}}
				n := newNode(t, st, "r", &l, peer.Config{Hold: c.hold, HoldFor: time.Hour})
				if err := n.HandleTask("", r.on("r")); err != nil {
					t.Fatal(err)
				}
				n.Start()
				if !n.TryLeaveBarrier(time.Minute) {
					t.Fatal("not all tasks run")
				}
				l.n.Store(0)
				if err := n.NotifySchedule(t.Context(), "a test"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				if got := r.total(); got != c.want {
					t.Errorf("%d tasks run, want %d", got, c.want)
				}
				time.Sleep(2 * time.Hour)
				if got := r.total(); got != 0 {
					t.Errorf("after the time of holding %d tasks run", got)
				}
			})
		})
	}
}

// TestNoEtcd: a replica that does not find its etcd says so, goes on trying, and can
// be stopped.
func TestNoEtcd(t *testing.T) {
	t.Parallel()
	var l list
	n, err := peer.New(peer.Config{
		Etcd: etcd.Config{Endpoints: []string{"127.0.0.1:1"}, DialTimeout: 20 * time.Millisecond}, Root: "r", Generator: l.generate,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	for deadline := time.Now().Add(30 * time.Second); n.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not say that etcd is not there")
		}
	}
	if text := n.Err().Error(); !strings.Contains(text, "no answer from 127.0.0.1:1") || n.Status() != worker.StatusNew || n.IsAllRunning() {
		t.Errorf("%s: %s", n.Status(), text)
	}
	if err := n.Stop(t.Context()); err != nil || n.Err() != nil {
		t.Errorf("Stop: %v, then Err: %v", err, n.Err())
	}
}
