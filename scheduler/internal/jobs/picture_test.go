package jobs

import (
	"log/slog"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

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
