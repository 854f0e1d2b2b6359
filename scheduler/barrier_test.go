package scheduler_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// late is a store that answers late.
type late struct {
	store.Store
	by time.Duration
}

func (l late) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	ok, rev, err := l.Store.Txn(ctx, conds, ops)
	time.Sleep(l.by)
	return ok, rev, err
}

// TestBarrierEndsWithNews has the last worker come while the leader writes down
// what a source lists: the tasks are counted once, and so all of them run.
func TestBarrierEndsWithNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		sc := newScheduler(t, "s1", late{st, 100 * time.Millisecond}, scheduler.Config{
			BarrierWorkers: 2,
			Sources: []*source.Source{source.Func("list", func(ctx context.Context) ([]rota.Task, error) {
				select {
				case <-time.After(time.Second):
					return tasks(10), nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})},
		})
		o := newOwners(t)
		newWorker(t, "w1", o, worker.Config{}, sc)
		time.Sleep(time.Second)
		for list := 0; list == 0; time.Sleep(time.Millisecond) {
			sc.View().Read(func() { list = sc.View().Tasks.Len() })
		}
		w := newWorker(t, "w2", o, worker.Config{}, sc)
		if !w.TryLeaveBarrier(time.Minute) {
			t.Error("not all tasks run")
		}
	})
}

// TestNotAllRunBeforeTheList holds readiness back until the sources have said
// what there is to run.
func TestNotAllRunBeforeTheList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		asked := 0
		sc := newScheduler(t, "s1", st, scheduler.Config{
			Interval: time.Minute,
			Sources: []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) {
				if asked++; time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) < 90*time.Second {
					return nil, errors.New("the database is away")
				}
				return tasks(10), nil
			})},
		})
		w := newWorker(t, "w1", newOwners(t), worker.Config{}, sc)
		if w.TryLeaveBarrier(89*time.Second) || w.AllRunning() {
			t.Errorf("all tasks run before anybody knows which, after asking %d times", asked)
		}
		if !w.TryLeaveBarrier(time.Minute) || len(w.Tasks()) != 10 {
			t.Errorf("%d tasks run, want 10", len(w.Tasks()))
		}
	})
}
