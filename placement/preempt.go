package placement

import (
	"slices"

	"github.com/rota-project/rota"
)

// preempt makes room for i, whose rules let it displace what has a lower
// priority, on the worker where the least important give way, and the fewest.
func (s *pass) preempt(t *task, i int32) int32 {
	p := s.p
	best := none
	var give []entry
	for _, w := range s.ready {
		if s.spent > effort {
			break
		}
		if !p.domains[p.classes[t.class].domain].has(w) || p.twin(t, i, w) || p.company(t, i, w).stands() {
			continue
		}
		victims := s.victims(t, w)
		if victims == nil {
			continue
		}
		if best == none || s.cheaper(victims, give) {
			best, give = w, victims
		}
	}
	if best == none {
		return none
	}
	for _, e := range give {
		s.move(e.inst, none, cause{rota.Preempted, i})
		s.displaced = append(s.displaced, e)
	}
	return best
}

// victims returns the fewest of lower priority on w that have to go for t to
// fit, least important first, or nil if that is not enough.
func (s *pass) victims(t *task, w int32) []entry {
	p := s.p
	k := &p.workers[w]
	var lower []entry
	s.spent += len(k.list)
	for _, e := range k.list {
		u := &p.tasks[p.insts[e.inst].task]
		if u.priority < t.priority && u.key == none && p.classes[u.class].gang == none {
			lower = append(lower, e)
		}
	}
	if len(lower) == 0 {
		return nil
	}
	s.inOrder(lower)
	slices.Reverse(lower)
	mark := len(s.steps)
	n := 0
	for n < len(lower) && !p.fits(t, w) {
		s.move(lower[n].inst, none, cause{rota.Preempted, none})
		n++
	}
	lower = lower[:n]
	if !p.fits(t, w) || n == 0 {
		s.undo(mark)
		return nil
	}
	// Some may have been taken for nothing: the most important first stay.
	keep := lower[:0:0]
	for j := n - 1; j >= 0; j-- {
		s.move(lower[j].inst, w, cause{rota.Preempted, none})
		if !p.fits(t, w) {
			s.move(lower[j].inst, none, cause{rota.Preempted, none})
			keep = append(keep, lower[j])
		}
	}
	s.undo(mark)
	return keep
}

// cheaper compares two sets of victims: by the most important of them, then by
// their number.
func (s *pass) cheaper(a, b []entry) bool {
	top := func(list []entry) float64 {
		p := s.p.tasks[s.p.insts[list[0].inst].task].priority
		for _, e := range list {
			p = max(p, s.p.tasks[s.p.insts[e.inst].task].priority)
		}
		return p
	}
	if x, y := top(a), top(b); x != y {
		return x < y
	}
	return len(a) < len(b)
}
