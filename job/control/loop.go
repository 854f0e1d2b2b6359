package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/job"
	"github.com/rota-project/rota/store"
)

const (
	// batchOps is how many operations one transaction has at most: below the
	// store's limit, as one job may need two.
	batchOps = store.MaxTxnOps - 8
	// batchBytes is the same for its size.
	batchBytes = store.MaxTxnBytes - store.MaxTxnBytes/8
	// storeTimeout bounds each attempt to write.
	storeTimeout = 5 * time.Second
	// maxTries is how often an update is tried against others of the same job.
	maxTries = 20
	// sweepEvery is how often jobs are looked through for those whose time to
	// keep is over.
	sweepEvery = 5 * time.Second
)

// batch is what one transaction changes: a picture over the picture.
type batch struct {
	c       *Control
	now     time.Time
	changed map[string]*change
	order   []string
	bytes   int
	ops     int
	used    map[string]*usage // of workers that the batch changes
}

// change is what the batch does to one job.
type change struct {
	old, next *entry // next is nil if it goes
	spec      []byte // of one that is declared
	state     []byte
	conds     []store.Cond
	asked     []*update
}

// run is the loop.
func (c *Control) run() {
	defer close(c.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var nextSweep time.Time
	for {
		b := &batch{c: c, now: time.Now(), changed: map[string]*change{}, used: map[string]*usage{}}
		c.mu.Lock()
		closed := c.closed
		more := b.takeAsked()
		at := b.now.Add(time.Minute)
		if c.p.leading && !closed {
			more = b.lose() || more
			due, full := b.place()
			more = more || full
			if !b.now.Before(nextSweep) {
				if b.expire() {
					more = true
				} else {
					nextSweep = b.now.Add(sweepEvery)
				}
			}
			if at = nextSweep; !due.IsZero() && due.Before(at) {
				at = due
			}
		}
		if closed {
			for _, u := range c.asked {
				u.done <- ErrClosed
			}
			c.asked = nil
		}
		c.mu.Unlock()
		if len(b.order) > 0 {
			more = b.commit(c.ctx) || more
		}
		if closed {
			return
		}
		if more {
			continue
		}
		timer.Reset(max(time.Until(at), time.Millisecond))
		select {
		case <-c.signal:
		case <-timer.C:
		case <-c.ctx.Done():
		}
	}
}

// full reports whether another job might not fit.
func (b *batch) full() bool { return b.ops >= batchOps || b.bytes >= batchBytes }

// entry is a job as the batch has it. c.mu is held.
func (b *batch) entry(id string) *entry {
	if ch := b.changed[id]; ch != nil {
		return ch.next
	}
	e := b.c.p.entries[id]
	if e == nil || e.specMod == 0 {
		return nil
	}
	return e
}

// takeAsked applies what was asked. It reports whether some is left.
func (b *batch) takeAsked() (more bool) {
	c := b.c
	for n, u := range c.asked {
		if b.full() {
			c.asked = c.asked[n:]
			return true
		}
		switch err := b.apply(u); {
		case errors.Is(err, errUnchanged):
			u.done <- nil
		case err != nil:
			u.done <- err
		}
	}
	c.asked = nil
	return false
}

// apply does one update to the batch. If it changes nothing, it is done.
func (b *batch) apply(u *update) error {
	e := b.entry(u.id)
	switch {
	case u.declare != nil:
		return b.declare(u, e)
	case e == nil:
		return fmt.Errorf("job %s: %w", text.Clip(u.id, text.Short), rota.ErrNotFound)
	case u.remove:
		if !e.job.State.Done() {
			return &job.StateError{Asked: "delete", State: e.job.State}
		}
		b.put(u.id, nil, u)
		return nil
	}
	j, err := u.change(e.job, e.spec)
	if err != nil {
		return err
	}
	if same(e.job, j) {
		if ch := b.changed[u.id]; ch != nil {
			ch.asked = append(ch.asked, u) // true once the batch is
			return nil
		}
		return errUnchanged
	}
	b.put(u.id, &entry{spec: e.spec, specMod: e.specMod, class: e.class, job: j, stateMod: e.stateMod}, u)
	return nil
}

// errUnchanged says that an update changes nothing: it is so already.
var errUnchanged = errors.New("so already")

func (b *batch) declare(u *update, e *entry) error {
	if e != nil {
		return errUnchanged // asked for again
	}
	if b.c.p.queued+len(b.order) >= b.c.cfg.MaxQueued {
		return fmt.Errorf("%w: %d", ErrFull, b.c.p.queued)
	}
	value, err := encodeSpec(u.id, *u.declare, u.created)
	if err != nil {
		return err
	}
	b.put(u.id, &entry{spec: *u.declare, class: classOf(*u.declare), job: job.New(u.id, u.created)}, u)
	b.changed[u.id].spec = value
	b.bytes += len(value)
	return nil
}

// put notes what becomes of a job.
func (b *batch) put(id string, next *entry, u *update) {
	ch := b.changed[id]
	if ch == nil {
		ch = &change{}
		if e := b.c.p.entries[id]; e != nil && e.specMod != 0 {
			ch.old = e
		}
		b.changed[id] = ch
		b.order = append(b.order, id)
		b.ops += 2
		b.bytes += 512
	}
	ch.next = next
	if u != nil {
		ch.asked = append(ch.asked, u)
		ch.conds = append(ch.conds, u.conds...)
	}
}

// same reports whether two states of a job are one.
func same(a, b job.Job) bool {
	if a.State != b.State || a.StopAsked != b.StopAsked || a.Count != b.Count || !a.NotBefore.Equal(b.NotBefore) {
		return false
	}
	x, _ := a.Current()
	y, _ := b.Current()
	return x == y
}

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
		stateMod := int64(0)
		if ch.old != nil {
			stateMod = ch.old.stateMod
		}
		stateCond := store.Cond{Key: store.JobStateKey(id), By: store.ByMod, Revision: stateMod}
		if ch.next == nil {
			cond(stateCond)
			ops = append(ops, store.Op{Key: store.JobKey(id), Delete: true}, store.Op{Key: store.JobStateKey(id), Delete: true})
			continue
		}
		if ch.old == nil {
			cond(store.Cond{Key: store.JobKey(id), By: store.ByCreate, Revision: 0})
			ops = append(ops, store.Op{Key: store.JobKey(id), Value: ch.spec})
			if ch.next.job.State == job.Queued && ch.next.job.Count == 0 {
				continue // declared, and no more
			}
		} else {
			// A job that was deleted meanwhile must not come back as a state.
			cond(store.Cond{Key: store.JobKey(id), By: store.ByMod, Revision: ch.old.specMod})
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
		again = b.write(ctx, ids[:n]) || again
		ids = ids[n:]
	}
	return again
}

func (b *batch) size(id string) int { return len(b.changed[id].spec) + 4096 }

// write does one transaction. What another was faster with is looked at anew,
// one by one.
func (b *batch) write(ctx context.Context, ids []string) (again bool) {
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
			again = b.write(ctx, ids[n:n+1]) || again
		}
		return again
	}
	b.lookAgain(ctx, ids, err)
	return true
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
		failed := c.look(ctx, id)
		c.mu.Lock()
		if old := b.changed[id].old; old != nil && old.job.State.Active() {
			c.dirty[old.job.Worker()] = struct{}{}
		}
		for _, u := range b.changed[id].asked {
			u.tries++
			switch {
			case failed != nil:
				u.done <- errors.Join(failed, cause)
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

// look has the picture take a job as the store has it now.
func (c *Control) look(ctx context.Context, id string) error {
	var events []store.Event
	for _, key := range []string{store.JobKey(id), store.JobStateKey(id)} {
		one, cancel := context.WithTimeout(ctx, storeTimeout)
		kv, ok, rev, err := c.cfg.Store.Get(one, key)
		cancel()
		if err != nil {
			return fmt.Errorf("store: %w", err)
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

// lose takes note of workers that are gone. It reports whether some is left.
func (b *batch) lose() (more bool) {
	c := b.c
	for worker := range c.dirty {
		for id := range c.p.active[worker] {
			if b.full() {
				return true
			}
			e := b.entry(id)
			if e == nil || !e.job.State.Active() {
				continue
			}
			a, _ := e.job.Current()
			s := c.p.sessions[worker]
			if s != nil && s.ID == a.Session {
				continue
			}
			j, err := e.job.Lose(a.Generation, e.spec, "worker "+worker+" is gone", b.now)
			if err != nil {
				continue
			}
			b.put(id, &entry{spec: e.spec, specMod: e.specMod, class: e.class, job: j, stateMod: e.stateMod}, nil)
		}
		delete(c.dirty, worker)
	}
	return false
}

// expire removes jobs whose time to keep is over, and the oldest of too many. It
// reports whether some is left.
func (b *batch) expire() (more bool) {
	c := b.c
	done := 0
	for _, id := range slices.Backward(c.p.ids) { // newest first
		e := b.entry(id)
		if e == nil || !e.job.State.Done() {
			continue
		}
		if done++; done <= c.cfg.MaxKept && !e.expired(b.now) {
			continue
		}
		if b.full() {
			return true
		}
		b.put(id, nil, nil)
	}
	return false
}

// usage is what a worker's jobs take as the batch has it.
func (b *batch) usage(worker string) *usage {
	u := b.used[worker]
	if u == nil {
		u = &usage{resources: map[string]float64{}}
		if have := b.c.p.used[worker]; have != nil {
			u.jobs, u.resources = have.jobs, maps.Clone(have.resources)
		}
		b.used[worker] = u
	}
	return u
}
