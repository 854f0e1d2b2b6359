package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/rota-project/rota/store"
)

// compactEvery is how often the leader compacts the store's history.
const compactEvery = time.Minute

// compact forgets, as long as this node leads, the history of the store that is
// older than Config.History. A scheduler whose watch is behind by more reads the
// whole store again.
func (s *Scheduler) compact(ctx context.Context) {
	c, ok := s.cfg.Store.(store.Compactor)
	if !ok || s.cfg.History == 0 {
		return
	}
	type mark struct {
		at       time.Time
		revision int64
	}
	var marks []mark // oldest first
	tick := time.NewTicker(compactEvery)
	defer tick.Stop()
	for {
		marks = append(marks, mark{time.Now(), s.view.Revision()})
		old := int64(0)
		for len(marks) > 0 && time.Since(marks[0].at) >= s.cfg.History {
			old, marks = marks[0].revision, marks[1:]
		}
		if old > 0 {
			one, cancel := context.WithTimeout(ctx, s.cfg.Lease)
			err := c.Compact(one, old)
			cancel()
			if err != nil && !errors.Is(err, context.Canceled) {
				s.log.Warn("history not compacted", "revision", old, "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
