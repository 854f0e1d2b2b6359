package ownership

import (
	"cmp"
	"slices"

	"github.com/rota-project/rota"
)

// Grant is a grant as the store holds it.
type Grant struct {
	Instance   rota.Instance
	Generation rota.Generation
	// Session is the worker's session that it was given to.
	Session int64
	// Revoked asks the worker to stop.
	Revoked bool
	// Spec is the task's Target.Spec when it was granted, and Reason its
	// Target.Reason.
	Spec   uint64
	Reason string
}

// State is where an instance is on a worker, as the worker acknowledges it.
type State string

// States of an instance on its worker.
const (
	Starting State = "starting" // its function is about to be called
	Running  State = "running"
	Backoff  State = "backoff"  // its function returned; it will be called again
	Stopping State = "stopping" // asked to stop
	Stuck    State = "stuck"    // asked to stop long ago
	Stopped  State = "stopped"  // not running, and will not be under this generation
)

// Target says where an instance should be.
type Target struct {
	// Worker is empty if it should be nowhere.
	Worker   string
	Mode     rota.Mode
	Priority float64
	// Spec is a digest of what the worker is told to run (kind, payload, mode).
	// A grant of another one is replaced as in a move.
	Spec uint64
	// Reason says why, for people; it goes into the grant.
	Reason string
}

// Limits bound the moves under way. A move is under way from when its old owner
// is asked to stop, or its new one is granted beside it, until the new one
// runs. What has no living owner is not a move and never waits. Zero is no limit.
type Limits struct {
	InAll     int // moves in the cluster
	PerWorker int // moves from or to one worker
}

// Effects are what to write next: Release and Revoke in any order, and only
// when those are confirmed, Grant.
type Effects struct {
	Release []Held // remove the grant: its owner has stopped or its session is over
	Revoke  []Held // mark the grant revoked
	Grant   []Held // write a new grant
}

// Empty reports whether there is nothing to do.
func (e Effects) Empty() bool { return len(e.Release)+len(e.Revoke)+len(e.Grant) == 0 }

// Held is a grant and the worker that holds it.
type Held struct {
	Worker string
	Grant
}

// Ledger is the leader's account. The zero value is ready to use; it is not
// safe for concurrent use.
type Ledger struct {
	Limits Limits

	entries  map[rota.Instance]*entry
	sessions map[string]int64
	holds    map[string]map[rota.Instance]struct{} // by worker, to find what a lost session held
	blocked  map[string]map[rota.Instance]struct{} // by the target they wait for
	due      map[rota.Instance]*entry              // to be looked at
	waiting  map[rota.Instance]*entry              // wait for room within Limits
	moving   int
	running  int
	byWorker map[string]int
}

type entry struct {
	target Target
	holds  []hold
	// from and to of the move under way that this entry is counted for.
	from, to string
	running  bool // counted as running where it should
}

type hold struct {
	worker  string
	session int64
	gen     rota.Generation
	revoked bool
	spec    uint64
	state   State // the last acknowledged
}

// fits reports whether h is the grant that t asks for.
func (h hold) fits(t Target) bool { return h.worker == t.Worker && h.spec == t.Spec && !h.revoked }

func (l *Ledger) init() {
	if l.entries == nil {
		l.entries = map[rota.Instance]*entry{}
		l.sessions = map[string]int64{}
		l.holds = map[string]map[rota.Instance]struct{}{}
		l.blocked = map[string]map[rota.Instance]struct{}{}
		l.due = map[rota.Instance]*entry{}
		l.waiting = map[rota.Instance]*entry{}
		l.byWorker = map[string]int{}
	}
}

func (l *Ledger) entry(i rota.Instance) *entry {
	l.init()
	e := l.entries[i]
	if e == nil {
		e = &entry{}
		l.entries[i] = e
	}
	return e
}

// Record says that the store now holds grant g for worker, or, with removed,
// that it no longer holds the one of g's instance.
func (l *Ledger) Record(worker string, g Grant, removed bool) {
	e := l.entry(g.Instance)
	at := slices.IndexFunc(e.holds, func(h hold) bool { return h.worker == worker })
	switch {
	case removed:
		if at >= 0 {
			e.holds = slices.Delete(e.holds, at, at+1)
		}
		delete(l.holds[worker], g.Instance)
	default:
		h := hold{worker: worker, session: g.Session, gen: g.Generation, revoked: g.Revoked, spec: g.Spec}
		if at < 0 {
			e.holds = append(e.holds, h)
		} else {
			if e.holds[at].gen == h.gen {
				h.state = e.holds[at].state
			}
			e.holds[at] = h
		}
		if l.holds[worker] == nil {
			l.holds[worker] = map[rota.Instance]struct{}{}
		}
		l.holds[worker][g.Instance] = struct{}{}
	}
	l.due[g.Instance] = e
}

// Session says that worker's living session is now this one; 0 for none: its
// lease has ended, so that it has stopped by itself whatever was exclusive.
func (l *Ledger) Session(worker string, session int64) {
	l.init()
	if l.sessions[worker] == session {
		return
	}
	if session == 0 {
		delete(l.sessions, worker)
	} else {
		l.sessions[worker] = session
	}
	for i := range l.holds[worker] {
		l.due[i] = l.entries[i]
	}
	for i := range l.blocked[worker] {
		if e := l.entries[i]; e != nil {
			l.due[i] = e
		}
	}
	delete(l.blocked, worker)
}

// Ack says what worker acknowledged of an instance. Acknowledgements of other
// generations than the recorded one are of the past and change nothing.
func (l *Ledger) Ack(worker string, i rota.Instance, gen rota.Generation, s State) {
	e := l.entries[i]
	if e == nil {
		return
	}
	for n := range e.holds {
		h := &e.holds[n]
		// Stopped is final for its generation: a late "running" does not undo it.
		if h.worker == worker && h.gen == gen && h.state != s && h.state != Stopped {
			h.state = s
			l.due[i] = e
		}
	}
}

// Target says where an instance should be. An instance without a target and
// without grants is forgotten.
func (l *Ledger) Target(i rota.Instance, t Target) {
	e := l.entry(i)
	if e.target == t {
		return
	}
	e.target = t
	l.due[i] = e
}

// Ready answers what to write next. gen is the generation that new grants get:
// greater than every one before. Nothing changes until Record confirms; asked
// again before that, it answers the same.
func (l *Ledger) Ready(gen rota.Generation) Effects {
	var (
		out   Effects
		plans = l.inOrder(l.due)
		extra counts // moves begun in this answer, not yet recorded
	)
	for _, i := range plans {
		e := l.due[i]
		l.recount(e)
		switch l.step(i, e, gen, &extra, &out) {
		case clean:
			delete(l.due, i)
			delete(l.waiting, i)
			if len(e.holds) == 0 && e.target.Worker == "" {
				delete(l.entries, i)
			}
		case limited:
			delete(l.due, i)
			l.waiting[i] = e
		case busy:
			delete(l.waiting, i)
		}
	}
	if len(l.waiting) > 0 && l.room(extra) {
		for _, i := range l.inOrder(l.waiting) {
			e := l.waiting[i]
			switch l.step(i, e, gen, &extra, &out) {
			case clean:
				delete(l.waiting, i)
			case busy:
				delete(l.waiting, i)
				l.due[i] = e
			case limited:
			}
			if !l.room(extra) {
				break
			}
		}
	}
	return out
}

// Running is the number of instances that run where they should, as of the last Ready.
func (l *Ledger) Running() int { return l.running }

// Moving is the number of moves under way.
func (l *Ledger) Moving() int { return l.moving }

type verdict uint8

const (
	clean   verdict = iota // as it should be, or waiting for somebody else
	busy                   // effects were given; look again when they are recorded
	limited                // would move, but for the limits
)

// orLimited is limited, unless effects were given already: then the entry is
// looked at again when they are recorded.
func (v verdict) orLimited() verdict {
	if v == busy {
		return busy
	}
	return limited
}

// step gives the effects that e needs now.
func (l *Ledger) step(i rota.Instance, e *entry, gen rota.Generation, extra *counts, out *Effects) verdict {
	v := clean
	session := l.sessions[e.target.Worker]
	overlap := e.target.Mode == rota.Available
	var living, fitting, started int
	there := false // some grant, of whatever age, is at the target
	for _, h := range e.holds {
		if renew := overlap && session != 0 && h.fits(e.target) && !l.lives(h); renew {
			continue // it may still run there: the new grant replaces this one
		}
		there = there || h.worker == e.target.Worker
		if !l.lives(h) || h.state == Stopped {
			out.Release = append(out.Release, h.held(i))
			v = busy
			continue
		}
		living++
		if h.fits(e.target) {
			fitting++
			if h.state == Running {
				started++
			}
		}
	}
	for _, h := range e.holds {
		if !l.lives(h) || h.state == Stopped || h.revoked || h.fits(e.target) {
			continue
		}
		switch {
		case e.target.Worker == "": // it should be nowhere
		case h.worker == e.target.Worker || !overlap:
			if session == 0 {
				l.block(i, e)
				continue // nobody is there to take it
			}
			if !l.admit(e, h.worker, extra) {
				return v.orLimited()
			}
		case started == 0:
			continue // its successor does not run yet
		}
		out.Revoke = append(out.Revoke, h.held(i))
		v = busy
	}
	switch {
	case e.target.Worker == "" || fitting > 0 || living > 0 && !overlap:
		return v
	case session == 0:
		l.block(i, e)
		return v
	case there:
		return v // one grant a worker: the old one must be gone first
	case living > 0 && !l.admit(e, e.holds[0].worker, extra):
		return v.orLimited()
	}
	out.Grant = append(out.Grant, Held{e.target.Worker, Grant{
		Instance: i, Generation: gen, Session: session, Spec: e.target.Spec, Reason: e.target.Reason,
	}})
	return busy
}

// block remembers that i waits for its target to have a session.
func (l *Ledger) block(i rota.Instance, e *entry) {
	w := e.target.Worker
	if l.blocked[w] == nil {
		l.blocked[w] = map[rota.Instance]struct{}{}
	}
	l.blocked[w][i] = struct{}{}
}

// lives reports whether the session that h was given to is the worker's living one.
func (l *Ledger) lives(h hold) bool { return h.session == l.sessions[h.worker] }

func (h hold) held(i rota.Instance) Held {
	return Held{h.worker, Grant{Instance: i, Generation: h.gen, Session: h.session, Revoked: h.revoked, Spec: h.spec}}
}

// counts are moves begun in one answer of Ready.
type counts struct {
	inAll    int
	byWorker map[string]int
}

// admit begins the move of e away from a worker, if the limits allow it. A move
// already counted is admitted again.
func (l *Ledger) admit(e *entry, from string, extra *counts) bool {
	if e.from != "" {
		return true
	}
	to := e.target.Worker
	if !l.room(*extra) {
		return false
	}
	if m := l.Limits.PerWorker; m > 0 &&
		(l.byWorker[from]+extra.byWorker[from] >= m || l.byWorker[to]+extra.byWorker[to] >= m) {
		return false
	}
	extra.inAll++
	if extra.byWorker == nil {
		extra.byWorker = map[string]int{}
	}
	extra.byWorker[from]++
	extra.byWorker[to]++
	return true
}

func (l *Ledger) room(extra counts) bool {
	return l.Limits.InAll <= 0 || l.moving+extra.inAll < l.Limits.InAll
}

// recount says anew whether e is a move under way: it is while an old owner is
// being stopped, or a new one starts beside it, until the new one runs.
func (l *Ledger) recount(e *entry) {
	from, to := "", e.target.Worker
	arriving, running, on := false, false, false
	for _, h := range e.holds {
		if l.lives(h) && h.fits(e.target) {
			arriving = true
			on = h.state == Running
			running = on || h.state == Backoff
		}
	}
	for _, h := range e.holds {
		if l.lives(h) && !h.fits(e.target) && (h.revoked || arriving) {
			from = h.worker
		}
	}
	switch {
	case to == "":
		from = ""
	case from == "" && !running:
		from = e.from // the old owner has stopped, the new one does not run yet
	}
	if from == "" {
		to = ""
	}
	if on != e.running {
		e.running = on
		if on {
			l.running++
		} else {
			l.running--
		}
	}
	if from == e.from && to == e.to {
		return
	}
	l.count(e.from, e.to, -1)
	e.from, e.to = from, to
	l.count(from, to, +1)
}

func (l *Ledger) count(from, to string, by int) {
	if from == "" {
		return
	}
	l.moving += by
	for _, w := range []string{from, to} {
		l.byWorker[w] += by
		if l.byWorker[w] == 0 {
			delete(l.byWorker, w)
		}
	}
}

// inOrder lists a set by priority, then by name, so that answers do not depend
// on the order of maps.
func (l *Ledger) inOrder(set map[rota.Instance]*entry) []rota.Instance {
	out := make([]rota.Instance, 0, len(set))
	for i := range set {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b rota.Instance) int {
		if c := cmp.Compare(set[b].target.Priority, set[a].target.Priority); c != 0 {
			return c
		}
		return a.Compare(b)
	})
	return out
}
