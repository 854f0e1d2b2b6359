package jobs

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// heldGet calls held, once it is set, before it answers what a key is.
type heldGet struct {
	store.Store
	held atomic.Pointer[func(key string)]
}

func (s *heldGet) Get(ctx context.Context, key string) (store.KV, bool, int64, error) {
	kv, ok, rev, err := s.Store.Get(ctx, key)
	if held := s.held.Load(); held != nil {
		(*held)(key)
	}
	return kv, ok, rev, err
}

// A job that is deleted while it is read stays deleted, whichever of its keys was read.
func TestDeletedWhileRead(t *testing.T) {
	t.Parallel()
	for _, at := range []func(id string) string{store.JobKey, store.JobStateKey} {
		synctest.Test(t, func(t *testing.T) {
			st := &heldGet{Store: memory.New()}
			sc, err := scheduler.New(scheduler.Config{Name: "s1", Store: st})
			if err != nil {
				t.Fatal(err)
			}
			c := New(Config{Node: kind.Node{Store: st, View: sc.View(), Capacity: sc.Capacity(), Scheduler: "s1", Logger: slog.New(slog.DiscardHandler)}})
			sc.Start()
			defer func() {
				c.Close()
				_ = sc.Stop(context.Background())
			}()
			if err := sc.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			id := uuid.New(time.Now())
			if _, err := c.RunJob(auth.Inside(t.Context()), &rotav1.RunJobRequest{Id: id, Job: &rotav1.JobDefinition{Argv: []string{"true"}}}); err != nil {
				t.Fatal(err)
			}
			deletes := func(key string) {
				if key != at(id) {
					return
				}
				if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: store.JobKey(id), Delete: true}, {Key: store.JobStateKey(id), Delete: true}}); err != nil {
					t.Error(err)
				}
				synctest.Wait() // the view has it
			}
			st.held.Store(&deletes)
			if err := c.look(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if _, err := c.get(id); err == nil {
				t.Errorf("it is back, after it was deleted while %s was read", at(id))
			}
		})
	}
}

// A listing ends what it does not have, also a state whose job never came, and
// leaves what was written here since.
func TestReset(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	v := view.New(memory.New(), log)
	c := &Control{cfg: Config{Node: kind.Node{View: v, Logger: log}}, p: newPicture(capacity.New(v)), dirty: map[string]struct{}{}}
	c.streams = kind.NewStreams[rotav1.FromJobWorker, rotav1.ToJobWorker](c.cfg.Node, keys)
	put := func(key string, value []byte, err error, mod int64) store.Event {
		if err != nil {
			t.Fatal(err)
		}
		return store.Event{KV: store.KV{Key: key, Value: value, Mod: mod}}
	}
	spec := func(id string, mod int64) store.Event {
		value, err := encodeSpec(job.New(id, time.Unix(1, 0)), job.Spec{Argv: []string{"true"}})
		return put(store.JobKey(id), value, err, mod)
	}
	kept, gone, ghost, since := uuid.Of("kept"), uuid.Of("gone"), uuid.Of("ghost"), uuid.Of("since")
	late, err := encodeState(job.New(ghost, time.Unix(1, 0)))
	c.take([]store.Event{spec(kept, 3), spec(gone, 4), put(store.JobStateKey(ghost), late, err, 5), spec(since, 12)})
	c.reset([]store.Event{spec(kept, 3)}, 10)
	for _, id := range []string{kept, since} {
		if _, err := c.get(id); err != nil {
			t.Error(err)
		}
	}
	if len(c.p.entries) != 2 || len(c.p.ids) != 2 {
		t.Errorf("it has %v", c.p.ids)
	}
}
