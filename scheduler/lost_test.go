package scheduler_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// lateNews is a store whose watches tell late, and which counts transactions of grants.
type lateNews struct {
	store.Store
	by     time.Duration
	grants atomic.Int64
}

func (s *lateNews) Watch(ctx context.Context, prefix string, revision int64) <-chan store.Batch {
	in, out := s.Store.Watch(ctx, prefix, revision), make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range in {
			time.Sleep(s.by)
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (s *lateNews) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if slices.ContainsFunc(ops, func(op store.Op) bool { return strings.HasPrefix(op.Key, store.GrantsPrefix) }) {
		s.grants.Add(1)
	}
	return s.Store.Txn(ctx, conds, ops)
}

// TestLostBeforeTheNews: the leader finds out together of whom it does not know yet that
// they are lost, not by one transaction for each worker.
func TestLostBeforeTheNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		t.Cleanup(func() { mem.Close() })
		st := &lateNews{Store: mem, by: 100 * time.Millisecond}
		o := newOwners(t)
		sc := newScheduler(t, "s1", st, scheduler.Config{})
		const workers, lost = 120, 50
		for n := range workers {
			newWorker(t, fmt.Sprintf("w%03d", n), o, worker.Config{}, sc)
		}
		time.Sleep(time.Minute)
		sessions, _, err := mem.Range(t.Context(), store.SessionsPrefix)
		if err != nil || len(sessions) != workers {
			t.Fatalf("%d sessions, %v", len(sessions), err)
		}
		api := sc.Service("")
		t.Cleanup(api.Close)
		for _, kv := range sessions[:lost] {
			if err := mem.Revoke(t.Context(), kv.Lease); err != nil {
				t.Fatal(err)
			}
		}
		before := st.grants.Load()
		list := tasks(3 * workers)
		if _, err := api.ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(list)}); err != nil {
			t.Fatal(err)
		}
		granted := func() (n int) {
			sc.View().Read(func() {
				for _, task := range list {
					if w, _ := sc.View().Owner(rota.Instance{Task: task.ID}); w != "" && sc.View().Sessions[w] != nil {
						n++
					}
				}
			})
			return n
		}
		began := time.Now()
		for granted() < len(list) {
			time.Sleep(time.Millisecond)
			if time.Since(began) > time.Minute {
				t.Fatalf("%d of %d granted", granted(), len(list))
			}
		}
		if n := st.grants.Load() - before; n > 20 {
			t.Errorf("%d transactions of grants after %v", n, time.Since(began))
		} else {
			t.Logf("%d transactions of grants after %v", n, time.Since(began))
		}
	})
}
