package balance

import (
	"slices"
	"sync"
	"sync/atomic"
)

// MaxWorkers is the maximum number of members of a Set.
const MaxWorkers = 1 << 16

// scanMost is the number of workers up to which looking at all of them beats an
// index, and is exact.
const scanMost = 16

// Member is a worker in a Set.
type Member struct {
	Worker *Worker
	// Weight is the worker's share of the calls, relative to the others. Weight 0 means
	// never for Random, and the smallest share for other rules. Weights above 1<<30 count
	// as 1<<30.
	Weight int
}

// Set is the set of workers that may be picked. The zero value is an empty Set. Pick may be
// called at any time, concurrently and while Update runs; it takes no lock.
type Set struct {
	snap  atomic.Pointer[snapshot]
	total striped
	_     [64]byte
	turn  atomic.Uint64 // round-robin
	_     [56]byte
	exact atomic.Bool // a rule asked for the level index
	mu    sync.Mutex  // serializes Update
}

// snapshot is immutable but for its level index.
type snapshot struct {
	members []Member
	workers []*Worker
	byName  map[string]*Worker
	alias   []aliasSlot // weighted random
	table   []uint16    // hash → index in workers
	ring    ring        // olscheduler's own, for pkg-aware
	levels  *levels     // nil up to scanMost workers
	even    float64     // of all calls in flight, a worker's even part, times its gain
}

// Update replaces the members. Workers with calls in flight may leave; their picks are
// released as usual. The order matters only to RoundRobin.
func (s *Set) Update(members []Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.update(members)
}

func (s *Set) update(members []Member) {
	old := s.snap.Load()
	n := newSnapshot(members, old, s.exact.Load())
	if old != nil {
		for _, w := range old.workers {
			if n.byName[w.name] != w {
				w.leave(old.levels)
			}
		}
	}
	if n.levels != nil {
		for i, w := range n.workers {
			w.join(old.index(), &place{in: n.levels, slot: i})
		}
	}
	s.snap.Store(n)
	// Calls that moved between reading the loads and publishing are caught here.
	for _, w := range n.workers {
		w.sync()
	}
}

func (s *snapshot) index() *levels {
	if s == nil {
		return nil
	}
	return s.levels
}

// join swaps the worker's place in the index old for p. leave drops it.
// Only Set.Update calls them; a worker may be in several Sets.
func (w *Worker) join(old *levels, p *place) {
	for {
		was := w.places.Load()
		var next []*place
		if was != nil {
			next = slices.DeleteFunc(slices.Clone(*was), func(q *place) bool { return old != nil && q.in == old })
		}
		next = append(next, p)
		if w.places.CompareAndSwap(was, &next) {
			return
		}
	}
}

func (w *Worker) leave(old *levels) {
	for old != nil {
		was := w.places.Load()
		if was == nil {
			return
		}
		next := slices.DeleteFunc(slices.Clone(*was), func(q *place) bool { return q.in == old })
		var p *[]*place
		if len(next) > 0 {
			p = &next
		}
		if w.places.CompareAndSwap(was, p) {
			return
		}
	}
}

func newSnapshot(members []Member, old *snapshot, exact bool) *snapshot {
	members = slices.Clone(members)
	if len(members) > MaxWorkers {
		members = members[:MaxWorkers]
	}
	n := &snapshot{members: members, byName: make(map[string]*Worker, len(members))}
	for i := range members {
		members[i].Weight = min(members[i].Weight, 1<<30)
	}
	most, weights := 1, 0
	for _, m := range members {
		n.workers = append(n.workers, m.Worker)
		n.byName[m.Worker.name] = m.Worker
		weights += max(m.Weight, 1)
		most = max(most, m.Weight)
	}
	for i, m := range members {
		m.Worker.slot.Store(uint32(i))
		m.Worker.setScale(uint32(min(uint64(most)*fullShare/uint64(max(m.Weight, 1)), mostGain)))
	}
	n.even = float64(most) * fullShare / float64(max(weights, 1))
	if old != nil && slices.Equal(old.members, members) {
		n.alias, n.table, n.ring = old.alias, old.table, old.ring
	} else {
		n.alias, n.table, n.ring = newAlias(members), newTable(members), newRing(n.workers)
	}
	if exact && len(members) > scanMost {
		n.levels = newLevels(n.workers)
	}
	return n
}

// index builds the level index for the first rule that needs it; Sets that do
// without save its upkeep on every call.
func (s *Set) index(n *snapshot) {
	if s.exact.CompareAndSwap(false, true) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.update(n.members)
	}
}

// has says whether w is a member.
func (n *snapshot) has(w *Worker) bool {
	// The slot is only a hint: w may be in other Sets too.
	if i := int(w.slot.Load()); i < len(n.workers) && n.workers[i] == w {
		return true
	}
	return n.byName[w.name] == w
}

// Workers returns the members' workers, in order. Do not change the slice.
func (s *Set) Workers() []*Worker {
	if n := s.snap.Load(); n != nil {
		return n.workers
	}
	return nil
}

// Call is the input of a rule. The caller owns it and may reuse it for the next call; rules
// keep nothing of it.
type Call struct {
	// Fn is the called function. Nil is a function without a name.
	Fn *Fn
	// Key is the hash of the value that Sticky uses, or 0 to use the function.
	Key uint64
	// Owner is the name of the worker that the rule Owner must pick.
	Owner string
	// Rand is a fresh random number for each pick.
	Rand uint64
	// Now is a monotonic time in nanoseconds.
	Now int64
	// Tried are workers that must not be picked again, terminated by nil.
	Tried [4]*Worker
}

func (c *Call) avoiding() bool { return c.Tried[0] != nil }

func (c *Call) avoids(w *Worker) bool {
	if c.Tried[0] == nil {
		return false
	}
	for _, t := range c.Tried {
		if t == w {
			return true
		}
	}
	return false
}

func (c *Call) hash() uint64 {
	switch {
	case c.Key != 0:
		return c.Key
	case c.Fn != nil:
		return c.Fn.hash
	}
	return 0
}

// Rule chooses a worker and reserves a place on it. Rules are values, made by RuleByName or
// as literals, and safe for concurrent use. The set of rules is closed, because they access
// the snapshot; use Custom for a rule of your own.
type Rule interface {
	// Name returns the rule's name in configuration files.
	Name() string
	// pick returns a worker on which a place has been reserved, or nil if
	// there is none, and what the rule must be told when the call ends. The
	// snapshot has workers.
	pick(s *Set, n *snapshot, c *Call) (*Worker, feedback)
}

// feedback is what a rule learns from.
type feedback uint8

const (
	wantsLatency feedback = 1 << iota
	wantsWarm             // which worker finished which function
	wantsTotal            // the number of calls in flight on the whole Set
	wantsSlow             // how long a warm call took
	wantsDone             // that the call has ended
)

// Pick is a place reserved on a worker. Set.Pick fills it; Done or Release gives the place
// back, of which the first call counts and later ones do nothing. It is not safe for
// concurrent use, and must not be copied while it holds a place. The zero value holds none
// and is ready to use.
type Pick struct {
	w     *Worker
	fn    *Fn
	total *atomic.Uint64 // the counter of the Set's calls in flight that holds this one
	wish  feedback
	asked Picker // to be told of the end
}

// Pick reserves a place on the worker that the rule chooses and records it in p, which must
// not hold one. It returns the worker; nil if no worker has a place.
func (s *Set) Pick(r Rule, c *Call, p *Pick) *Worker {
	n := s.snap.Load()
	if n == nil || len(n.workers) == 0 {
		return nil
	}
	w, wish := r.pick(s, n, c)
	if w == nil {
		return nil
	}
	p.w, p.fn, p.wish = w, c.Fn, wish
	if wish&wantsDone != 0 {
		p.asked = r.(Custom).Picker //nolint:forcetypeassert // no other rule wishes it
	}
	if wish&wantsTotal != 0 {
		p.total = s.total.part(c.Rand)
		p.total.Add(1)
	}
	return w
}

// Worker returns the picked worker; nil if there was none, or after Release.
func (p *Pick) Worker() *Worker { return p.w }

// Release gives the place back without learning from the call: it failed, was not sent, or
// its outcome is unknown.
func (p *Pick) Release() {
	w := p.w
	if w == nil {
		return
	}
	p.w = nil
	w.release()
	if p.asked != nil {
		p.asked.Done(p.fn, w.name)
		p.asked = nil
	}
	if p.total != nil {
		p.total.Add(^uint64(0))
		p.total = nil
	}
}

// Done gives the place back after an answer. took is the time until the answer and now the
// current time, both in nanoseconds; the rules learn from them.
func (p *Pick) Done(now, took int64) {
	w := p.w
	if w == nil {
		return
	}
	if p.wish&wantsLatency != 0 {
		w.observe(now, took)
	}
	if p.wish&wantsSlow != 0 {
		w.learn(p.fn, now, took)
	}
	if p.wish&wantsWarm != 0 && p.fn != nil {
		p.fn.warm.push(w, now)
	}
	p.Release()
}

// striped counts calls in flight over the whole Set on several cache lines.
type striped [stripes]struct {
	n atomic.Uint64
	_ [56]byte
}

const stripes = 4

func (s *striped) part(rnd uint64) *atomic.Uint64 { return &s[rnd>>56%stripes].n }

func (s *striped) sum() uint64 {
	var t uint64
	for i := range s {
		t += s[i].n.Load()
	}
	if int64(t) < 0 { // an add seen before the one that it takes back
		return 0
	}
	return t
}
