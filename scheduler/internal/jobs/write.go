package jobs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/store"
)

// unit is the write of what becomes of one job.
func (b *batch) unit(id string) (u table.Unit, err error) {
	ch := b.changed[id]
	var specMod, stateMod int64
	if ch.old != nil {
		specMod, stateMod = ch.old.specMod, ch.old.stateMod
	}
	u.Conds = append(make([]store.Cond, 0, len(ch.conds)+2), ch.conds...)
	specCond := store.Cond{Key: store.JobKey(id), By: store.ByMod, Revision: specMod}
	stateCond := store.Cond{Key: store.JobStateKey(id), By: store.ByMod, Revision: stateMod}
	if ch.fires != nil {
		if err := ch.fires.into(&u); err != nil || ch.next == nil {
			return u, err
		}
	}
	if ch.next == nil {
		u.Conds = append(u.Conds, stateCond)
		u.Ops = []store.Op{{Key: store.JobKey(id), Delete: true}, {Key: store.JobStateKey(id), Delete: true}}
		return u, nil
	}
	// A job that was deleted meanwhile must not come back as a state.
	u.Conds = append(u.Conds, specCond)
	if ch.old == nil {
		u.Ops = append(u.Ops, store.Op{Key: store.JobKey(id), Value: ch.spec})
		if ch.next.job.State == job.Queued && ch.next.job.Count == 0 {
			return u, nil // declared, and no more
		}
	}
	if ch.state, err = encodeState(ch.next.job); err != nil {
		return u, err
	}
	u.Conds = append(u.Conds, stateCond)
	u.Ops = append(u.Ops, store.Op{Key: store.JobStateKey(id), Value: ch.state})
	return u, nil
}

// commit writes the batch. It reports whether the loop should look again at once.
// What another was faster with is looked at anew, one by one.
func (b *batch) commit(ctx context.Context) (again bool) {
	ids, units := make([]string, 0, len(b.order)), make([]table.Unit, 0, len(b.order))
	for _, id := range b.order {
		u, err := b.unit(id)
		if err != nil {
			b.answer([]string{id}, err)
			continue
		}
		ids, units = append(ids, id), append(units, u)
	}
	w := commit.Writer{
		Txn: b.c.cfg.Store.Txn, Timeout: storeTimeout, Reserve: 1,
		// Each transaction that declares or places jobs compares the fence.
		Guard: func(ctx context.Context, from, to int) ([]store.Cond, []store.Op, error) {
			if !b.fenced(ids[from:to]) {
				return nil, nil, nil
			}
			return b.c.fence.Guard(ctx, from, to)
		},
	}
	for r := range w.Write(ctx, units) {
		mine := ids[r.From:r.To]
		switch {
		case r.OK:
			b.applied(mine, r.Revision)
			continue
		case r.Several():
			continue
		case r.Err != nil && ctx.Err() == nil:
			b.c.cfg.Logger.Warn("jobs may not be written, looking", "error", r.Err)
		}
		if b.fenced(mine) {
			b.c.fence.Doubt() // what was written may land when nobody reckons with it any more
		}
		b.lookAgain(ctx, mine, r.Err)
		again = true
		if b.away != nil { // each of them would wait as long
			b.giveUp(ids[r.To:])
			break
		}
	}
	return again
}

// fenced reports whether the batch declares or places one of these jobs: if that landed
// late, the job might have been deleted, another have its name, or the room be taken.
func (b *batch) fenced(ids []string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return b.changed[id].old == nil || b.changed[id].place != "" })
}

// applied puts what was written into the picture and answers who asked.
func (b *batch) applied(ids []string, rev int64) {
	c := b.c
	c.mu.Lock()
	c.p.revision = max(c.p.revision, rev)
	for _, id := range ids {
		ch := b.changed[id]
		now := c.p.entries[id]
		switch {
		case ch.next == nil:
			if now != nil && now.specMod < rev {
				c.set(id, nil)
			}
		case now == nil && (ch.old != nil || rev <= c.p.viewed), now != nil && now.stateMod >= rev:
			// The view was faster.
		default:
			if ch.spec != nil {
				ch.next.specMod = rev
			}
			if ch.state != nil {
				ch.next.stateMod = rev
			}
			c.set(id, ch.next)
		}
		if ch.fires != nil {
			c.fired(ch.fires, rev)
		}
	}
	c.mu.Unlock()
	for _, id := range ids {
		if f := b.changed[id].fires; f != nil {
			f.tell(c)
		}
		c.tell(id, b.changed[id])
		c.trace(b.changed[id])
	}
	b.answer(ids, nil)
}

func (b *batch) answer(ids []string, err error) {
	for _, id := range ids {
		for _, u := range b.changed[id].asked {
			u.done <- err
		}
	}
}

// lookAgain reads jobs whose write was refused, or whose outcome is unknown, and
// has their updates tried again.
func (b *batch) lookAgain(ctx context.Context, ids []string, cause error) {
	c := b.c
	for _, id := range ids {
		if b.away == nil {
			b.away = c.look(ctx, id)
		}
		if f := b.changed[id].fires; f != nil && b.away == nil {
			b.away = c.lookAt(ctx, func() bool { return c.p.schedules[f.name] != nil }, store.JobScheduleKey(f.name), store.JobScheduleStateKey(f.name))
		}
		c.mu.Lock()
		b.undone(id)
		// Refused, and the picture has what is there instead: an earlier place is behind
		// the fence.
		if ch := b.changed[id]; cause == nil && b.away == nil && ch.place != "" {
			c.p.account.Withdraw(id, ch.place)
		} else {
			b.doubt(id)
		}
		for _, u := range b.changed[id].asked {
			u.tries++
			switch {
			case b.away != nil:
				b.storeAway(u, cause != nil || u.tries > 1, cause)
			case errors.Is(cause, store.ErrNoSpace): // surely not done, and not soon
				u.done <- cause
			case u.tries >= maxTries:
				u.done <- errBusy
			default:
				c.asked = append(c.asked, u)
			}
		}
		c.mu.Unlock()
	}
	// What was not asked by anybody (a placement on a worker that is gone) is
	// decided anew when the view has what the store has.
	select {
	case <-time.After(5 * time.Millisecond):
	case <-ctx.Done():
	}
}

// undone has a loss be decided anew that was not written. c.mu is held.
func (b *batch) undone(id string) {
	if old := b.changed[id].old; old != nil && old.job.State.Active() {
		b.c.dirty[old.job.Worker()] = struct{}{}
	}
}

// doubt notes a place that may have been written, or may land yet, even if it is never
// tried again, as that of a job that had ended and was to run anew: what it was promised
// is taken until that is known. c.mu is held.
func (b *batch) doubt(id string) {
	if b.changed[id].place != "" {
		b.c.unsure[id], b.c.unsureAt = struct{}{}, time.Now().Add(unsurePause)
	}
}

// findOut gives back all that was promised to jobs that have no place and, behind the
// fence, can no longer get one of those that were written. No batch is on its way.
func (c *Control) findOut(ctx context.Context) {
	if len(c.unsure) == 0 || time.Now().Before(c.unsureAt) {
		return
	}
	if c.fence.Settle(ctx) != nil {
		c.unsureAt = time.Now().Add(unsurePause)
		return
	}
	for id := range c.unsure {
		if c.look(ctx, id) != nil {
			c.unsureAt = time.Now().Add(unsurePause)
			return
		}
		c.p.account.Settle(id) // what the picture has of it is counted beside
		delete(c.unsure, id)
	}
}

// storeAway answers an update that is not tried again. written says that a write of it
// may have been done, cause how that ended.
func (b *batch) storeAway(u *update, written bool, cause error) {
	if written {
		u.done <- convert.StoreError(cmp.Or(cause, b.away))
	} else {
		u.done <- convert.ReadError(b.away)
	}
}

// giveUp answers who asked for jobs that are not tried to be written.
func (b *batch) giveUp(ids []string) {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	for _, id := range ids {
		b.undone(id)
		b.doubt(id)
		for _, u := range b.changed[id].asked {
			b.storeAway(u, u.tries > 0, nil)
		}
	}
}

// look has the picture take a job as the store has it now.
func (c *Control) look(ctx context.Context, id string) error {
	return c.lookAt(ctx, func() bool { return c.p.entries[id] != nil }, store.JobKey(id), store.JobStateKey(id))
}

// lookAt has the picture take these keys as the store has them now. known says whether it
// has what they are of.
func (c *Control) lookAt(ctx context.Context, known func() bool, keys ...string) error {
	var events []store.Event
	var asOf int64
	for _, key := range keys {
		one, cancel := context.WithTimeout(ctx, storeTimeout)
		kv, ok, rev, err := c.cfg.Store.Get(one, key)
		cancel()
		if err != nil {
			return err
		}
		if !ok {
			kv = store.KV{Key: key, Mod: rev}
		}
		events = append(events, store.Event{KV: kv, Deleted: !ok})
		if asOf == 0 {
			asOf = rev
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !known() && asOf <= c.p.viewed {
		return nil // it has gone since it was read
	}
	c.take(events)
	return nil
}
