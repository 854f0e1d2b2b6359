package scheduler_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/test/memo"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// stuckStore is a store whose transactions of grants never return, whatever
// becomes of their context, while it is stuck.
type stuckStore struct {
	store.Store
	stuck atomic.Bool
	letGo chan struct{}
}

func (s *stuckStore) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	for _, op := range ops {
		if s.stuck.Load() && strings.HasPrefix(op.Key, store.GrantsPrefix) {
			<-s.letGo
		}
	}
	return s.Store.Txn(ctx, conds, ops)
}

// TestHungLeaderGivesUp: a leader whose loop stands still, while its lease is
// renewed as ever, makes way for another.
func TestHungLeaderGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		hung := &stuckStore{Store: st, letGo: make(chan struct{})}
		var mu sync.Mutex
		list := tasks(4)
		src := func() []*source.Source {
			return []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) {
				mu.Lock()
				defer mu.Unlock()
				return list, nil
			})}
		}
		o := newOwners(t)
		log := &memo.Buffer{}
		first := newScheduler(t, "s1", hung, scheduler.Config{Sources: src(), Interval: time.Second, Logger: slog.New(slog.NewTextHandler(log, nil))})
		time.Sleep(time.Second) // it leads
		second := newScheduler(t, "s2", st, scheduler.Config{Sources: src(), Interval: time.Second})
		t.Cleanup(func() { close(hung.letGo) })
		newWorker(t, "w0", o, worker.Config{}, second)
		time.Sleep(5 * time.Second)
		if n := o.count(); n["w0"] != 4 {
			t.Fatalf("before: %v", n)
		}
		hung.stuck.Store(true)
		mu.Lock()
		list = tasks(6)
		mu.Unlock()
		time.Sleep(20 * time.Second)
		if n := o.count(); n["w0"] != 6 {
			t.Errorf("%v run 20 s later", n)
		}
		if !first.Late() || second.Late() || !strings.Contains(log.String(), `at="writing grants"`) {
			t.Errorf("late: %v, %v; log:\n%s", first.Late(), second.Late(), log)
		}
	})
}

// slowStore is a store that takes some seconds for each transaction of tasks.
type slowStore struct{ store.Store }

func (s *slowStore) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if slices.ContainsFunc(ops, func(op store.Op) bool { return strings.HasPrefix(op.Key, store.TasksPrefix) }) {
		time.Sleep(3 * time.Second)
	}
	return s.Store.Txn(ctx, conds, ops)
}

// TestSlowLeaderGoesOn: much to write on a slow store is no reason to give up.
func TestSlowLeaderGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		list := tasks(400)
		for n := range list {
			list[n].Payload = make([]byte, 30_000)
		}
		o := newOwners(t)
		sc := newScheduler(t, "s1", &slowStore{st}, scheduler.Config{
			Sources: []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return list, nil })},
		})
		newWorker(t, "w0", o, worker.Config{}, sc)
		time.Sleep(3 * time.Minute)
		if n := o.count(); n["w0"] != len(list) || sc.Late() {
			t.Errorf("%v of %d run; given up: %v", n, len(list), sc.Late())
		}
	})
}
