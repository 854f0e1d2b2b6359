package placement

import (
	"math"
	"slices"
)

// settleAlike places the first of the list as far as they are plain and of one
// weight, and returns how many those are and which of them no worker takes; or
// zero if they are too few for this to pay. Each goes to the emptiest worker,
// as settle would have it. Since what a worker's level becomes is no less than
// what any became before, two queues keep the workers in order: those that got
// nothing yet, sorted, and behind each other those that did.
//
// The steps are pledged: loads and levels have them, lists do not. If the
// workers end even, nobody ever asks for the lists.
func (s *pass) settleAlike(list []entry) (n int, left []entry) {
	p := s.p
	if len(list) <= len(s.ready) || s.sole == none || !s.sameStrength || s.listedNowhere || p.reports > 0 {
		return 0, nil
	}
	for n < len(list) && list[n].plain() && list[n].weight == list[0].weight {
		n++
	}
	if n <= len(s.ready) {
		return 0, nil
	}
	d := p.domains[s.sole]
	level, room := make([]float64, len(s.ready)), make([]int32, len(s.ready))
	fresh := make([]int32, 0, len(s.ready)) // places in s.ready
	s.loads = make([]amount, len(s.ready))
	for at, w := range s.ready {
		k := &p.workers[w]
		level[at], s.loads[at] = p.level[w], k.load
		if room[at] = k.max - int32(len(k.list)); room[at] > 0 && d.has(w) {
			fresh = append(fresh, int32(at))
		}
	}
	before := func(a, b int32) bool { return level[a] < level[b] || level[a] == level[b] && a < b }
	slices.SortFunc(fresh, func(a, b int32) int {
		if before(a, b) {
			return -1
		}
		return 1
	})
	given := make([]int32, 0, n)
	weight := toAmount(list[0].weight)
	for _, e := range list[:n] {
		var at int32
		switch {
		case len(fresh) > 0 && (len(given) == 0 || before(fresh[0], given[0])):
			at, fresh = fresh[0], fresh[1:]
		case len(given) > 0:
			at, given = given[0], given[1:]
		default:
			left = append(left, e)
			continue
		}
		w := s.ready[at]
		s.steps = append(s.steps, step{e.inst, none, w, s.whyMoved(e.inst)})
		s.sum = s.sum.plus(weight)
		k := &p.workers[w]
		k.load = k.load.plus(weight)
		p.rate(w, k)
		level[at] = p.level[w]
		if room[at]--; room[at] > 0 {
			given = append(given, at)
		}
	}
	s.outdate()
	s.pledged = n - len(left)
	if n < len(list) || len(left) > 0 || len(p.watch) > 0 {
		s.deliver() // others come, and look at the lists
	}
	return n, left
}

// deliver puts what is pledged into the workers' lists.
func (s *pass) deliver() {
	steps := s.steps[len(s.steps)-s.pledged:]
	s.recall()
	for _, st := range steps {
		s.p.put(s.p.entryOf(st.inst), st.to)
	}
}

// recall takes what is pledged out of the workers' loads. The steps stay.
func (s *pass) recall() {
	if s.pledged == 0 {
		return
	}
	s.pledged = 0
	for at, w := range s.ready {
		k := &s.p.workers[w]
		k.load = s.loads[at]
		s.p.rate(w, k)
	}
}

// few is how many instances are placed without a tree: building one costs more
// than so many looks at all workers.
const few = 4

// firstEmptiest is emptiestFor for a plain instance, by looking at all workers.
func (s *pass) firstEmptiest() int32 {
	p := s.p
	d := p.domains[s.sole]
	best, least := none, math.Inf(1)
	for _, w := range s.ready {
		if p.level[w] < least && d.has(w) && !p.workers[w].full() {
			best, least = w, p.level[w]
		}
	}
	return best
}
