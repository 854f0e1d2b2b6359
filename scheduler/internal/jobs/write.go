package jobs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/store"
)

// txn is the transaction of some of the batch's changes.
func (b *batch) txn(ids []string) (conds []store.Cond, ops []store.Op, err error) {
	seen := map[store.Cond]bool{}
	cond := func(cond store.Cond) {
		if !seen[cond] {
			seen[cond] = true
			conds = append(conds, cond)
		}
	}
	for _, id := range ids {
		ch := b.changed[id]
		for _, extra := range ch.conds {
			cond(extra)
		}
		var specMod, stateMod int64
		if ch.old != nil {
			specMod, stateMod = ch.old.specMod, ch.old.stateMod
		}
		specCond := store.Cond{Key: store.JobKey(id), By: store.ByMod, Revision: specMod}
		stateCond := store.Cond{Key: store.JobStateKey(id), By: store.ByMod, Revision: stateMod}
		if ch.next == nil {
			cond(stateCond)
			ops = append(ops, store.Op{Key: store.JobKey(id), Delete: true}, store.Op{Key: store.JobStateKey(id), Delete: true})
			continue
		}
		if ch.old == nil {
			cond(store.Cond{Key: store.JobFenceKey(b.c.cfg.Scheduler), By: store.ByMod, Revision: b.c.fence})
			cond(specCond)
			ops = append(ops, store.Op{Key: store.JobKey(id), Value: ch.spec})
			if ch.next.job.State == job.Queued && ch.next.job.Count == 0 {
				continue // declared, and no more
			}
		} else {
			// A job that was deleted meanwhile must not come back as a state.
			cond(specCond)
		}
		if ch.state, err = encodeState(ch.next.job); err != nil {
			return nil, nil, err
		}
		cond(stateCond)
		ops = append(ops, store.Op{Key: store.JobStateKey(id), Value: ch.state})
	}
	return conds, ops, nil
}

// commit writes the batch. It reports whether the loop should look again at once.
func (b *batch) commit(ctx context.Context) (again bool) {
	ids := b.order
	for len(ids) > 0 {
		n, size, conds := 0, 0, 0
		for n < len(ids) && 2*n < batchOps && conds < batchOps && (n == 0 || size+b.size(ids[n]) < batchBytes) {
			size += b.size(ids[n])
			conds += 2 + len(b.changed[ids[n]].conds)
			n++
		}
		if b.away != nil { // each of them would wait as long
			b.giveUp(ids)
			return true
		}
		again = b.write(ctx, ids[:n]) || again
		ids = ids[n:]
	}
	return again
}

func (b *batch) size(id string) int { return len(b.changed[id].spec) + 4096 }

// write does one transaction. What another was faster with is looked at anew,
// one by one.
func (b *batch) write(ctx context.Context, ids []string) (again bool) {
	declares := slices.ContainsFunc(ids, func(id string) bool { return b.changed[id].old == nil })
	if declares && b.c.fence == 0 {
		if err := b.c.putFence(ctx); err != nil {
			b.lookAgain(ctx, ids, err)
			return true
		}
	}
	conds, ops, err := b.txn(ids)
	if err != nil {
		b.answer(ids, err)
		return false
	}
	one, cancel := context.WithTimeout(ctx, storeTimeout)
	ok, rev, err := b.c.cfg.Store.Txn(one, conds, ops)
	cancel()
	if err == nil && ok {
		b.applied(ids, rev)
		return false
	}
	if err != nil && ctx.Err() == nil {
		b.c.cfg.Logger.Warn("outcome of a transaction of jobs unknown, looking", "error", err)
	}
	if err == nil && len(ids) > 1 {
		// One of them holds the others up.
		for n := range ids {
			if b.away != nil {
				b.giveUp(ids[n:])
				return true
			}
			again = b.write(ctx, ids[n:n+1]) || again
		}
		return again
	}
	if declares {
		b.c.fence = 0 // what was written may land when the job has been deleted, or another has the name
	}
	b.lookAgain(ctx, ids, err)
	return true
}

// putFence writes the fence: no earlier transaction that declares a job can land any more.
func (c *Control) putFence(ctx context.Context) error {
	one, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, rev, err := c.cfg.Store.Txn(one, nil, []store.Op{{Key: store.JobFenceKey(c.cfg.Scheduler)}})
	if err == nil {
		c.fence = rev
	}
	return err
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
		case now == nil && ch.old != nil, now != nil && now.stateMod >= rev:
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
	}
	c.mu.Unlock()
	for _, id := range ids {
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
		c.mu.Lock()
		b.undone(id)
		// Refused, and the picture has what is there instead: a place that was written
		// before, and of which nothing was heard, stays taken.
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
				u.done <- ErrBusy
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

// doubt notes a declaration that may have been written, or may land yet, even if it is
// never tried again: what its job was promised is taken until that is known. c.mu is held.
func (b *batch) doubt(id string) {
	if ch := b.changed[id]; ch.old == nil && ch.place != "" {
		b.c.unsure[id], b.c.unsureAt = struct{}{}, time.Now().Add(unsurePause)
	}
}

// findOut gives back all that was promised to jobs that are not declared and can no longer
// be: behind the fence nothing lands.
func (c *Control) findOut(ctx context.Context) {
	if len(c.unsure) == 0 || time.Now().Before(c.unsureAt) {
		return
	}
	if c.fence == 0 && c.putFence(ctx) != nil {
		c.unsureAt = time.Now().Add(unsurePause)
		return
	}
	for id := range c.unsure {
		if c.look(ctx, id) != nil {
			c.unsureAt = time.Now().Add(unsurePause)
			return
		}
		c.mu.Lock()
		if c.p.entries[id] == nil { // else what it has been promised since is its own
			c.p.account.Settle(id)
		}
		c.mu.Unlock()
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
	var events []store.Event
	for _, key := range []string{store.JobKey(id), store.JobStateKey(id)} {
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
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(events)
	return nil
}
