package scheduler_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// fullStore refuses every write while it is full, which its member says when it is asked.
type fullStore struct {
	store.Store
	full  atomic.Bool
	asked atomic.Int64
}

func (s *fullStore) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if s.full.Load() {
		return false, 0, store.ErrNoSpace
	}
	return s.Store.Txn(ctx, conds, ops)
}

func (s *fullStore) Inspect(context.Context) []store.Member {
	s.asked.Add(1)
	m := store.Member{Endpoint: "etcd", Leader: true, Asked: time.Now()}
	if s.full.Load() {
		m.Alarms = []string{"NOSPACE"}
	}
	return []store.Member{m}
}

// TestFullStoreIsAsked: the members are asked again as soon as the store refuses a write
// for want of space, and then once a second at most.
func TestFullStoreIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		t.Cleanup(under.Close)
		st := &fullStore{Store: under}
		var list atomic.Int64
		s := newScheduler(t, "s1", st, scheduler.Config{Interval: time.Second, Sources: []*source.Source{
			source.Func("list", func(context.Context) ([]rota.Task, error) { return tasks(4 + int(list.Load())), nil }),
		}})
		time.Sleep(18 * time.Second) // it was asked when it began, and 15 s later
		if n := st.asked.Load(); n != 2 {
			t.Fatalf("asked %d times in 18 s", n)
		}
		st.full.Store(true)
		list.Store(1)
		time.Sleep(5 * time.Second)
		m := s.StoreMembers()
		if n := st.asked.Load(); len(m) != 1 || len(m[0].Alarms) != 1 || n < 3 || n > 2+6 {
			t.Errorf("5 s after it is full: %+v, asked %d times", m, n)
		}
		if age := time.Since(m[0].Asked); age > 5*time.Second {
			t.Errorf("asked %v ago", age)
		}
		st.full.Store(false)
	})
}
