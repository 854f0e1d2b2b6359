package balance

import (
	"math/bits"

	"github.com/rota-project/rota"
)

// Names are the rules' names in configuration files.
func Names() []string {
	return []string{
		"smart", "round-robin", "random", "least-loaded", "hashing-bounded", "pkg-aware",
		"p2c", "least-latency", "pull", "sticky", "owner",
	}
}

// RuleByName returns the rule of that name with its usual settings. threshold is
// PkgAware's; other rules do without. The error is a *rota.FieldError.
func RuleByName(name string, threshold uint) (Rule, error) {
	switch name {
	case "smart":
		return Smart{}, nil
	case "round-robin":
		return RoundRobin{}, nil
	case "random":
		return Random{}, nil
	case "least-loaded":
		return LeastLoaded{}, nil
	case "hashing-bounded":
		return HashingBounded{}, nil
	case "pkg-aware":
		return PkgAware{Threshold: threshold}, nil
	case "p2c":
		return P2C{}, nil
	case "least-latency":
		return LeastLatency{}, nil
	case "pull":
		return Pull{}, nil
	case "sticky":
		return Sticky{}, nil
	case "owner":
		return Owner{}, nil
	}
	return nil, &rota.FieldError{Field: "balancer", Value: name, Want: "one of " + join(Names())}
}

func join(s []string) string {
	var b []byte
	for i, n := range s {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, n...)
	}
	return string(b)
}

// below maps a random number to 0..n-1 (Lemire's multiplication).
func below(rnd uint64, n int) int {
	hi, _ := bits.Mul64(rnd, uint64(n))
	return int(hi)
}

// ramping says that a worker in slow start should let this call go by.
func (w *Worker) ramping(rnd uint64) bool {
	s := w.share.Load()
	return s != fullShare && rnd&(fullShare-1) >= s
}

// RoundRobin takes the next worker in order.
type RoundRobin struct{}

// Name is "round-robin".
func (RoundRobin) Name() string    { return "round-robin" }
func (RoundRobin) needs() feedback { return 0 }
func (RoundRobin) pick(s *Set, n *snapshot, c *Call) *Worker {
	for pass := range 2 {
		for range n.workers {
			w := n.workers[(s.turn.Add(1)-1)%uint64(len(n.workers))]
			if pass == 0 && w.ramping(c.Rand) || c.avoids(w) {
				continue
			}
			if w.reserve() {
				return w
			}
		}
	}
	return nil
}

// Random takes one at random, in proportion to weight. Weight 0 is never taken.
type Random struct{}

// Name is "random".
func (Random) Name() string    { return "random" }
func (Random) needs() feedback { return 0 }
func (Random) pick(_ *Set, n *snapshot, c *Call) *Worker {
	if n.alias == nil {
		return nil
	}
	rnd := c.Rand
	for range 8 {
		slot := n.alias[below(rnd, len(n.alias))]
		i := slot.self
		if uint32(mix(rnd)) > slot.cut {
			i = slot.other
		}
		w := n.workers[i]
		if !w.ramping(rnd) && !c.avoids(w) && w.reserve() {
			return w
		}
		rnd = mix(rnd + 0x9e3779b97f4a7c15)
	}
	from := below(rnd, len(n.workers))
	for i := range n.workers {
		m := n.members[(from+i)%len(n.workers)]
		if m.Weight > 0 && !c.avoids(m.Worker) && m.Worker.reserve() {
			return m.Worker
		}
	}
	return nil
}

// LeastLoaded takes a worker with the fewest calls in flight for its weight,
// ties broken evenly: in turns among few workers, at random among many.
type LeastLoaded struct{}

// Name is "least-loaded".
func (LeastLoaded) Name() string    { return "least-loaded" }
func (LeastLoaded) needs() feedback { return 0 }
func (LeastLoaded) pick(s *Set, n *snapshot, c *Call) *Worker {
	if n.levels == nil && len(n.workers) > scanMost {
		s.index(n)
		n = s.snap.Load()
	}
	return s.least(n, c)
}

// least takes the least loaded worker: of all, if they are few or the Set keeps
// an index, else the least loaded of some at random, and of all if those are
// full. Rules use it for what overflows.
func (s *Set) least(n *snapshot, c *Call) *Worker {
	if n.levels != nil {
		return n.levels.least(mix(c.Rand), c)
	}
	for {
		w, st, _ := n.leastOf(s, c)
		if w == nil {
			return nil
		}
		// A place taken meanwhile by another call makes this choice stale: look again.
		if w.reserveAt(st) {
			return w
		}
	}
}

// leastOf looks for the least loaded worker without reserving a place: of all
// if they are few, else of four at random, and of all if those are full.
func (n *snapshot) leastOf(s *Set, c *Call) (best *Worker, state, load uint64) {
	load = ^uint64(0)
	if len(n.workers) > scanMost {
		rnd := mix(c.Rand)
		for i := range 4 {
			w := n.workers[int((rnd>>(16*i)&0xffff)*uint64(len(n.workers))>>16)]
			st := w.state.Load()
			if !w.free(st) || c.avoids(w) {
				continue
			}
			if l := w.load(st); l < load {
				best, state, load = w, st, l
			}
		}
		if best != nil {
			return best, state, load
		}
	}
	from, at := int(s.last.Load()%uint64(len(n.workers))), 0
	for i := range n.workers {
		j := from + i
		if j >= len(n.workers) {
			j -= len(n.workers)
		}
		w := n.workers[j]
		st := w.state.Load()
		if !w.free(st) || c.avoids(w) {
			continue
		}
		if l := w.load(st); l < load {
			best, state, load, at = w, st, l, j
		}
	}
	if best != nil {
		s.last.Store(uint64(at + 1))
	}
	return best, state, load
}

// HashingBounded is consistent hashing with bounded loads (Mirrokni et al.,
// SODA '18) of the function's name: the worker that the name hashes to, unless
// it has more than Factor times its part of the calls in flight. What overflows
// jumps at random, by further hashes, instead of to the ring's next (Chen et
// al., AAAI '21), which makes for far fewer overflows.
type HashingBounded struct {
	// Factor is the bound, above 1. Zero means 1.25.
	Factor float64
}

// Name is "hashing-bounded".
func (HashingBounded) Name() string    { return "hashing-bounded" }
func (HashingBounded) needs() feedback { return wantsTotal }
func (r HashingBounded) pick(s *Set, n *snapshot, c *Call) *Worker {
	factor := r.Factor
	if factor <= 1 {
		factor = 1.25
	}
	bound := n.bound(s.total.sum(), factor)
	h := c.hash()
	for range jumps {
		w := n.hashed(h)
		st := w.state.Load()
		if w.free(st) && !c.avoids(w) && w.load(st) <= bound && w.reserveAt(st) {
			return w
		}
		h = mix(h + 0x9e3779b97f4a7c15)
	}
	// Never more than the bound while one is below it: somebody always is.
	from := int(h % uint64(len(n.workers)))
	for i := range n.workers {
		w := n.workers[(from+i)%len(n.workers)]
		if st := w.state.Load(); w.load(st) <= bound && w.free(st) && !c.avoids(w) && w.reserveAt(st) {
			return w
		}
	}
	return s.least(n, c)
}

// jumps is how often a hash looks elsewhere before the least loaded is taken.
const jumps = 8

// bound is the highest load, in 1/256 of a call on the strongest worker, that
// the call to come may make: factor × the mean, rounded up to a whole call.
func (n *snapshot) bound(total uint64, factor float64) uint64 {
	if n.equal {
		return uint64(factor*float64(total+1)/float64(len(n.workers))+0.999999) * fullShare
	}
	most := 1
	for _, m := range n.members {
		most = max(most, m.Weight)
	}
	return uint64(factor*float64(total+1)*float64(most)/float64(max(n.weights, 1))+0.999999) * fullShare
}

// PkgAware is olscheduler's rule (PASch, CCGrid '19): a function belongs to the
// worker that its largest package hashes to. Two hashes name two candidates; the
// less loaded of them, when the function is first seen, is its home, and stays
// it as long as it is one of the two and takes calls. From Threshold calls in
// flight on the home the least loaded worker is taken instead.
type PkgAware struct {
	// Threshold is in calls in flight; 0 means that a function never leaves home.
	Threshold uint
}

// Name is "pkg-aware".
func (PkgAware) Name() string    { return "pkg-aware" }
func (PkgAware) needs() feedback { return 0 }
func (r PkgAware) pick(s *Set, n *snapshot, c *Call) *Worker {
	if c.Fn == nil {
		return s.least(n, c)
	}
	h := c.Fn.home.Load()
	if h == nil || h.snap != n || h.w.Closed() {
		if h = c.Fn.settle(n, h); h == nil {
			return nil
		}
	}
	for {
		st := h.w.state.Load()
		if r.Threshold > 0 && st&inflightMask >= uint64(r.Threshold) || !h.w.free(st) || c.avoids(h.w) {
			return s.least(n, c)
		}
		if h.w.reserveAt(st) {
			return h.w
		}
	}
}

// settle chooses the function's home in the snapshot.
func (f *Fn) settle(n *snapshot, old *home) *home {
	a, b := n.ring.open(f.ringAt[0]), n.ring.open(f.ringAt[1])
	if a == nil {
		return nil
	}
	w := a
	switch {
	case old != nil && (old.w == a || old.w == b):
		w = old.w
	case b.load(b.state.Load()) < a.load(a.state.Load()):
		w = b
	}
	h := &home{n, w}
	// Calls at one instant must settle on one home.
	if !f.home.CompareAndSwap(old, h) {
		if now := f.home.Load(); now != nil && now.snap == n && !now.w.Closed() {
			return now
		}
	}
	return h
}

// P2C takes the less loaded of two at random (Mitzenmacher, 2001).
type P2C struct{}

// Name is "p2c".
func (P2C) Name() string    { return "p2c" }
func (P2C) needs() feedback { return 0 }
func (P2C) pick(s *Set, n *snapshot, c *Call) *Worker {
	rnd := c.Rand
	for range 4 {
		a, b := n.two(rnd)
		sa, sb := a.state.Load(), b.state.Load()
		if b.free(sb) && !c.avoids(b) && (!a.free(sa) || c.avoids(a) || b.load(sb) < a.load(sa)) {
			a, sa = b, sb
		}
		if a.free(sa) && !c.avoids(a) && a.reserve() {
			return a
		}
		rnd = mix(rnd + 1)
	}
	return s.least(n, c)
}

// two returns two workers, different ones if there are two.
func (n *snapshot) two(rnd uint64) (a, b *Worker) {
	k := len(n.workers)
	i := int((rnd >> 32) * uint64(k) >> 32)
	j := int((rnd & (1<<32 - 1)) * uint64(max(k-1, 1)) >> 32)
	if j >= i && k > 1 {
		j++
	}
	return n.workers[i], n.workers[j]
}

// LeastLatency takes, of two at random, the one whose answer would come first:
// the peak EWMA of its latency times its calls in flight (Finagle's).
type LeastLatency struct{}

// Name is "least-latency".
func (LeastLatency) Name() string    { return "least-latency" }
func (LeastLatency) needs() feedback { return wantsLatency }
func (LeastLatency) pick(s *Set, n *snapshot, c *Call) *Worker {
	rnd := c.Rand
	for range 4 {
		a, b := n.two(rnd)
		sa, sb := a.state.Load(), b.state.Load()
		if b.free(sb) && !c.avoids(b) && (!a.free(sa) || c.avoids(a) || b.cost(sb, c.Now) < a.cost(sa, c.Now)) {
			a, sa = b, sb
		}
		if a.free(sa) && !c.avoids(a) && a.reserve() {
			return a
		}
		rnd = mix(rnd + 1)
	}
	return s.least(n, c)
}

// Pull asks first a worker that lately finished this function and so has an
// instance of it standing idle; the least loaded of those (Hiku, CCGrid '25:
// workers pull by finishing). Without one, the least loaded worker.
type Pull struct{}

// Name is "pull".
func (Pull) Name() string    { return "pull" }
func (Pull) needs() feedback { return wantsWarm }
func (Pull) pick(s *Set, n *snapshot, c *Call) *Worker {
	if c.Fn != nil {
		if i, w, st := c.Fn.warm.idle(n, c); i >= 0 && c.Fn.warm.take(i, w, st) {
			return w
		}
	}
	return s.least(n, c)
}

// Sticky sends calls of one Key to one worker as long as it takes calls; a
// worker that comes or goes moves little more than its own keys.
type Sticky struct{}

// Name is "sticky".
func (Sticky) Name() string    { return "sticky" }
func (Sticky) needs() feedback { return 0 }
func (Sticky) pick(s *Set, n *snapshot, c *Call) *Worker {
	if c.Key == 0 {
		return s.least(n, c) // no session yet
	}
	h := c.Key
	for range jumps {
		if w := n.hashed(h); !c.avoids(w) && w.reserve() {
			return w
		}
		h = mix(h + 0x9e3779b97f4a7c15)
	}
	return s.least(n, c)
}

// Owner picks the worker that Call.Owner names, and no other.
type Owner struct{}

// Name is "owner".
func (Owner) Name() string    { return "owner" }
func (Owner) needs() feedback { return 0 }
func (Owner) pick(_ *Set, n *snapshot, c *Call) *Worker {
	if w := n.byName[c.Owner]; w != nil && !c.avoids(w) && w.reserve() {
		return w
	}
	return nil
}
