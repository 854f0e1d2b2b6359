package worker

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/ownership"
)

// fuse ends the process when the loop itself stands still while exclusive
// instances outlive their lease: the loop cannot fence them then. What can hold
// a loop up is foreign code, as a Logger that blocks.
type fuse struct {
	w     *Worker
	place atomic.Pointer[string] // what the loop is at
	timer *time.Timer
}

func (f *fuse) at(place string) { f.place.Store(&place) }

// set is called by the loop each time it comes round. The fuse burns through a
// moment after the loop itself should have acted, and before the store ends the
// lease: trust ends a tenth of it earlier.
func (f *fuse) set(exclusive int, trusted, ttl time.Duration, now ownership.Time) {
	switch {
	case exclusive == 0:
		if f.timer != nil {
			f.timer.Stop()
		}
	case trusted <= now:
		// The loop has acted at the end of the lease; what is set stays.
	case f.timer == nil:
		f.timer = time.AfterFunc(trusted-now+ttl/20, f.burn)
	default:
		f.timer.Reset(trusted - now + ttl/20)
	}
}

func (f *fuse) stop() {
	if f.timer != nil {
		f.timer.Stop()
	}
}

func (f *fuse) burn() {
	place := "its start"
	if p := f.place.Load(); p != nil {
		place = *p
	}
	logs.Last("rota: worker %s: its loop hangs at the end of the lease (%s), with exclusive tasks running; %s", f.w.cfg.Name, place, f.w.cfg.exits)
	f.w.cfg.Exit(ExitFenced)
	f.w.inbox.Put(func() {
		f.w.loop.abandon(fmt.Errorf("worker %s: %w: its loop hung (%s)", f.w.cfg.Name, ErrOutlived, place))
	})
}
