package placement

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// place gives everything that is nowhere a worker, in the order of turns.
func (s *pass) place() {
	p := s.p
	if len(p.nowhere) == 0 && len(s.split) == 0 {
		return
	}
	all := s.sum
	for _, e := range p.nowhere {
		all = all.plus(toAmount(e.weight))
	}
	s.goal = all.float() / max(s.strength, math.SmallestNonzeroFloat64)
	s.gather()
	// What is to be placed leaves its list at once and not one by one.
	s.waiting = slices.DeleteFunc(s.waiting, func(w waiting) bool { return p.insts[w.inst].worker == none })
	s.pending = append(s.pending, p.nowhere...)
	if s.detached == nil {
		s.detached, p.nowhere = p.nowhere, nil
		s.steps = slices.Grow(s.steps, len(s.pending))
	} else {
		p.nowhere = p.nowhere[:0]
	}
	for _, e := range s.pending {
		p.insts[e.inst].pos = none
	}
	s.inOrder(s.pending)
	left := s.settleAll(s.pending)
	s.listedNowhere = true // what preemption displaced is in the list of what is nowhere
	// What waits for the company of another may have it by now.
	for n := -1; len(left) > 0 && (len(p.followed) > 0 || len(s.displaced) > 0) && n != len(left); {
		if n = len(left); len(s.displaced) > 0 {
			left, s.displaced = append(left, s.displaced...), nil
			s.inOrder(left)
			n = -1
		}
		left = s.settleAll(left)
	}
	for len(s.displaced) > 0 {
		d := s.displaced
		s.displaced = nil
		s.inOrder(d)
		left = append(left, s.settleAll(d)...)
	}
	for _, e := range left {
		s.stayNowhere(e)
	}
	s.listedNowhere = false
}

// settleAll places what it can and returns the rest.
func (s *pass) settleAll(list []entry) (left []entry) {
	p := s.p
	done, left := s.settleAlike(list)
	list = list[done:]
	for k, e := range list {
		if k%ahead == 0 && !e.plain() {
			s.touch(min(ahead, len(list)-k), func(j int) int32 { return list[k+j].inst })
		}
		// Or it came along with another of its key or gang.
		if (e.plain() || p.insts[e.inst].worker == none) && !s.settle(e) {
			left = append(left, e)
		}
	}
	return left
}

// ahead is how many instances are read before the first of them is needed.
const ahead = 16

// touch reads what the next few instances need, in loops of nothing else, so
// that the waits for memory overlap.
func (s *pass) touch(n int, inst func(int) int32) {
	var at [ahead]int32
	for k := range n {
		at[k] = s.p.insts[inst(k)].task
	}
	for _, t := range at[:n] {
		s.touched += s.p.tasks[t].n
	}
}

// stayNowhere gives up on an instance for this pass.
func (s *pass) stayNowhere(e entry) {
	p := s.p
	i := e.inst
	t := &p.tasks[p.insts[i].task]
	gang := p.classes[t.class].gang
	code, y := rota.GangWaits, why{}
	reason, ok := s.gangs[gang]
	if !ok {
		code, y = rota.NoPlace, s.whyNowhere(i)
		reason = y.reason
	}
	w, had := s.origin[i]
	back := had && !p.crowded(t, i, w)
	if back {
		code, y, reason = rota.StaysForNow, why{}, s.staysForNow(w, reason)
	} else if had && gang != none {
		s.breakGang(gang)
	}
	s.waiting = append(s.waiting, waiting{i, code, why{reason, y.most}})
	if back {
		s.move(i, w, cause{rota.ComesBack, w})
		return
	}
	if p.insts[i].pos == none {
		p.put(e, none)
	}
}

// settle finds a worker for an instance, which is nowhere, and moves it there,
// with all that has to come along.
func (s *pass) settle(e entry) bool {
	p := s.p
	if e.plain() && s.sole != none && !s.listedNowhere {
		var w int32
		if len(s.pending) < few {
			w = s.firstEmptiest()
		} else {
			w = s.emptiestFor(none, nil, e.inst, s.sole)
		}
		if w != none {
			s.steps = append(s.steps, step{e.inst, none, w, s.whyMoved(e.inst)})
			s.shift(e, none, w)
		}
		return w != none
	}
	if g := p.classes[p.tasks[p.insts[e.inst].task].class].gang; g != none {
		return s.settleGang(g)
	}
	return s.settleOne(e)
}

func (s *pass) settleOne(e entry) bool {
	p := s.p
	n := p.insts[e.inst].task
	t := &p.tasks[n]
	c := p.classes[t.class]
	if t.key != none {
		return s.settleKey(t, e.inst)
	}
	var w int32
	switch {
	case c.complex || len(p.shunned) > 0:
		w = s.weigh(t, e.inst)
	case t.group != none && len(s.pending)*len(s.ready) <= 1<<24:
		w = s.scan(t, e.inst)
	default:
		w = s.emptiestFor(n, t, e.inst, c.domain)
	}
	if w == none && c.rules.Preempt {
		w = s.preempt(t, e.inst)
	}
	if w != none {
		s.move(e.inst, w, s.whyMoved(e.inst))
	}
	return w != none
}

// whyMoved is the cause of placing i: what took it from its worker in this
// pass, or (the zero cause) that it was nowhere.
func (s *pass) whyMoved(i int32) cause { return s.evicted[i] }

// emptiestFor returns the emptiest worker of the domain that task n's instance i
// may go to. Workers in its way stay out of the tree until it is another task's
// turn. A nil t says that the task is plain: nothing but a full worker is in
// its way.
func (s *pass) emptiestFor(n int32, t *task, i, domain int32) int32 {
	p := s.p
	tr := s.emptiest(domain)
	if tr.heldFor != n {
		tr.restore(p.level)
		tr.heldFor = n
	}
	for {
		w, leaf := tr.best()
		switch {
		case w == none:
			return none
		case p.workers[w].full():
			tr.drop(w)
		case t == nil || p.fits(t, w) && !p.twin(t, i, w):
			return w
		default:
			tr.hold(leaf)
		}
	}
}

// scan looks at every worker: among the emptiest it takes the one that holds
// the least of the task's group.
func (s *pass) scan(t *task, i int32) int32 {
	p := s.p
	least := math.Inf(1)
	for _, w := range s.ready {
		if p.level[w] < least && p.feasible(i, w) {
			least = p.level[w]
		}
	}
	limit := least
	if _, equal := p.equalWeights(); !equal {
		limit = max(least, min(least+t.weight, s.goal))
	}
	best, held := none, int32(0)
	for _, w := range s.ready {
		if p.level[w] > limit || !p.feasible(i, w) {
			continue
		}
		n := p.groupCount[pair{t.group, w}]
		if best == none || n < held || n == held && p.level[w] < p.level[best] {
			best, held = w, n
		}
	}
	return best
}

// settleKey places everything of i's key and index together: where the rest
// of it is if that may be, else where keyPlaces says. Indices of a key can be in
// each other's way, as no worker runs two instances of a task: if nothing else
// helps, all are dealt anew.
func (s *pass) settleKey(t *task, i int32) bool {
	p := s.p
	index := i - t.first
	if home := s.keyHome(t, index); home != none && p.workers[home].ready() && p.feasible(i, home) {
		s.move(i, home, s.whyMoved(i))
		return true
	}
	all := p.bundle(t, index)
	for w := range s.keyPlaces(t, index, all) {
		if s.moveTogether(all, w, t.key) {
			return true
		}
	}
	return s.redeal(t)
}

// keyPlaces goes through the workers for what has t's key and the index: as the
// hash says, among those that its weight still leaves below the mean (bounded
// loads, after Mirrokni, Thorup, Zadimoghaddam 2018, over rendezvous hashing,
// Thaler, Ravishankar 1996); then the others, emptiest first.
func (s *pass) keyPlaces(t *task, index int32, all []int32) iter.Seq[int32] {
	p := s.p
	weight := amount{}
	for _, j := range all {
		weight = weight.plus(toAmount(p.tasks[p.insts[j].task].weight))
	}
	type candidate struct {
		w     int32
		over  bool
		level float64
		score uint64
	}
	var list []candidate
	seed := combine(p.keys.all[t.key].hash, uint64(index))
	half := weight.float() / 2
	for _, w := range s.ready {
		if !p.domains[p.classes[t.class].domain].has(w) {
			continue
		}
		c := candidate{w: w, score: mix(seed ^ p.workers[w].hash)}
		if after := p.level[w] + half/p.workers[w].strength; after > s.goal {
			c.over, c.level = true, p.level[w]
		}
		list = append(list, c)
	}
	compare := func(a, b candidate) int {
		switch {
		case a.over != b.over:
			if b.over {
				return -1
			}
			return 1
		case a.level != b.level:
			return cmp.Compare(a.level, b.level)
		case a.score != b.score:
			return cmp.Compare(b.score, a.score)
		}
		return strings.Compare(p.workers[a.w].name, p.workers[b.w].name)
	}
	return func(yield func(int32) bool) {
		if len(list) == 0 {
			return
		}
		// Nearly always the first will do; only then is sorting worth it.
		best := slices.MinFunc(list, compare)
		if !yield(best.w) {
			return
		}
		slices.SortFunc(list, compare)
		for _, c := range list[1:] {
			if !yield(c.w) {
				return
			}
		}
	}
}

// redeals is how many workers redeal tries for the indices of a key.
const redeals = 200

// redeal takes all that has t's key off its workers and places it index by index,
// each where most of it was if that may be; or it changes nothing.
func (s *pass) redeal(t *task) bool {
	p := s.p
	var bundles [][]int32
	var homes []int32
	for index := int32(0); ; index++ {
		all := p.bundle(t, index)
		if len(all) == 0 {
			break
		}
		bundles, homes = append(bundles, all), append(homes, s.keyHome(t, index))
	}
	if len(bundles) < 2 {
		return false
	}
	mark := len(s.steps)
	for _, all := range bundles {
		for _, j := range all {
			if p.insts[j].worker != none {
				s.move(j, none, cause{rota.KeepsKeyTogether, t.key})
			}
		}
	}
	tries := 0
	var deal func(index int) bool
	deal = func(index int) bool {
		if index == len(bundles) {
			return true
		}
		try := func(w int32) bool {
			tries++
			before := len(s.steps)
			if !s.moveTogether(bundles[index], w, t.key) {
				return false
			}
			if deal(index + 1) {
				return true
			}
			s.undo(before)
			return false
		}
		home := homes[index]
		if home != none && p.workers[home].ready() && try(home) {
			return true
		}
		for w := range s.keyPlaces(t, int32(index), bundles[index]) {
			if tries >= redeals {
				break
			}
			if w != home && try(w) {
				return true
			}
		}
		return false
	}
	if deal(0) {
		return true
	}
	s.undo(mark)
	for _, all := range bundles {
		for _, j := range all {
			if p.insts[j].worker != none {
				delete(s.evicted, j)
			}
		}
	}
	return false
}

// bundle returns all instances of t's key with the index, in the order of ties.
func (p *Planner) bundle(t *task, index int32) []int32 {
	var all []int32
	for _, m := range p.keys.all[t.key].members {
		if j := p.sibling(m, index); j != none {
			all = append(all, j)
		}
	}
	slices.SortFunc(all, func(a, b int32) int {
		if p.less(a, b) {
			return -1
		}
		return 1
	})
	return all
}

// moveTogether moves all to w, or nothing if one of them may not go there.
func (s *pass) moveTogether(all []int32, w, key int32) bool {
	mark := len(s.steps)
	for _, j := range all {
		if s.p.insts[j].worker == w {
			continue
		}
		if !s.p.feasible(j, w) {
			s.undo(mark)
			return false
		}
		why := cause{rota.KeepsKeyTogether, key}
		if s.p.insts[j].worker == none {
			why = s.whyMoved(j)
		}
		s.move(j, w, why)
	}
	return true
}

// whyNowhere says in counts what keeps i from every worker.
func (s *pass) whyNowhere(i int32) why {
	p := s.p
	t := &p.tasks[p.insts[i].task]
	key := profile{t.class, t.demand}
	if r, ok := s.whys[key]; ok && t.n == 1 && t.key == none {
		return r
	}
	r := p.countRules(i)
	if s.whys == nil {
		s.whys = map[profile]why{}
	}
	s.whys[key] = r
	return r
}

// profile is what decides, for tasks of one instance, where they fit.
type profile struct{ class, demand int32 }

// countRules says how many workers each rule keeps i from, but for the one it
// is on.
func (p *Planner) countRules(i int32) why {
	var c tally
	at := p.insts[i].worker
	for _, w := range p.order {
		if !p.workers[w].gone && w != at {
			c.add(p.inTheWay(i, w))
		}
	}
	if at != none && !p.workers[at].gone {
		return c.why("other worker")
	}
	return c.why("worker")
}
