package scheduler_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// compacted is a store that notes what is compacted, and when.
type compacted struct {
	*memory.Store
	mu sync.Mutex
	at map[int64]time.Time // by revision
}

func (c *compacted) Compact(_ context.Context, revision int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.at[revision]; !ok {
		c.at[revision] = time.Now()
	}
	return c.Store.Compact(revision)
}

// TestCompacts: the leader forgets what is older than the history that is to be kept,
// and no more; without a history to keep nobody does.
func TestCompacts(t *testing.T) {
	t.Parallel()
	for _, keep := range []time.Duration{0, 10 * time.Minute} {
		t.Run(keep.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := &compacted{Store: memory.New(), at: map[int64]time.Time{}}
				t.Cleanup(func() { st.Close() })
				for _, name := range []string{"s1", "s2"} {
					newScheduler(t, name, st, scheduler.Config{History: keep})
				}
				written := map[int64]time.Time{}
				for range 40 {
					time.Sleep(time.Minute)
					_, rev, err := st.Txn(t.Context(), nil, []store.Op{{Key: store.KickKey}})
					if err != nil {
						t.Fatal(err)
					}
					written[rev] = time.Now()
				}
				st.mu.Lock()
				defer st.mu.Unlock()
				if (len(st.at) > 20) != (keep > 0) || keep == 0 && len(st.at) > 0 {
					t.Errorf("compacted %d times", len(st.at))
				}
				for rev, at := range st.at {
					for newer, when := range written {
						if newer <= rev && at.Sub(when) < keep {
							t.Errorf("revision %d, written %v before, was compacted", newer, at.Sub(when))
						}
					}
				}
			})
		})
	}
}

// TestNamesake: a second scheduler of a name that is taken leaves the first where all
// see it, whether it goes on or ends.
func TestNamesake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		first := newScheduler(t, "s", st, scheduler.Config{GRPC: "first:1"})
		time.Sleep(time.Second)
		second := newScheduler(t, "s", st, scheduler.Config{GRPC: "second:1"})
		api := first.Service("")
		defer api.Close()
		check := func(when, want string) {
			t.Helper()
			s, err := api.GetStatus(t.Context(), &rotav1.GetStatusRequest{})
			if err != nil || len(s.GetSchedulers()) != 1 || s.GetSchedulers()[0].GetGrpc() != want || !s.GetSchedulers()[0].GetLeader() {
				t.Errorf("%s: %v, %v", when, s, err)
			}
		}
		time.Sleep(20 * time.Second)
		check("both live", "first:1")
		if err := second.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		check("the second has ended", "first:1")
		third := newScheduler(t, "s", st, scheduler.Config{GRPC: "third:1"})
		time.Sleep(20 * time.Second)
		if err := first.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		api.Close()
		api = third.Service("")
		check("the name is free", "third:1")
	})
}
