package scheduler_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// graced is a cluster with a worker that dies and comes back under its name.
type graced struct {
	t     *testing.T
	store *memory.Store
	o     *owners
	grace time.Duration
	list  []rota.Task
	via   atomic.Pointer[scheduler.Scheduler] // whom workers ask; nil is nobody
	// decide are the faults of schedulers that start from now on.
	decide faulty.Decide
}

func (g *graced) scheduler(name string) (*scheduler.Scheduler, *faulty.Store) {
	st := faulty.New(g.store, g.decide)
	g.t.Cleanup(st.Close)
	return newScheduler(g.t, name, st, scheduler.Config{
		Sources: []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return g.list, nil })},
	}), st
}

// worker starts a worker, and returns what ends its connections for good.
func (g *graced) worker(name string) (w *worker.Worker, die context.CancelFunc) {
	alive, die := context.WithCancel(context.Background())
	g.t.Cleanup(die)
	w = newWorker(g.t, name, g.o, worker.Config{
		RestartGrace: g.grace, NameWait: time.Hour,
		Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			sc := g.via.Load()
			if alive.Err() != nil || sc == nil {
				return nil, context.Canceled
			}
			ctx, cut := context.WithCancel(ctx)
			context.AfterFunc(alive, cut)
			return sc.Sessions().Dial(ctx), nil
		},
	})
	return w, die
}

// where is who runs each task.
func (o *owners) where() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := map[string]string{}
	for i, by := range o.by {
		for w := range by {
			at[i.Task] = w
		}
	}
	return at
}

// TestGraceOutlivesTheLeader: a worker that comes back within its grace finds
// its tasks, whoever led when it died and whoever leads now; one that does not
// loses them.
func TestGraceOutlivesTheLeader(t *testing.T) {
	t.Parallel()
	const lease = 5 * time.Second
	for name, c := range map[string]struct {
		ledBefore bool // the first leader sees the death
		gap       time.Duration
		returns   bool
	}{
		"seen":                    {ledBefore: true, gap: time.Second, returns: true},
		"died while nobody led":   {gap: 2 * lease, returns: true},
		"comes too late":          {ledBefore: true, gap: time.Second},
		"nobody led, comes never": {gap: 2 * lease},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				t.Cleanup(func() { st.Close() })
				g := &graced{t: t, store: st, o: newOwners(t), grace: time.Minute, list: tasks(40)}
				s1, cut := g.scheduler("s1")
				g.via.Store(s1)
				w1, _ := g.worker("w1")
				_, die := g.worker("w2")
				if !w1.TryLeaveBarrier(time.Minute) {
					t.Fatal("not all tasks run")
				}
				synctest.Wait() // they have all been called
				before := g.o.where()
				die()
				if c.ledBefore {
					time.Sleep(lease + time.Second)
				}
				cut.Set(faulty.Down)
				g.via.Store(nil)
				if err := s1.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.gap)
				s2, _ := g.scheduler("s2")
				g.via.Store(s2)
				time.Sleep(4 * lease) // less than the grace
				if n := g.o.count(); n["w1"] != 20 || n["w2"] != 0 {
					t.Fatalf("while w2 is away: %v", n)
				}
				api := s2.Service("")
				defer api.Close()
				if plan, err := api.GetPlan(t.Context(), &rotav1.GetPlanRequest{}); err != nil || len(plan.GetMoves()) != 0 {
					t.Errorf("the plan while w2 is awaited: %v %v", plan.GetMoves(), err)
				}
				for task, at := range before {
					why, err := api.Why(t.Context(), &rotav1.WhyRequest{Id: task})
					if says := strings.Contains(why.String(), "w2 is away; it is awaited for"); err != nil || says != (at == "w2") ||
						says && strings.Contains(why.String(), "w2 is cordoned") {
						t.Errorf("why %s, which was on %s: %v %v", task, at, why, err)
					}
				}
				if _, err := api.ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "new"}}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if at := g.o.where()["new"]; at != "w1" {
					t.Errorf("a new task is on %q: it need not wait for a worker that is away", at)
				}
				before["new"] = "w1"
				if !c.returns {
					time.Sleep(g.grace)
					if n := g.o.count(); n["w1"] != 41 {
						t.Errorf("after the grace: %v", n)
					}
					return
				}
				g.worker("w2")
				time.Sleep(lease)
				if after := g.o.where(); !maps.Equal(after, before) {
					t.Errorf("moved: before %v, after %v", before, after)
				}
			})
		})
	}
}

// TestMoveOutlivesTheLeader: a move that has begun ends where it was to, whoever leads
// then; what the worker was told is not taken back.
func TestMoveOutlivesTheLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		g := &graced{t: t, store: st, o: newOwners(t), grace: time.Minute, list: tasks(1)}
		s1, _ := g.scheduler("s1")
		g.via.Store(s1)
		slow, err := worker.New(worker.Config{Name: "w1", Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			return g.via.Load().Sessions().Dial(ctx), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := slow.HandleTask("", func(ctx context.Context, _ worker.Assigned) error {
			<-ctx.Done()
			time.Sleep(20 * time.Second)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slow.Start()
		t.Cleanup(func() { _ = slow.Stop(context.Background()) })
		if !slow.TryLeaveBarrier(time.Minute) {
			t.Fatal("the task does not run")
		}
		g.worker("w2")
		time.Sleep(5 * time.Second)
		api := s1.Service("")
		defer api.Close()
		if _, err := api.DrainWorker(auth.Inside(t.Context()), &rotav1.WorkerRequest{Name: "w1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // it stops, and w2 is to have it
		g.worker("w0")          // as good a place
		time.Sleep(time.Second)
		s2, _ := g.scheduler("s2")
		g.via.Store(s2)
		if err := s1.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if at := g.o.where(); len(at) != 1 || !slices.Contains(slices.Collect(maps.Values(at)), "w2") {
			t.Errorf("it runs on %v, and was to move to w2", at)
		}
	})
}

// TestGraceCoversAnOrderlyRestart: a worker that is stopped in order and comes back
// within its grace finds its tasks, as one that died does; one that is drained gives
// them up.
func TestGraceCoversAnOrderlyRestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		drained, newLeader, returns, slow bool
	}{
		"returns":                   {returns: true},
		"returns to another leader": {returns: true, newLeader: true},
		// The leader hears of its own writes, which acknowledgements are, before others.
		"returns, slow watch":        {returns: true, newLeader: true, slow: true},
		"stays away":                 {},
		"stays away, another leader": {newLeader: true},
		"drained":                    {drained: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				t.Cleanup(func() { st.Close() })
				g := &graced{t: t, store: st, o: newOwners(t), grace: 20 * time.Second, list: tasks(40)}
				if c.slow {
					g.decide = func(c faulty.Call) (f faulty.Fault) {
						if c.Kind == faulty.Batch {
							f.Delay = 20 * time.Millisecond
						}
						return f
					}
				}
				if !c.returns { // such a one may begin again under its old grant
					g.list[7].Mode, g.list[8].Mode = rota.Available, rota.Available
				}
				s1, _ := g.scheduler("s1")
				g.via.Store(s1)
				w1, _ := g.worker("w1")
				w2, _ := g.worker("w2")
				if !w1.TryLeaveBarrier(time.Minute) {
					t.Fatal("not all tasks run")
				}
				synctest.Wait()
				before, moves := g.o.where(), g.o.starts()
				api := s1.Service("")
				defer api.Close()
				if c.drained {
					if _, err := api.DrainWorker(t.Context(), &rotav1.WorkerRequest{Name: "w2"}); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				if err := w2.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it took %v to leave", took)
				}
				time.Sleep(500 * time.Millisecond)
				if n := g.o.count(); c.drained != (n["w1"] == 40) || !c.drained && n["w1"] != 20 {
					t.Errorf("while w2 is away: %v", n)
				}
				if w, err := api.GetWorker(t.Context(), &rotav1.GetWorkerRequest{Name: "w2"}); !c.drained && (err != nil || w.GetState() != "away") {
					t.Errorf("w2 is shown as %v, %v", w.GetState(), err)
				}
				if c.newLeader {
					g.via.Store(nil)
					if err := s1.Stop(t.Context()); err != nil {
						t.Fatal(err)
					}
					s2, _ := g.scheduler("s2")
					g.via.Store(s2)
				}
				if !c.returns {
					time.Sleep(g.grace + 5*time.Second)
					if n := g.o.count(); n["w1"] != 40 {
						t.Errorf("after the grace: %v", n)
					}
					return
				}
				time.Sleep(time.Second)
				g.worker("w2")
				time.Sleep(5 * time.Second)
				if after := g.o.where(); !maps.Equal(after, before) {
					t.Errorf("moved: before %v, after %v", before, after)
				}
				if n := g.o.starts() - moves; n != 20 {
					t.Errorf("%d starts for the 20 tasks of w2", n)
				}
			})
		})
	}
}

// TestManyLostAtOnce: what is remembered of workers is written once for each,
// however many are lost together, and forgotten when they return or leave.
func TestManyLostAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		t.Cleanup(func() { under.Close() })
		g := &graced{t: t, store: under, o: newOwners(t), grace: time.Minute, list: tasks(100)}
		var writes atomic.Int64
		sc, _ := g.scheduler("s1")
		g.via.Store(sc)
		const n = 40
		remembered := func() (nodes, lost int) {
			sc.View().Read(func() {
				for _, node := range sc.View().Nodes {
					nodes++
					if node.GetLostUnixMs() != 0 {
						lost++
					}
				}
			})
			return nodes, lost
		}
		var ws []*worker.Worker
		var die []context.CancelFunc
		for k := range n {
			w, d := g.worker(fmt.Sprintf("w%03d", k))
			ws, die = append(ws, w), append(die, d)
		}
		time.Sleep(10 * time.Second)
		if nodes, lost := remembered(); nodes != n || lost != 0 {
			t.Fatalf("of %d workers that live %d are remembered, %d as lost", n, nodes, lost)
		}
		for _, d := range die {
			d()
		}
		if err := sc.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the next leader learns of all of them at once
		g.decide = func(c faulty.Call) faulty.Fault {
			if c.Kind == faulty.Txn && strings.HasPrefix(c.Key, store.NodesPrefix) {
				writes.Add(1)
			}
			return faulty.Fault{}
		}
		sc, _ = g.scheduler("s2")
		g.via.Store(sc)
		time.Sleep(10 * time.Second)
		if nodes, lost := remembered(); nodes != n || lost != n {
			t.Fatalf("of %d lost workers %d are remembered, %d as lost", n, nodes, lost)
		}
		if w := writes.Load(); w == 0 || w > 5 {
			t.Errorf("%d writes for %d lost workers", w, n)
		}
		for k := range n { // they return under their names
			w, _ := g.worker(fmt.Sprintf("w%03d", k))
			ws = append(ws, w)
		}
		time.Sleep(10 * time.Second)
		if nodes, lost := remembered(); nodes != n || lost != 0 {
			t.Fatalf("of %d workers that returned %d are remembered, %d as lost", n, nodes, lost)
		}
		for _, w := range ws {
			if err := w.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if nodes, lost := remembered(); nodes != n || lost != n {
			t.Errorf("of %d workers that left and may return %d are remembered, %d as away", n, nodes, lost)
		}
		time.Sleep(g.grace)
		if nodes, _ := remembered(); nodes != 0 {
			t.Errorf("%d workers that left for good are remembered", nodes)
		}
	})
}

// starts counts the calls of task functions so far.
func (o *owners) starts() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ran
}

// TestAllGoneAndBack: what nobody else could take while all workers were away is
// where it was when they return, in the plan too: nothing is started only to be
// moved.
func TestAllGoneAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		g := &graced{t: t, store: st, o: newOwners(t), list: tasks(40)}
		sc, _ := g.scheduler("s1")
		g.via.Store(sc)
		w1, die1 := g.worker("w1")
		time.Sleep(time.Second)
		w2, die2 := g.worker("w2") // takes half of what w1 had: not what a fresh plan would say
		time.Sleep(time.Second)
		if !w1.TryLeaveBarrier(time.Minute) {
			t.Fatal("not all tasks run")
		}
		synctest.Wait() // they have all been called
		before := g.o.where()
		die1()
		die2()
		for _, w := range []*worker.Worker{w1, w2} { // both in one instant
			if _, err := sc.Sessions().ReportExit(auth.Inside(t.Context()), &rotav1.ReportExitRequest{Name: w.Name(), Incarnation: w.Incarnation()}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Second)
		if n := g.o.count(); len(n) != 0 {
			t.Fatalf("with nobody there: %v", n)
		}
		starts := g.o.starts()
		g.worker("w2")
		g.worker("w1")
		time.Sleep(5 * time.Second)
		if after := g.o.where(); !maps.Equal(after, before) {
			t.Errorf("moved: before %v, after %v", before, after)
		}
		if n := g.o.starts() - starts; n != 40 {
			t.Errorf("%d starts for 40 tasks", n)
		}
	})
}
