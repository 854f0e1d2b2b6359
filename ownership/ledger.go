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
	// Revoked asks the worker to stop, and To is the worker that is to have the
	// instance then, as it was planned at that time; empty for none.
	Revoked bool
	To      string
	// Spec is the task's Target.Spec when it was granted, and Reason its
	// Target.Reason.
	Spec   uint64
	Reason string
}

// State is the state of an instance on a worker, as the worker acknowledges it.
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

// Limits bound the moves in progress. A move is in progress from when its old owner is
// asked to stop, or its new owner is granted beside it, until the new owner runs. An
// instance without a living owner is not a move and never waits. Zero means no limit.
type Limits struct {
	InAll     int // moves in the cluster
	PerWorker int // moves from or to one worker
}

// Effects are the next writes: Release and Revoke in any order and, once those are
// confirmed, Grant.
type Effects struct {
	Release []Held // remove the grant: its owner has stopped, or is away and not awaited
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
// safe for concurrent use. An event costs what it touches: an instance, or all
// that one worker holds, never the whole ledger.
type Ledger struct {
	Limits Limits

	entries  map[rota.Instance]*entry
	sessions map[string]int64
	leaving  map[string]struct{}            // workers that take nothing new in this session
	holds    map[string]map[*entry]struct{} // by worker, to find what a lost session held
	blocked  map[string]map[*entry]struct{} // by the target that they wait for
	due      []*entry                       // to be looked at
	moves    moves
	running  int
	asked    rota.Generation // the greatest that Ready was given
	aimed    *terms          // of the latest target
	granted  *terms          // of the latest grant
}

// entry is what is known of an instance. There may be a million of them: what is the same
// in many is shared, and what few have at a time is apart.
type entry struct {
	instance rota.Instance
	worker   string // of the target
	terms    *terms // of the target
	holds    []hold // oldest generation first
	first    [1]hold
	*passing
	due     bool // it is in Ledger.due
	running bool // counted as running where it should
}

// terms are what a target or a grant says beside its worker. They never change.
type terms struct {
	mode     rota.Mode
	priority float64
	spec     uint64
	reason   string
}

// share returns terms that say t: those that were shared last, if they do. What one plan
// says is the same for most of its instances.
func share(last **terms, t terms) *terms {
	if *last == nil || **last != t {
		fresh := t
		*last = &fresh
	}
	return *last
}

// none are the terms of whatever has no target.
var none = &terms{}

// target is where e should be.
func (e *entry) target() Target {
	return Target{Worker: e.worker, Mode: e.terms.mode, Priority: e.terms.priority, Spec: e.terms.spec, Reason: e.terms.reason}
}

// passing is what an entry has while something is under way. An entry shares nothing
// until it changes it: see own and settled.
type passing struct {
	blocked string // the key of Ledger.blocked under which it is
	early   *hold  // what was acknowledged of a grant that is not recorded yet
	// from and to of the move under way that this entry is counted for.
	from, to string
	hurried  bool // others wait for its move to end: no limit holds it up
	// The queue in which it waits for room, and where in it.
	queue *queue[*entry]
	pos   int
}

// nothing is the passing of all entries of which nothing is under way. It is never changed.
var nothing = &passing{}

// own is e's passing, to be changed.
func (e *entry) own() *passing {
	if e.passing == nothing {
		e.passing = &passing{}
	}
	return e.passing
}

// settled lets go of what is over.
func (e *entry) settled() {
	if *e.passing == *nothing {
		e.passing = nothing
	}
}

type hold struct {
	worker  string
	session int64
	gen     rota.Generation
	terms   *terms // its spec and its reason
	state   State  // the last acknowledged
	revoked bool
}

// aims reports whether h is where t asks for a grant, of whatever spec.
func (h hold) aims(t Target) bool { return h.worker == t.Worker && !h.revoked }

// fits reports whether h is the grant that t asks for.
func (h hold) fits(t Target) bool { return h.aims(t) && h.terms.spec == t.Spec }

// is reports whether h is of this worker and generation; nil is of none.
func (h *hold) is(worker string, gen rota.Generation) bool {
	return h != nil && h.worker == worker && h.gen == gen
}

// becomes takes a new state. Stopped is final for its generation: a late
// "running" does not undo it.
func (h *hold) becomes(s State) bool {
	if h.state == s || h.state == Stopped {
		return false
	}
	h.state = s
	return true
}

func (h hold) held(i rota.Instance) Held {
	return Held{h.worker, Grant{Instance: i, Generation: h.gen, Session: h.session, Revoked: h.revoked, Spec: h.terms.spec, Reason: h.terms.reason}}
}

// Record says that the store now holds grant g for worker, or, with removed,
// that it no longer holds the one of g's instance.
func (l *Ledger) Record(worker string, g Grant, removed bool) {
	if removed && l.entries[g.Instance] == nil {
		return
	}
	e := l.entry(g.Instance)
	at := slices.IndexFunc(e.holds, func(h hold) bool { return h.worker == worker })
	if removed {
		if at >= 0 {
			e.holds = slices.Delete(e.holds, at, at+1)
			drop(l.holds, worker, e)
		}
		l.touch(e)
		return
	}
	h := hold{worker: worker, session: g.Session, gen: g.Generation, revoked: g.Revoked, terms: share(&l.granted, terms{spec: g.Spec, reason: g.Reason})}
	if e.early.is(worker, g.Generation) {
		h.state, e.own().early = e.early.state, nil
		e.settled()
	}
	if at < 0 {
		e.holds = append(e.holds, h)
		add(l.holds, worker, e)
	} else {
		if e.holds[at].gen == h.gen && h.state == "" {
			h.state = e.holds[at].state
		}
		e.holds[at] = h
	}
	if len(e.holds) > 1 {
		slices.SortFunc(e.holds, func(a, b hold) int {
			return cmp.Or(cmp.Compare(a.gen, b.gen), cmp.Compare(a.worker, b.worker))
		})
	}
	l.touch(e)
}

// Session sets the worker's living session; 0 means none: its lease has ended, so it has
// stopped all exclusive instances by itself.
func (l *Ledger) Session(worker string, session int64) {
	l.init()
	if l.sessions[worker] == session {
		return
	}
	delete(l.leaving, worker)
	if session == 0 {
		delete(l.sessions, worker)
	} else {
		l.sessions[worker] = session
	}
	for e := range l.holds[worker] {
		l.touch(e)
	}
	for e := range l.blocked[worker] {
		l.touch(e)
	}
}

// Leaving says whether worker takes nothing new in its session. It still gives up its
// instances by acknowledging their stops.
func (l *Ledger) Leaving(worker string, leaving bool) {
	l.init()
	_, was := l.leaving[worker]
	switch {
	case leaving == was || l.sessions[worker] == 0:
	case leaving:
		l.leaving[worker] = struct{}{}
	default:
		delete(l.leaving, worker)
		for e := range l.blocked[worker] {
			l.touch(e)
		}
	}
}

// Ack says what worker acknowledged of an instance. One of an older generation
// than is recorded is of the past and changes nothing. One of a greater is kept
// for its Record: a worker may answer before the leader knows that its own
// write was done. When a ledger is loaded the grants are recorded first.
func (l *Ledger) Ack(worker string, i rota.Instance, gen rota.Generation, s State) {
	e := l.entries[i]
	if e == nil {
		return
	}
	for n := range e.holds {
		h := &e.holds[n]
		if h.worker != worker {
			continue
		}
		if h.gen == gen && h.becomes(s) {
			l.touch(e)
		}
		if h.gen >= gen {
			return
		}
	}
	if gen > l.asked || e.early != nil && e.early.gen > gen {
		return // nobody was given that, or something later is known
	}
	if !e.early.is(worker, gen) {
		e.own().early = &hold{worker: worker, gen: gen}
	}
	e.early.becomes(s)
}

// Target says where an instance should be. An instance without a target and
// without grants is forgotten.
func (l *Ledger) Target(i rota.Instance, t Target) {
	if t == (Target{}) && l.entries[i] == nil {
		return
	}
	e := l.entry(i)
	if e.target() == t {
		return
	}
	l.moves.leave(e) // its place in the queue goes by its priority
	e.worker, e.terms = t.Worker, share(&l.aimed, terms{mode: t.Mode, priority: t.Priority, spec: t.Spec, reason: t.Reason})
	if e.hurried {
		e.own().hurried = false
	}
	l.touch(e)
}

// Hurry has the move of an instance to its present target begin whatever the limits
// are: others wait for the room that it leaves. It reports whether that is new.
func (l *Ledger) Hurry(i rota.Instance) bool {
	e := l.entries[i]
	if e == nil || e.hurried {
		return false
	}
	e.own().hurried = true
	l.moves.leave(e)
	l.touch(e)
	return true
}

// Aboard are the instances that a worker may be running under its living session, in
// order of name: those that it has been granted, but for what has stopped.
func (l *Ledger) Aboard(worker string) []rota.Instance {
	out := make([]rota.Instance, 0, len(l.holds[worker]))
	for e := range l.holds[worker] {
		for _, h := range e.holds {
			if h.worker == worker && l.lives(h) && h.state != Stopped {
				out = append(out, e.instance)
			}
		}
	}
	slices.SortFunc(out, rota.Instance.Compare)
	return out
}

// Aim is the worker of an instance's target; empty if it should be nowhere.
func (l *Ledger) Aim(i rota.Instance) string {
	if e := l.entries[i]; e != nil {
		return e.worker
	}
	return ""
}

// Awaiting are the instances whose target is a worker that takes nothing now: they
// are its own when it returns, unless they get another target. In order of name.
func (l *Ledger) Awaiting(worker string) []rota.Instance {
	out := make([]rota.Instance, 0, len(l.blocked[worker]))
	for e := range l.blocked[worker] {
		out = append(out, e.instance)
	}
	slices.SortFunc(out, rota.Instance.Compare)
	return out
}

// Ready returns the next writes. gen is the generation of new grants: greater than every
// one before. Nothing changes until Record confirms; before that, another call returns the
// same. Of each kind of effect, those that need no room come first, and within both parts
// higher priorities come first.
func (l *Ledger) Ready(gen rota.Generation) Effects {
	l.init()
	l.asked = max(l.asked, gen)
	// All counts first: what was begun before takes its room before anything new.
	l.recount()
	var out Effects
	due := l.due[:0]
	for _, e := range l.due {
		if l.atRest(e) { // most, after a plan for many has come about: no order is needed
			e.due = false
			l.moves.leave(e)
			l.block(e, "")
			e.settled()
		} else {
			due = append(due, e)
		}
	}
	l.due = nil
	slices.SortFunc(due, (*entry).compare)
	if n := fresh(due); n > 1000 { // a million that grow by appending are copied many times
		out.Grant = make([]Held, 0, n)
	}
	for _, e := range due {
		e.due = false
		l.moves.leave(e)
		l.settle(e, l.step(e, gen, nil, &out))
	}
	l.moves.admit(l.Limits, func(e *entry, a *admission) verdict {
		v := l.step(e, gen, a, &out)
		if v != limited {
			l.settle(e, v)
		}
		return v
	})
	return out
}

// atRest reports whether e has the grant that it should have, and no other: step has
// nothing to say of it.
func (l *Ledger) atRest(e *entry) bool {
	return len(e.holds) == 1 && e.holds[0].state != Stopped && e.holds[0].fits(e.target()) && l.lives(e.holds[0])
}

// fresh is how many entries of a list are of instances that nobody has yet.
func fresh(list []*entry) (n int) {
	for _, e := range list {
		if len(e.holds) == 0 && e.worker != "" {
			n++
		}
	}
	return n
}

// Moving is the number of moves in progress. A move whose old owner is stuck is not
// counted: it may never end, and must not block the others.
func (l *Ledger) Moving() int {
	l.recount()
	return l.moves.inAll
}

// Running is the number of instances that run where they should.
func (l *Ledger) Running() int {
	l.recount()
	return l.running
}

// runs reports whether e runs where it should.
func (l *Ledger) runs(e *entry) bool {
	for n := range e.holds {
		if h := &e.holds[n]; h.state == Running && h.fits(e.target()) && l.lives(*h) {
			return true
		}
	}
	return false
}

// recount brings the counts up to date.
func (l *Ledger) recount() {
	for _, e := range l.due {
		from, to := l.moveOf(e)
		l.moves.set(e, from, to)
		if on := l.runs(e); on != e.running {
			e.running = on
			if on {
				l.running++
			} else {
				l.running--
			}
		}
	}
}

// settle puts e where the verdict says that it belongs.
func (l *Ledger) settle(e *entry, v verdict) {
	switch v {
	case busy:
		l.touch(e)
	case limited:
		l.moves.wait(e)
	case clean:
		e.settled()
		if len(e.holds) == 0 && e.worker == "" {
			delete(l.entries, e.instance)
		}
	}
}

func (l *Ledger) init() {
	if l.entries == nil {
		l.entries = map[rota.Instance]*entry{}
		l.sessions = map[string]int64{}
		l.leaving = map[string]struct{}{}
		l.holds = map[string]map[*entry]struct{}{}
		l.blocked = map[string]map[*entry]struct{}{}
	}
}

func (l *Ledger) entry(i rota.Instance) *entry {
	l.init()
	e := l.entries[i]
	if e == nil {
		e = &entry{instance: i, passing: nothing, terms: none}
		e.holds = e.first[:0]
		l.entries[i] = e
	}
	return e
}

// touch has e looked at by the next Ready.
func (l *Ledger) touch(e *entry) {
	if !e.due {
		e.due = true
		l.due = append(l.due, e)
	}
}

// block remembers that e waits for worker to take something; "" for nobody.
func (l *Ledger) block(e *entry, worker string) {
	if e.blocked == worker {
		return
	}
	if e.blocked != "" {
		drop(l.blocked, e.blocked, e)
	}
	if worker != "" {
		add(l.blocked, worker, e)
	}
	e.own().blocked = worker
}

// lives reports whether the session that h was given to is the worker's living one.
func (l *Ledger) lives(h hold) bool { return h.session != 0 && h.session == l.sessions[h.worker] }

// takes is the session under which worker takes something new; 0 if it does not.
func (l *Ledger) takes(worker string) int64 {
	if _, ok := l.leaving[worker]; ok {
		return 0
	}
	return l.sessions[worker]
}

// compare orders entries by priority, then by name, so that answers do not
// depend on the order of maps.
func (e *entry) compare(f *entry) int {
	return cmp.Or(cmp.Compare(f.terms.priority, e.terms.priority), e.instance.Compare(f.instance))
}

func add(m map[string]map[*entry]struct{}, key string, e *entry) {
	if m[key] == nil {
		m[key] = map[*entry]struct{}{}
	}
	m[key][e] = struct{}{}
}

func drop(m map[string]map[*entry]struct{}, key string, e *entry) {
	delete(m[key], e)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}
