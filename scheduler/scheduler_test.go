package scheduler_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// owners watches who runs what.
type owners struct {
	t  *testing.T
	mu sync.Mutex
	by map[rota.Instance]map[string]rota.Generation
	// last is the greatest generation that each instance ever ran under.
	last map[rota.Instance]rota.Generation
	ran  int // calls of task functions
}

func newOwners(t *testing.T) *owners {
	return &owners{t: t, by: map[rota.Instance]map[string]rota.Generation{}, last: map[rota.Instance]rota.Generation{}}
}

// run is a task function that checks that nobody else runs the same.
func (o *owners) run(name string) worker.TaskFunc {
	return func(ctx context.Context, a worker.Assigned) error {
		o.mu.Lock()
		i := a.Instance()
		if o.by[i] == nil {
			o.by[i] = map[string]rota.Generation{}
		}
		if a.Task.Mode == rota.Exclusive && len(o.by[i]) > 0 {
			o.t.Errorf("%v runs on %v and on %s", i, o.by[i], name)
		}
		if a.Generation() <= o.last[i] {
			o.t.Errorf("%v: generation %d after %d", i, a.Generation(), o.last[i])
		}
		o.last[i] = a.Generation()
		o.ran++
		o.by[i][name] = a.Generation()
		o.mu.Unlock()
		<-ctx.Done()
		o.mu.Lock()
		delete(o.by[i], name)
		o.mu.Unlock()
		return nil
	}
}

func (o *owners) count() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := map[string]int{}
	for _, by := range o.by {
		for w := range by {
			n[w]++
		}
	}
	return n
}

func tasks(n int) []rota.Task {
	out := make([]rota.Task, n)
	for i := range out {
		out[i] = rota.Task{ID: fmt.Sprintf("t%04d", i)}
	}
	return out
}

func newScheduler(t *testing.T, name string, s store.Store, c scheduler.Config) *scheduler.Scheduler {
	t.Helper()
	c.Name, c.Store = name, s
	sc, err := scheduler.New(c)
	if err != nil {
		t.Fatal(err)
	}
	sc.View().Attach(&view.Kind{TakerKey: store.JobWorkerKey, Taker: func() view.Taker { return &storepb.JobWorker{} }})
	sc.Start()
	t.Cleanup(func() {
		if err := sc.Stop(context.Background()); err != nil {
			t.Errorf("stop %s: %v", name, err)
		}
	})
	return sc
}

func newWorker(t *testing.T, name string, o *owners, c worker.Config, via ...*scheduler.Scheduler) *worker.Worker {
	t.Helper()
	c.Name = name
	next := 0
	if c.Connect == nil {
		c.Connect = func(ctx context.Context, _ []string) (worker.Stream, error) {
			next++
			return via[next%len(via)].Sessions().Dial(ctx), nil
		}
	}
	w, err := worker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("", o.run(name)); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() {
		if err := w.Stop(context.Background()); err != nil {
			t.Errorf("stop %s: %v", name, err)
		}
	})
	return w
}

func TestEveryTaskOnOneWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		o := newOwners(t)
		list := tasks(100)
		sc := newScheduler(t, "s1", st, scheduler.Config{
			Sources: []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return list, nil })},
		})
		var ws []*worker.Worker
		for n := range 4 {
			ws = append(ws, newWorker(t, fmt.Sprintf("w%d", n), o, worker.Config{}, sc))
		}
		if !ws[0].TryLeaveBarrier(time.Minute) {
			t.Fatal("not all tasks run")
		}
		time.Sleep(time.Second)
		for w, n := range o.count() {
			if n != 25 {
				t.Errorf("%s runs %d, want 25", w, n)
			}
		}
		if err := ws[3].Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := o.count(); n["w0"]+n["w1"]+n["w2"] != 100 {
			t.Errorf("after an orderly stop: %v", n)
		}
	})
}

// TestBudgetsPaceADrain: a budget bounds what one pass takes away, and the
// passes go on until the worker is empty, without waiting for the interval.
func TestBudgetsPaceADrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		o := newOwners(t)
		list := tasks(40)
		for n := range list {
			list[n].Group = "g"
		}
		sc := newScheduler(t, "s1", st, scheduler.Config{
			Placement: placement.Options{GroupBudget: placement.Budget{Count: 3}},
			Sources:   []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return list, nil })},
		})
		w0 := newWorker(t, "w0", o, worker.Config{}, sc)
		newWorker(t, "w1", o, worker.Config{}, sc)
		if !w0.TryLeaveBarrier(time.Minute) {
			t.Fatal("not all tasks run")
		}
		svc := sc.Service("")
		t.Cleanup(svc.Close)
		if _, err := svc.DrainWorker(t.Context(), &rotav1.WorkerRequest{Name: "w0"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // far less than the interval
		if n := o.count(); n["w0"] != 0 || n["w1"] != 40 {
			t.Errorf("after the drain: %v", n)
		}
	})
}

// TestMovesMakeRoom: what waits because a worker is full is placed when balance
// has taken something from it, without waiting for the interval.
func TestMovesMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		o := newOwners(t)
		list := append(tasks(3), rota.Task{ID: "twice", Replicas: 2, Priority: -1})
		sc := newScheduler(t, "s1", st, scheduler.Config{
			Interval: time.Hour,
			Sources:  []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return list, nil })},
		})
		newWorker(t, "w0", o, worker.Config{MaxTasks: 3}, sc)
		time.Sleep(5 * time.Second)
		if n := o.count(); n["w0"] != 3 {
			t.Fatalf("alone: %v", n)
		}
		newWorker(t, "w1", o, worker.Config{}, sc)
		time.Sleep(5 * time.Second)
		if n := o.count(); n["w0"]+n["w1"] != 5 {
			t.Errorf("of five run: %v", n)
		}
	})
}
