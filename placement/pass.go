package placement

import (
	"slices"
	"strconv"

	"github.com/rota-project/rota"
)

// pass is one run of the planner. It moves instances in the planner's own state,
// writes down each step, and takes all steps back at its end.
type pass struct {
	p *Planner

	// Of the workers, as begin found them.
	ready        []int32 // those that may be given something, by name
	attention    []int32 // those that may hold what they should not
	strength     float64 // of all ready workers
	sameStrength bool    // each has the same
	sum          amount  // declared weight on ready workers
	goal         float64 // the mean once all is placed
	sole         int32   // the only domain, if there is but one
	ranks        []uint32

	// What the pass does.
	steps         []step
	log           []int32 // workers whose level changed, in order
	pending       []entry
	displaced     []entry // by preemption
	split         []int32 // instances whose key is on several workers
	waiting       []waiting
	detached      []entry          // what was nowhere when the pass began to place it
	origin        map[int32]int32  // where what may go back came from
	evicted       map[int32]cause  // what this pass took from where it was
	gangs         map[int32]string // gangs that were tried, and why they may not run
	parted        map[int32]bool   // taken from unwanted company
	listedNowhere bool             // what is to be placed may be in the list of what is nowhere
	pledged       int              // the last steps, if they are in no list: see settleAlike
	loads         []amount         // of the ready workers before those

	trees map[int32]*tree // by domain, emptiest first
	low   tree            // all ready workers, emptiest first
	high  tree            // all ready workers, fullest first

	// What the budgets count.
	moved   int            // chosen moves
	movedAt map[int32]int  // chosen moves by worker
	spent   int            // looks at instances while balancing
	swaps   int            // searches for a swap
	taken   map[int32]int  // running instances taken from their workers, by group
	takenIn map[string]int // the same by zone
	zones   map[string]int // instances by zone

	marks   []uint64
	touched int32 // keeps reads for their own sake from being left out
	reasons map[cause]string
	whys    map[profile]why
}

// step is one tentative move.
type step struct {
	inst, from, to int32
	why            cause
}

// cause is a reason before anybody asks for its words.
type cause struct {
	code rota.ReasonCode
	arg  int32 // a worker or a key, or what the code needs
}

type waiting struct {
	inst int32
	code rota.ReasonCode
	why
}

// why is what keeps an instance from all workers, in words, and from most of them.
type why struct {
	reason string
	most   Code
}

// begin looks at the workers.
func (s *pass) begin(p *Planner) {
	p.rescale()
	if p.version != p.settled {
		p.left = nil // things are not what they were
	}
	*s = pass{
		p: p, sole: p.sole(), sameStrength: true,
		ready: s.ready[:0], attention: s.attention[:0], ranks: s.ranks[:0],
		steps: s.steps[:0], log: s.log[:0], pending: s.pending[:0], waiting: s.waiting[:0],
		trees: s.trees, low: s.low, high: s.high, marks: s.marks,
	}
	for _, w := range p.order {
		k := &p.workers[w]
		if k.ready() {
			s.sameStrength = s.sameStrength && (len(s.ready) == 0 || k.strength == p.workers[s.ready[0]].strength)
			s.ready = append(s.ready, w)
			s.strength += k.strength
			s.sum = s.sum.plus(k.load)
		}
		if k.gone || k.drains || k.dirty {
			s.attention = append(s.attention, w)
		}
	}
	s.outdate()
}

// outdate has the trees built anew when they are next asked.
func (s *pass) outdate() {
	s.low.seen, s.high.seen = -1, -1
	for _, t := range s.trees {
		t.seen = -1
	}
}

func (s *pass) mean() float64 {
	if s.strength == 0 {
		return 0
	}
	if s.p.reports == 0 {
		return s.sum.float() / s.strength
	}
	sum := 0.0
	for _, w := range s.ready {
		sum += s.p.level[w] * s.p.workers[w].strength
	}
	return sum / s.strength
}

// imbalance is the fullest worker's level over the mean.
func (s *pass) imbalance() float64 {
	top, mean := 0.0, s.mean()
	for _, w := range s.ready {
		top = max(top, s.p.level[w])
	}
	if mean == 0 {
		return 1
	}
	return top / mean
}

// move is every change of place in a pass.
func (s *pass) move(i, to int32, why cause) {
	from := s.p.insts[i].worker
	if to == none {
		if s.evicted == nil {
			s.evicted = map[int32]cause{}
		}
		s.evicted[i] = why
	}
	s.steps = append(s.steps, step{i, from, to, why})
	s.shift(s.p.take(i), from, to)
}

// shift puts what was taken from one place to another and keeps the sums.
func (s *pass) shift(e entry, from, to int32) {
	p := s.p
	p.put(e, to)
	if from != none {
		s.log = append(s.log, from)
		if p.workers[from].ready() {
			s.sum = s.sum.minus(toAmount(e.weight))
		}
	}
	if to != none {
		s.log = append(s.log, to)
		if p.workers[to].ready() {
			s.sum = s.sum.plus(toAmount(e.weight))
		}
	}
}

// undo takes back the steps after the first n.
func (s *pass) undo(n int) {
	for k := len(s.steps) - 1; k >= n; k-- {
		st := &s.steps[k]
		var e entry
		if l := s.listOf(st.to); len(l) > 0 && l[len(l)-1].inst == st.inst {
			e = s.p.takeLast(st.to) // steps to a worker are mostly undone last in, first out
		} else {
			e = s.p.take(st.inst)
		}
		s.shift(e, st.to, st.from)
		if st.to == none && n > 0 {
			delete(s.evicted, st.inst)
		}
	}
	s.steps = s.steps[:n]
}

// tryOut makes tentative steps and takes them back, and returns what steps says.
// Levels end as they were, so the log need not tell of it.
func (s *pass) tryOut(steps func() bool) bool {
	mark, log := len(s.steps), len(s.log)
	ok := steps()
	s.undo(mark)
	s.log = s.log[:log]
	return ok
}

// restore takes back all steps. What was nowhere gets its old list again and
// not entry by entry.
func (s *pass) restore() {
	if s.detached == nil {
		s.undo(0)
		return
	}
	p := s.p
	if s.pledged > 0 { // then they are all that were placed
		s.steps = s.steps[:len(s.steps)-s.pledged]
		s.recall()
	}
	for k := len(s.steps) - 1; k >= 0; k-- {
		if k%ahead == ahead-1 && s.sole == none {
			s.touch(ahead, func(j int) int32 { return s.steps[k-j].inst })
		}
		st := &s.steps[k]
		if st.from != none {
			p.put(p.take(st.inst), st.from)
			continue
		}
		if l := p.workers[st.to].list; l[len(l)-1].inst == st.inst {
			p.takeLast(st.to)
		} else {
			p.take(st.inst)
		}
		in := &p.insts[st.inst]
		in.worker, in.pos = none, none
	}
	p.nowhere = s.detached[:0]
	for _, e := range s.detached {
		if in := &p.insts[e.inst]; in.worker == none { // others were evicted, and are back
			in.pos = int32(len(p.nowhere))
			p.nowhere = append(p.nowhere, e)
		}
	}
	s.steps = s.steps[:0]
}

// listOf returns what a worker holds; nothing for none.
func (s *pass) listOf(w int32) []entry {
	if w == none {
		return nil
	}
	return s.p.workers[w].list
}

// sync brings a tree up to date with the log, by single changes or, if they
// are many, anew.
func (s *pass) sync(t *tree, sign float64, keep func(int32) bool) *tree {
	switch behind := len(s.log) - t.seen; {
	case t.seen < 0 || behind*8 > len(s.ready)+64 && len(t.held) == 0:
		t.build(s.ready, len(s.p.workers), sign, s.p.level, keep)
	case behind > 0:
		for _, w := range s.log[t.seen:] {
			if leaf := t.at[w]; leaf != none && !slices.Contains(t.held, leaf) {
				t.set(leaf, sign*s.p.level[w])
			}
		}
	}
	t.seen = len(s.log)
	return t
}

// emptiest returns the tree of the ready workers of a domain.
func (s *pass) emptiest(domain int32) *tree {
	d := s.p.domains[domain]
	if s.trees == nil {
		s.trees = map[int32]*tree{}
	}
	t := s.trees[domain]
	if t == nil {
		t = &tree{seen: -1}
		s.trees[domain] = t
	}
	return s.sync(t, 1, d.has)
}

// Plan answers with the moves from the assignment that is to the one that
// should be. Nothing changes by asking.
func (p *Planner) Plan() rota.Plan {
	s := &p.scratch
	p.look()
	s.begin(p)
	before := s.imbalance()
	s.evict()
	braked := len(s.ready) < p.opt.MinWorkers
	if braked {
		s.brake()
	} else {
		s.place()
		if !p.opt.Freeze {
			for n := 0; n < 4 && s.reunite(); n++ {
				s.pending = s.pending[:0]
				s.place()
			}
			s.spread()
			s.balance()
		}
	}
	after := s.imbalance()
	return s.finish(before, after)
}

// brake puts back whatever the pass took and says why all that is nowhere waits.
func (s *pass) brake() {
	s.undo(0)
	reason := Text(rota.TooFewWorkers, strconv.Itoa(len(s.ready)), strconv.Itoa(s.p.opt.MinWorkers))
	s.pending = s.pending[:0]
	s.pending = append(s.pending, s.p.nowhere...)
	for _, w := range s.p.order {
		if s.p.workers[w].gone {
			s.pending = append(s.pending, s.p.workers[w].list...)
		}
	}
	s.inOrder(s.pending)
	for _, e := range s.pending {
		s.waiting = append(s.waiting, waiting{e.inst, rota.TooFewWorkers, why{reason: reason}})
	}
}

// Imbalance is the fullest ready worker's weight, per strength, over the mean;
// 1 is even, and so is an empty cluster.
func (p *Planner) Imbalance() float64 {
	s := &p.scratch
	s.begin(p)
	return s.imbalance()
}

// tolerance is how far from the mean a worker may be before balance looks at it.
func (s *pass) tolerance(mean float64) float64 {
	if _, equal := s.p.equalWeights(); equal {
		return 0
	}
	if s.p.reports > 0 {
		if s.p.opt.LoadBand > 0 {
			return mean * s.p.opt.LoadBand
		}
		return mean / 10
	}
	return mean / 100
}
