package jobs

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/store"
)

const (
	// batchOps is about how many operations a batch has at most: what one transaction
	// takes.
	batchOps = store.MaxTxnOps - 8
	// batchBytes is the same for its size.
	batchBytes = store.MaxTxnBytes - store.MaxTxnBytes/8
	// storeTimeout bounds each attempt to write.
	storeTimeout = 5 * time.Second
	// doTime bounds a change that somebody asks for: one write, and one look at what
	// became of it.
	doTime = 2*storeTimeout + time.Second
	// unsurePause is how long after a write of unknown outcome it is looked for, while the
	// store does not answer.
	unsurePause = time.Second
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
	jobs    map[string]int // how many workers have, of those that the batch looks at
	away    error          // why the store could not even be asked what became of a write
}

// change is what the batch does to one job.
type change struct {
	old, next *entry // next is nil if it goes
	spec      []byte // of one that is declared
	state     []byte
	place     string // the worker that it is given to
	conds     []store.Cond
	fires     *firing // the time of a schedule that has come, for which it is declared
	asked     []*update
}

// run is the loop.
func (c *Control) run() {
	defer close(c.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var nextSweep time.Time
	for {
		c.findOut(c.ctx) // before a batch promises to the same jobs anew
		b := &batch{c: c, now: time.Now(), changed: map[string]*change{}, jobs: map[string]int{}}
		c.mu.Lock()
		closed := c.closed
		more := b.takeAsked()
		at := b.now.Add(time.Minute)
		if c.p.leading && !closed {
			again, full := b.lose()
			more = more || full
			fires, full := b.fire()
			more = more || full
			due, full := b.place()
			more = more || full
			if !fires.IsZero() && (due.IsZero() || fires.Before(due)) {
				due = fires
			}
			if !again.IsZero() && (due.IsZero() || again.Before(due)) {
				due = again
			}
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
				u.done <- errClosed
			}
			c.asked = nil
		}
		c.mu.Unlock()
		if len(b.order) > 0 {
			more = b.commit(c.ctx) || more
		}
		if len(c.unsure) > 0 && c.unsureAt.Before(at) {
			at = c.unsureAt
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
	var left []*update
	for n, u := range c.asked {
		if b.full() {
			left = append(left, c.asked[n:]...)
			break
		}
		switch err := b.apply(u); {
		case err == nil:
		case b.changed[u.id] != nil:
			left = append(left, u) // whether that is so is not known before the batch is written
		case errors.Is(err, errUnchanged):
			u.done <- nil
		default:
			u.done <- err
		}
	}
	c.asked = left
	return len(left) > 0
}

// apply does one update to the batch. An error, errUnchanged too, says that the update
// changes nothing.
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
		return fmt.Errorf("%w (%d jobs)", errFull, b.c.p.queued)
	}
	j := job.New(u.id, u.created)
	j.Trace, j.Schedule = u.trace, u.schedule
	value, err := encodeSpec(j, *u.declare)
	if err != nil {
		return err
	}
	b.put(u.id, &entry{spec: *u.declare, class: classOf(*u.declare), job: j}, u)
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

// wordTime is how long a job that no worker has said to have begun is not given up
// for lost after the end of the session: the process may live, come back, and say
// that it has not.
const wordTime = 5 * time.Second

// unheard is an attempt that may never have begun.
type unheard struct {
	id         string
	generation rota.Generation
}

// lose takes note of workers that are gone. It says when to look again for the word
// of one that may come back, and whether some is left.
func (b *batch) lose() (again time.Time, more bool) {
	c := b.c
	waits := map[unheard]time.Time{} // since when
	for worker := range c.dirty {
		waiting := false
		for id := range c.p.active[worker] {
			if b.full() {
				return time.Time{}, true
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
			if a.Unbegun() && !e.spec.Rerun {
				u := unheard{id, a.Generation}
				since, ok := c.unheard[u]
				if !ok {
					since = b.now
				}
				if until := since.Add(wordTime); b.now.Before(until) {
					waits[u], waiting = since, true
					if again.IsZero() || until.Before(again) {
						again = until
					}
					continue
				}
			}
			j, err := e.job.Lose(a.Generation, e.spec, "worker "+worker+" is gone", b.now)
			if err != nil {
				continue
			}
			b.put(id, &entry{spec: e.spec, specMod: e.specMod, class: e.class, job: j, stateMod: e.stateMod}, nil)
			// The store decides: what is known of a job may be newer than of sessions.
			now := int64(0)
			if s != nil {
				now = s.ID
			}
			b.changed[id].conds = append(b.changed[id].conds, store.Cond{Key: store.SessionKey(worker), By: store.ByCreate, Revision: now})
		}
		if !waiting {
			delete(c.dirty, worker)
		}
	}
	c.unheard = waits
	return again, false
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

// active is how many jobs a worker has, as the batch has it.
func (b *batch) active(worker string) int {
	n, ok := b.jobs[worker]
	if !ok {
		n = len(b.c.p.active[worker])
		b.jobs[worker] = n
	}
	return n
}
