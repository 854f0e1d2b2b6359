package scheduler

import (
	"context"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// mendPause is the least time between two attempts to mend the store, and mendAgain
// when to look again at what could not be.
const mendPause, mendAgain = 250 * time.Millisecond, time.Second

// mend brings back pages that can no longer be read, on every scheduler, leader or
// not: whoever has seen all of a page's history knows what it held. A write is done
// only if the page is still as it was seen, and changes nothing of what was known.
func (s *Scheduler) mend(ctx context.Context) {
	signal := make(chan struct{}, 1)
	wake := func() {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
	sub := s.view.Subscribe(wake, func(d *view.Delta) {
		if d.Unread {
			wake()
		}
	})
	defer sub.Close()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-signal:
		case <-again.C:
		case <-ctx.Done():
			return
		}
		for _, u := range s.mendable() {
			one, cancel := context.WithTimeout(ctx, s.cfg.Lease)
			ok, _, err := s.cfg.Store.Txn(one, u.Conds, u.Ops)
			cancel()
			if err != nil {
				s.log.Warn("unreadable values were not repaired", "key", u.Ops[0].Key, "error", err)
			}
			if !ok {
				wake() // once more, if it is not mended by then
			} else {
				s.log.Info("repaired an unreadable value", "key", u.Ops[0].Key)
			}
		}
		s.bindStrays(ctx)
		s.view.Read(func() {
			if !s.view.Clean() { // another may become the one who can
				again.Reset(mendAgain)
			}
		})
		sleep(ctx, mendPause)
	}
}

// mendable are the writes that mend what can be.
func (s *Scheduler) mendable() (units []table.Unit) {
	take := func(more []table.Unit, err error) []table.Unit {
		if err != nil {
			s.log.Error("an unreadable value cannot be repaired", "error", err)
		}
		units = append(units, more...)
		return more
	}
	v := s.view
	v.Read(func() {
		if v.Clean() {
			return
		}
		take(v.Tasks.Mend())
		for _, t := range v.Grants {
			take(t.Mend())
		}
		for worker, t := range v.Acks {
			if len(t.Unread()) == 0 {
				continue
			}
			switch session := v.Sessions[worker]; {
			case session == nil:
				take(t.Forget(true))
			case session.GetScheduler() == s.cfg.Name: // whose worker says again what is lost
				for _, u := range append(take(t.Mend()), take(t.Forget(false))...) {
					u.Bind(store.LeaseID(session.GetLease()))
				}
			}
		}
	})
	return units
}

// lostGrants are the tables of grants that cannot be read as a whole, by worker.
type lostGrants map[string]*view.Grants

func (l *leader) lost() (out lostGrants) {
	v := l.s.view
	v.Read(func() {
		if v.Clean() {
			return
		}
		for worker, t := range v.Grants {
			if t.Lost() {
				if out == nil {
					out = lostGrants{}
				}
				out[worker] = t
			}
		}
	})
	return out
}

// mayHold reports whether some worker may have a grant of i that cannot be read.
func (lost lostGrants) mayHold(i rota.Instance) bool {
	for _, t := range lost {
		if t.LostAt(record.InstanceKey(i)) {
			return true
		}
	}
	return false
}

// forgetLost removes the grants that nobody can read of workers that have no session
// any more: whatever they were, nobody goes by them. whole is false if some are left.
func (l *leader) forgetLost(ctx context.Context) (whole bool, err error) {
	lost := l.lost()
	if lost == nil {
		return true, nil
	}
	var units []table.Unit
	v := l.s.view
	v.Read(func() {
		for worker, t := range lost {
			var forget []table.Unit
			if forget, err = t.Forget(false); err != nil {
				return
			}
			for _, u := range forget {
				u.Conds = append(u.Conds, store.Cond{Key: store.SessionKey(worker), By: store.ByCreate, Revision: 0})
				if v.Sessions[worker] == nil {
					units = append(units, u)
				}
			}
		}
	})
	if err != nil {
		return false, err
	}
	for _, u := range units {
		r := l.pages.Together(ctx, u)
		if r.Err != nil {
			return false, r.Err
		}
		if r.OK {
			l.s.log.Warn("removed unreadable grants", "key", u.Ops[0].Key)
		}
	}
	return l.lost() == nil, nil
}
