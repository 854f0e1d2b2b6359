package balance

import (
	"math"
	"math/bits"
	"strings"

	"github.com/rota-project/rota"
)

// rules are all of them with their usual settings.
func rules(threshold uint) []Rule {
	return []Rule{
		Smart{},
		RoundRobin{},
		Random{},
		LeastLoaded{},
		HashingBounded{},
		PkgAware{Threshold: threshold},
		P2C{},
		LeastLatency{},
		Pull{},
		Sticky{},
		Owner{},
	}
}

// Names returns the rules' names in configuration files.
func Names() []string {
	var names []string
	for _, r := range rules(0) {
		names = append(names, r.Name())
	}
	return names
}

// RuleByName returns the rule with this name and its default settings. threshold is
// PkgAware's; other rules ignore it. The error is a *rota.FieldError.
func RuleByName(name string, threshold uint) (Rule, error) {
	for _, r := range rules(threshold) {
		if r.Name() == name {
			return r, nil
		}
	}
	return nil, &rota.FieldError{Field: "balancer", Value: name, Want: "one of " + strings.Join(Names(), ", ")}
}

// below maps a random number to 0..n-1 (Lemire's multiplication).
func below(rnd uint64, n int) int {
	hi, _ := bits.Mul64(rnd, uint64(n))
	return int(hi)
}

// ramping says that a worker in slow start should let this call go by.
func (w *Worker) ramping(rnd uint64) bool {
	s := w.share.Load()
	return s != fullShare && uint32(rnd)&(fullShare-1) >= s
}

// RoundRobin picks the next worker in order.
type RoundRobin struct{}

// Name is "round-robin".
func (RoundRobin) Name() string { return "round-robin" }

func (RoundRobin) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	for pass := range 2 {
		for range n.workers {
			w := n.workers[(s.turn.Add(1)-1)%uint64(len(n.workers))]
			if pass == 0 && w.ramping(c.Rand) || c.avoids(w) {
				continue
			}
			if w.reserve() {
				return w, 0
			}
		}
	}
	return nil, 0
}

// Random picks at random, in proportion to weight. It never picks a worker of weight 0.
type Random struct{}

// Name is "random".
func (Random) Name() string { return "random" }

func (Random) pick(_ *Set, n *snapshot, c *Call) (*Worker, feedback) {
	if n.alias == nil {
		return nil, 0
	}
	rnd := c.Rand
	for range 8 {
		at, part := bits.Mul64(rnd, uint64(len(n.alias)))
		slot := n.alias[at]
		i := slot.self
		if uint32(part>>32) > slot.cut {
			i = slot.other
		}
		w := n.workers[i]
		if !w.ramping(rnd) && !c.avoids(w) && w.reserve() {
			return w, 0
		}
		rnd = mix(rnd + golden)
	}
	from := below(rnd, len(n.workers))
	for i := range n.workers {
		m := n.members[(from+i)%len(n.workers)]
		if m.Weight > 0 && !c.avoids(m.Worker) && m.Worker.reserve() {
			return m.Worker, 0
		}
	}
	return nil, 0
}

// LeastLoaded picks a worker with the fewest calls in flight for its weight. Ties are
// broken evenly: in turns among few workers, at random among many.
type LeastLoaded struct{}

// Name is "least-loaded".
func (LeastLoaded) Name() string { return "least-loaded" }

func (LeastLoaded) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	if n.levels == nil && len(n.workers) > scanMost {
		s.index(n)
		n = s.snap.Load()
	}
	return s.least(n, c), 0
}

// least takes the least loaded worker: of all, if they are few or the Set keeps
// an index, else the least loaded of some at random, and of all if those are
// full. Rules use it for what overflows.
func (s *Set) least(n *snapshot, c *Call) *Worker {
	if n.levels != nil {
		return n.levels.least(c.Rand, c)
	}
	for {
		best := n.leastOf(c, byGain)
		// A place taken meanwhile by another call makes this choice stale: look again.
		if best.w == nil || best.reserve() {
			return best.w
		}
	}
}

// HashingBounded is consistent hashing of the function's name with bounded loads (Mirrokni
// et al., SODA '18): it picks the worker that the name hashes to, unless that has more than
// Factor times its share of the calls in flight. An overflowing call jumps at random, by
// further hashes, instead of to the next worker in the ring (Chen et al., AAAI '21), which
// causes far fewer overflows.
type HashingBounded struct {
	// Factor is the bound, above 1. Zero means 1.25.
	Factor float64
}

// Name is "hashing-bounded".
func (HashingBounded) Name() string { return "hashing-bounded" }

func (r HashingBounded) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	factor := r.Factor
	if factor <= 1 {
		factor = 1.25
	}
	h, bound, avoiding := c.hash(), -1.0, c.avoiding()
	for range jumps {
		w := n.hashed(h)
		st := w.state.Load()
		// The bound is never below one call: who has none is within it.
		if st&takenMask != 0 && bound < 0 {
			bound = factor * float64(s.total.sum()+1) * n.even
		}
		if (st&takenMask == 0 || w.below(st, bound)) && (!avoiding || !c.avoids(w)) && w.reserveAt(st, 0) {
			return w, wantsTotal
		}
		h = mix(h + golden)
	}
	// Never more than the bound while one is below it: somebody always is.
	bound = factor * float64(s.total.sum()+1) * n.even
	from := below(h, len(n.workers))
	for i := range n.workers {
		w := n.workers[(from+i)%len(n.workers)]
		if st := w.state.Load(); w.below(st, bound) && !c.avoids(w) && w.reserveAt(st, 0) {
			return w, wantsTotal
		}
	}
	return s.least(n, c), wantsTotal
}

// below says that the worker is free and its calls in flight, weighted, are below
// the bound.
func (w *Worker) below(state uint64, bound float64) bool {
	return w.free(state) && float64(state&inflightMask*w.gains[byGain].Load()) < bound
}

const (
	// jumps is how often a hash looks elsewhere before the least loaded is taken.
	jumps = 8
	// golden is 2^64 divided by the golden ratio: steps of it never meet.
	golden = 0x9e3779b97f4a7c15
)

// PkgAware is olscheduler's rule (PASch, CCGrid '19). The largest package of a function
// hashes to two workers. When the function is first seen, the less loaded of them becomes
// its home, and stays its home as long as it is one of the two and accepts calls. If the
// home has Threshold or more calls in flight, the least loaded worker is picked instead.
type PkgAware struct {
	// Threshold is a number of calls in flight; 0 means that a function never leaves its
	// home.
	Threshold uint
}

// Name is "pkg-aware".
func (PkgAware) Name() string { return "pkg-aware" }

func (r PkgAware) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	if c.Fn == nil {
		return s.least(n, c), 0
	}
	h := c.Fn.home.Load()
	if h == nil || h.snap != n || h.w.Closed() {
		if h = c.Fn.settle(n, h); h == nil {
			return nil, 0
		}
	}
	for {
		st := h.w.state.Load()
		if r.Threshold > 0 && st&inflightMask >= uint64(r.Threshold) || !h.w.free(st) || c.avoids(h.w) {
			return s.least(n, c), 0
		}
		if h.w.reserveAt(st, 0) {
			return h.w, 0
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

// P2C picks the less loaded of two random workers (Mitzenmacher, 2001).
type P2C struct{}

// Name is "p2c".
func (P2C) Name() string { return "p2c" }

func (P2C) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	rnd := c.Rand
	for range 4 {
		pair := n.two(rnd)
		sa, sb := pair[0].state.Load(), pair[1].state.Load()
		base, a, b := rankBase(sa), uint64(noRank), uint64(noRank)
		if pair[0].free(sa) && !c.avoids(pair[0]) {
			a = rank(base, pair[0].load(sa), sa)
		}
		if pair[1].free(sb) && !c.avoids(pair[1]) {
			b = rank(base, pair[1].load(sb), sb) | 1
		}
		best, st := a, sa
		if b < a {
			best, st = b, sb
		}
		if w := pair[best&1]; best != noRank && (w.reserveAt(st, 0) || w.reserve()) {
			return w, 0
		}
		rnd = mix(rnd + 1)
	}
	return s.least(n, c), 0
}

// two returns two workers, different ones if there are two.
func (n *snapshot) two(rnd uint64) [2]*Worker {
	k := len(n.workers)
	i := int((rnd >> 32) * uint64(k) >> 32)
	j := int((rnd & (1<<32 - 1)) * uint64(max(k-1, 1)) >> 32)
	if j >= i && k > 1 {
		j++
	}
	return [2]*Worker{n.workers[i], n.workers[j]}
}

// LeastLatency picks, of two random workers, the one whose answer is expected first: by the
// peak EWMA of its latency times its calls in flight (as in Finagle).
type LeastLatency struct{}

// Name is "least-latency".
func (LeastLatency) Name() string { return "least-latency" }

func (LeastLatency) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	rnd := c.Rand
	for range 4 {
		pair := n.two(rnd)
		sa, sb := pair[0].state.Load(), pair[1].state.Load()
		costs := [2]float64{pair[0].cost(sa, c.Now), pair[1].cost(sb, c.Now)}
		if !pair[0].free(sa) || c.avoids(pair[0]) {
			costs[0] = math.Inf(1)
		}
		if !pair[1].free(sb) || c.avoids(pair[1]) {
			costs[1] = math.Inf(1)
		}
		w := pair[0]
		if costs[1] < costs[0] {
			w = pair[1]
		}
		if !c.avoids(w) && w.reserve() {
			return w, wantsLatency
		}
		rnd = mix(rnd + 1)
	}
	return s.least(n, c), wantsLatency
}

// Pull picks a worker that recently finished this function and so has an idle instance of
// it: the least loaded of some such workers (Hiku, CCGrid '25, where workers pull by
// finishing). Without one, it picks the least loaded worker.
type Pull struct{}

// Name is "pull".
func (Pull) Name() string { return "pull" }

func (Pull) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	if c.Fn != nil {
		if w, _, ok := c.Fn.warm.pop(n, c, byGain, math.MaxUint64); ok {
			return w, wantsWarm
		}
	}
	return s.least(n, c), wantsWarm
}

// Sticky sends all calls with the same Key to one worker as long as it accepts calls. A
// worker that joins or leaves moves few keys besides its own.
type Sticky struct{}

// Name is "sticky".
func (Sticky) Name() string { return "sticky" }

func (Sticky) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	if c.Key == 0 {
		return s.least(n, c), 0 // no session yet
	}
	h := c.Key
	for range jumps {
		if w := n.hashed(h); !c.avoids(w) && w.reserve() {
			return w, 0
		}
		h = mix(h + golden)
	}
	return s.least(n, c), 0
}

// Owner picks the worker that Call.Owner names, and no other.
type Owner struct{}

// Name is "owner".
func (Owner) Name() string { return "owner" }

func (Owner) pick(_ *Set, n *snapshot, c *Call) (*Worker, feedback) {
	if w := n.byName[c.Owner]; w != nil && !c.avoids(w) && w.reserve() {
		return w, 0
	}
	return nil, 0
}
