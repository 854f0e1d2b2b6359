package peer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
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

		late := newNode(t, st, "late", &l, peer.Config{MaxNumNodes: 3})
		if err := late.HandleTask("", r.on("late")); err != nil {
			t.Fatal(err)
		}
		if err := late.Run(t.Context()); !errors.Is(err, peer.ErrWorkerNumExceedMaximum) {
			t.Errorf("a fourth replica of three: %v", err)
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
				e.Done()
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
}
