package placement

import (
	"slices"

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
	waiting       []waiting
	detached      []entry          // what was nowhere when the pass began to place it
	origin        map[int32]int32  // where what may go back came from
	evicted       map[int32]cause  // what this pass took from where it was
	gangs         map[int32]string // gangs that were tried, and why they may not run
	parted        map[int32]bool   // taken from unwanted company
	listedNowhere bool             // what is to be placed may be in the list of what is nowhere

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
	reasons map[cause]string
	whys    map[profile]string
}

// step is one tentative move.
type step struct {
	inst, from, to int32
	why            cause
}

// cause is a reason before anybody asks for its words.
type cause struct {
	code reasonCode
	arg  int32 // a worker or a key, or what the code needs
}

type waiting struct {
	inst   int32
	reason string
}

// begin looks at the workers.
func (s *pass) begin(p *Planner) {
	p.rescale()
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
		if k.gone || k.spec.Draining || k.dirty {
			s.attention = append(s.attention, w)
		}
	}
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
	for k := len(s.steps) - 1; k >= 0; k-- {
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
	reason := text("the brake: %d of at least %d workers are ready", len(s.ready), s.p.opt.MinWorkers)
	s.pending = s.pending[:0]
	s.pending = append(s.pending, s.p.nowhere...)
	for _, w := range s.p.order {
		if s.p.workers[w].gone {
			s.pending = append(s.pending, s.p.workers[w].list...)
		}
	}
	s.inOrder(s.pending)
	for _, e := range s.pending {
		s.waiting = append(s.waiting, waiting{e.inst, reason})
	}
}

// lastPlan remembers the steps of the last plan, for Commit.
type lastPlan struct {
	version uint64
	first   *rota.Move
	finals  []final
	stops   int
}

type final struct {
	inst, task int32
	from, to   int32
	why        cause
}

// finals takes from the steps the net move of each instance, in the order of
// its last step.
func (s *pass) finals() []final {
	p := s.p
	if n := (len(p.insts) + 63) / 64; len(s.marks) < n {
		s.marks = make([]uint64, n)
	}
	list := p.last.finals[:0]
	if cap(list) < len(s.steps) {
		list = make([]final, 0, len(s.steps))
	}
	var first map[int32]int32 // where those of several steps came from
	for k := len(s.steps) - 1; k >= 0; k-- {
		st := &s.steps[k]
		if bit := uint64(1) << (st.inst & 63); s.marks[st.inst>>6]&bit == 0 {
			s.marks[st.inst>>6] |= bit
			list = append(list, final{inst: st.inst, from: st.from, to: st.to, why: st.why})
			continue
		}
		if first == nil {
			first = map[int32]int32{}
		}
		first[st.inst] = st.from
	}
	for k := range list {
		f := &list[k]
		s.marks[f.inst>>6] = 0
		if from, ok := first[f.inst]; ok {
			f.from = from
		}
		if f.from == none {
			f.why = cause{} // it was nowhere, whatever happened on the way
		} else if !f.why.code.forced() {
			if c, ok := s.evicted[f.inst]; ok && c.code.forced() {
				f.why = c // it had to go; balance only chose where to
			}
		}
	}
	slices.Reverse(list)
	kept := list[:0]
	for _, f := range list {
		// Nobody has to be told to stop what was on a worker that is gone.
		if f.from != f.to && (f.to != none || !p.workers[f.from].gone) {
			kept = append(kept, f)
		}
	}
	// Alone in its loop, so that waits for memory overlap.
	for k := range kept {
		kept[k].task = p.insts[kept[k].inst].task
	}
	return kept
}

// finish takes the steps back and puts the net moves into words.
func (s *pass) finish(before, after float64) rota.Plan {
	p := s.p
	finals := s.finals()
	s.restore()
	plan := rota.Plan{Summary: rota.Summary{ImbalanceBefore: before, ImbalanceAfter: after, Waiting: len(s.waiting)}}
	if n := len(p.strays) + len(finals); n > 0 {
		plan.Moves = make([]rota.Move, 0, n)
	}
	plan.Moves = s.stops(plan.Moves)
	stops := len(plan.Moves)
	plan.Moves = plan.Moves[:stops+len(finals)]
	for k := range finals {
		f, m := &finals[k], &plan.Moves[stops+k]
		t := &p.tasks[f.task]
		m.Instance = rota.Instance{Task: t.id, Index: int(f.inst - t.first)}
		if f.from != none {
			m.From = p.workers[f.from].name
		}
		if f.to != none {
			m.To = p.workers[f.to].name
		}
		m.Reason, m.Forced = s.words(f.why), f.why.code.forced()
	}
	for i := range plan.Moves {
		switch m := &plan.Moves[i]; {
		case m.To == "":
			plan.Summary.Stopped++
		case m.From == "":
			plan.Summary.Placed++
		case m.Forced:
			plan.Summary.Forced++
		default:
			plan.Summary.Chosen++
		}
	}
	if len(s.waiting) > 0 {
		plan.Waiting = make([]rota.Waiting, len(s.waiting))
		for k, w := range s.waiting {
			plan.Waiting[k] = rota.Waiting{Instance: p.instance(w.inst), Reason: w.reason}
		}
	}
	p.last = lastPlan{version: p.version, finals: finals, stops: stops}
	if len(plan.Moves) > 0 {
		p.last.first = &plan.Moves[0]
	}
	s.shrink()
	return plan
}

// shrink lets go of scratch that only a large plan needed.
func (s *pass) shrink() {
	const keep = 1 << 14
	if cap(s.steps) > keep {
		s.steps, s.log, s.pending, s.waiting = nil, nil, nil, nil
	}
	if len(s.trees) > 16 {
		s.trees = nil
	}
}

// stops are the moves of instances that no task declares.
func (s *pass) stops(moves []rota.Move) []rota.Move {
	for i, st := range s.p.strays {
		moves = append(moves, rota.Move{Instance: i, From: st.worker, Reason: st.reason, Forced: true})
	}
	slices.SortFunc(moves, func(a, b rota.Move) int { return a.Instance.Compare(b.Instance) })
	return moves
}

// Commit makes the plan's moves the assignment. A plan that Plan gave and that
// nothing changed since costs least; any other is taken move by move, and what
// no longer fits the state is passed over.
func (p *Planner) Commit(plan rota.Plan) {
	if len(plan.Moves) == 0 {
		return
	}
	l := &p.last
	if l.version != p.version || l.first != &plan.Moves[0] || len(plan.Moves) != l.stops+len(l.finals) {
		p.commitNames(plan)
		return
	}
	for _, m := range plan.Moves[:l.stops] {
		delete(p.strays, m.Instance)
	}
	for _, f := range l.finals {
		p.assign(f.inst, f.to)
	}
	p.version++
}

func (p *Planner) commitNames(plan rota.Plan) {
	for _, m := range plan.Moves {
		if m.To == "" {
			p.Unassign(m.Instance)
			continue
		}
		if p.find(m.Instance) != none {
			_ = p.Assign(m.Instance, m.To) // a worker that is gone by now changes nothing
		}
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
