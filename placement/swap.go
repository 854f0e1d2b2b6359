package placement

import (
	"slices"

	"github.com/rota-project/rota"
)

// Where no single move helps a worker that is too full, because all it holds
// is too heavy or the others have no room, exchanging two may.

// maxSwaps bounds the searches of a pass; the next pass goes on.
const maxSwaps = 256

// weighed is an instance with what it counts for.
type weighed struct {
	entry
	load float64
}

// swapAway exchanges an instance of d for a lighter one of one of the emptiest
// workers.
func (s *pass) swapAway(d int32, mean float64) bool {
	p := s.p
	if !s.mayChoose(2) || !s.mayMoveAt(d, 2) {
		return false
	}
	if _, equal := p.equalWeights(); equal {
		return false // exchanging equals changes nothing
	}
	low := s.allWorkers(&s.low, 1)
	done := false
	for tries := 0; tries < 4 && s.swaps < maxSwaps && !done; tries++ {
		r, leaf := low.best()
		if r == none || r == d || p.level[r] >= mean {
			break
		}
		s.swaps++
		if done = s.mayMoveAt(r, 2) && s.swap(d, r, mean); !done {
			low.hold(leaf)
		}
	}
	low.restore(p.level)
	s.allWorkers(low, 1)
	return done
}

// swap finds the pair whose difference suits best.
func (s *pass) swap(d, r int32, mean float64) bool {
	p := s.p
	aim := min((p.level[d]-mean)*p.workers[d].strength, (mean-p.level[r])*p.workers[r].strength)
	give, get := s.byLoad(d), s.byLoad(r)
	type pairing struct {
		a, b int32
		off  float64 // from the aim
	}
	var best []pairing
	for _, a := range give {
		// The partner whose difference to a is nearest to the aim, from either side.
		at, _ := slices.BinarySearchFunc(get, a.load-aim, func(e weighed, v float64) int {
			if e.load < v {
				return -1
			}
			return 1
		})
		for k := max(0, at-1); k < min(len(get), at+1); k++ {
			diff := a.load - get[k].load
			if diff <= 0 || !s.gains(d, r, diff, mean) {
				continue
			}
			off := diff - aim
			if off < 0 {
				off = -off
			}
			best = append(best, pairing{a.inst, get[k].inst, off})
		}
	}
	slices.SortStableFunc(best, func(x, y pairing) int {
		switch {
		case x.off < y.off:
			return -1
		case x.off > y.off:
			return 1
		}
		return 0
	})
	for _, x := range best[:min(len(best), 16)] {
		if s.exchange(x.a, x.b, cause{rota.EvensLoad, d}) {
			return true
		}
	}
	return false
}

// byLoad returns what w holds and may be swapped, lightest first.
func (s *pass) byLoad(w int32) []weighed {
	p := s.p
	list := make([]weighed, 0, len(p.workers[w].list))
	for _, e := range p.workers[w].list {
		if p.tasks[p.insts[e.inst].task].key == none {
			list = append(list, weighed{e, p.effective(e.inst, e.weight)})
		}
	}
	slices.SortFunc(list, func(a, b weighed) int {
		switch {
		case a.load < b.load:
			return -1
		case a.load > b.load:
			return 1
		case p.less(a.inst, b.inst):
			return -1
		}
		return 1
	})
	return list
}

// exchange moves a to b's worker and b to a's, if rules and budgets let it.
func (s *pass) exchange(a, b int32, why cause) bool {
	p := s.p
	d, r := p.insts[a].worker, p.insts[b].worker
	t, u := &p.tasks[p.insts[a].task], &p.tasks[p.insts[b].task]
	if t.key != none || u.key != none || !s.mayTake(a, b) || !s.mayPart(t, a, d, r) || !s.mayPart(u, b, r, d) {
		return false
	}
	ok := s.tryOut(func() bool {
		s.move(b, none, why)
		if !p.feasible(a, r) {
			return false
		}
		s.move(a, r, why)
		return p.feasible(b, d)
	})
	if !ok {
		return false
	}
	s.countTake(b, 1)
	s.move(b, none, why)
	s.choose(a, d, r, why)
	s.choose(b, r, d, cause{rota.Swaps, a})
	return true
}

// evenGroups evens out the groups one by one: an instance of the fullest worker
// (by the group) changes places with one of the emptiest that costs no other
// group anything, or moves alone where loads gain by it. The sum of squared
// counts falls each time, so it ends.
func (s *pass) evenGroups() {
	p := s.p
	if len(s.ready) < 2 {
		return
	}
	mean := s.mean()
	var ids []int32
	for _, g := range p.groups.by {
		ids = append(ids, g)
	}
	slices.SortFunc(ids, func(a, b int32) int {
		if p.groups.all[a].name < p.groups.all[b].name {
			return -1
		}
		return 1
	})
	for _, g := range ids {
		for s.spent < effort && s.mayChoose(1) && s.evenGroup(g, mean) {
		}
	}
}

func (s *pass) evenGroup(g int32, mean float64) bool {
	p := s.p
	top, bottom := none, none
	var most, least int32
	for _, w := range s.ready {
		n := p.groupCount[pair{g, w}]
		if top == none || n > most {
			top, most = w, n
		}
		if bottom == none || n < least {
			bottom, least = w, n
		}
	}
	if most-least < 2 || !s.mayMoveAt(top, 1) || !s.mayMoveAt(bottom, 1) {
		return false
	}
	give, get := s.byLoad(top), s.byLoad(bottom)
	s.spent += len(give) + len(get)
	for _, a := range give {
		if p.tasks[p.insts[a.inst].task].group != g {
			continue
		}
		if s.gains(top, bottom, a.load, mean) && s.mayTake(a.inst) && s.mayGo(&p.tasks[p.insts[a.inst].task], a.inst, top, bottom) {
			s.choose(a.inst, top, bottom, cause{rota.EvensGroup, g})
			return true
		}
		if !s.mayChoose(2) || !s.mayMoveAt(top, 2) || !s.mayMoveAt(bottom, 2) {
			continue
		}
		at, _ := slices.BinarySearchFunc(get, a.load, func(e weighed, v float64) int {
			if e.load < v {
				return -1
			}
			return 1
		})
		for k := at; k < len(get) && get[k].load == a.load; k++ {
			b := get[k].inst
			h := p.tasks[p.insts[b].task].group
			s.spent++
			if h != g && (h == none || p.groupCount[pair{h, bottom}] > p.groupCount[pair{h, top}]) && s.exchange(a.inst, b, cause{rota.EvensGroup, g}) {
				return true
			}
		}
	}
	return false
}
