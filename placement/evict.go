package placement

import (
	"slices"

	"github.com/rota-project/rota"
)

// look turns suspects into workers that have to be looked through.
func (p *Planner) look() {
	for _, i := range p.suspects {
		if int(i) >= len(p.insts) || p.insts[i].task == none {
			continue
		}
		w := p.insts[i].worker
		if w == none {
			continue
		}
		t := &p.tasks[p.insts[i].task]
		if !p.domains[p.classes[t.class].domain].has(w) || p.overfull(w) || p.twin(t, i, w) {
			p.workers[w].dirty = true
		}
		if p.split(t, i) {
			for _, m := range p.keys.all[t.key].members {
				if j := p.sibling(m, i-t.first); j != none && p.insts[j].worker != none {
					p.workers[p.insts[j].worker].dirty = true
				}
			}
		}
	}
	if cap(p.suspects) > 1<<14 {
		p.suspects = nil
	}
	p.suspects = p.suspects[:0]
}

// evict takes from workers what may not stay on them.
func (s *pass) evict() {
	p := s.p
	for _, w := range s.attention {
		k := &p.workers[w]
		if k.gone {
			for len(k.list) > 0 {
				s.move(k.list[len(k.list)-1].inst, none, cause{rota.WorkerGone, w})
			}
			continue
		}
		if p.opt.Freeze {
			continue
		}
		if k.dirty {
			n := len(s.steps)
			s.sift(w)
			k.dirty = n < len(s.steps) || len(s.split) > 0
		}
		if k.spec.Draining {
			s.drain(w)
		}
	}
}

// drain takes what the budgets let go. What finds no other worker goes back.
func (s *pass) drain(w int32) {
	for _, e := range s.listed(w) {
		if s.mayTake(e.inst) {
			s.countTake(e.inst, 1)
			s.from(e.inst, w)
			s.move(e.inst, none, cause{rota.WorkerDrains, w})
		}
	}
}

// listed returns what w holds in the order of turns, as a slice that stays
// as it is while instances move.
func (s *pass) listed(w int32) []entry {
	list := slices.Clone(s.p.workers[w].list)
	s.inOrder(list)
	return list
}

// sift takes from a worker what its rules forbid, and then, of what it has too
// little room for, the least important.
func (s *pass) sift(w int32) {
	p := s.p
	list := s.listed(w)
	for k := len(list) - 1; k >= 0; k-- {
		i := list[k].inst
		t := &p.tasks[p.insts[i].task]
		switch {
		case !p.domains[p.classes[t.class].domain].has(w):
			s.move(i, none, cause{rota.RuleForbids, w})
		case p.twin(t, i, w):
			s.move(i, none, cause{rota.HoldsReplica, w})
		case p.split(t, i) && s.keyHome(t, i-t.first) != w:
			s.split = append(s.split, i)
		}
	}
	for k := len(list) - 1; k >= 0 && p.overfull(w); k-- {
		if i := list[k].inst; p.insts[i].worker == w && p.relieves(i, w) {
			s.move(i, none, cause{rota.OverCapacity, w})
		}
	}
}

// gather brings the tasks of keys together that are not. What cannot be
// gathered stays where it is.
func (s *pass) gather() {
	p := s.p
	for _, i := range s.split {
		t := &p.tasks[p.insts[i].task]
		w := p.insts[i].worker
		if w == none || !p.split(t, i) || s.keyHome(t, i-t.first) == w {
			continue
		}
		mark := len(s.steps)
		s.move(i, none, cause{rota.KeepsKeyTogether, t.key})
		if !s.settleKey(t, i) {
			s.undo(mark)
			s.waiting = append(s.waiting, waiting{i, rota.StaysForNow, why{reason: s.staysForNow(w, p.countRules(i).reason)}})
		}
	}
	s.split = s.split[:0]
}

// relieves reports whether taking i from w helps with what w has too little of.
func (p *Planner) relieves(i, w int32) bool {
	k := &p.workers[w]
	if len(k.list) > int(k.max) {
		return true
	}
	t := &p.tasks[p.insts[i].task]
	if t.demand == none {
		return false
	}
	for _, n := range p.demands[t.demand].amounts {
		if r := &k.room[n.resource]; r.counted && r.capacity.less(r.used) {
			return true
		}
	}
	return false
}

// mayTake reports whether the budgets let running instances, all of them, be
// taken from their workers for anything but a loss.
func (s *pass) mayTake(all ...int32) bool {
	if o := &s.p.opt; o.GroupBudget == (Budget{}) && o.ZoneBudget == (Budget{}) {
		return true
	}
	n := 0
	for ; n < len(all) && s.mayTakeOne(all[n]); n++ {
		s.countTake(all[n], 1)
	}
	for k := range n {
		s.countTake(all[k], -1)
	}
	return n == len(all)
}

func (s *pass) mayTakeOne(i int32) bool {
	p := s.p
	t := &p.tasks[p.insts[i].task]
	w := p.insts[i].worker
	if w == none {
		return true
	}
	if t.group != none && p.opt.GroupBudget != (Budget{}) &&
		s.taken[t.group] >= p.opt.GroupBudget.limit(p.groups.all[t.group].size) {
		return false
	}
	if zone := p.workers[w].spec.Zone; zone != "" && p.opt.ZoneBudget != (Budget{}) {
		return s.takenIn[zone] < p.opt.ZoneBudget.limit(s.zoneSize(zone))
	}
	return true
}

// countTake charges the budgets for taking i from where it is, or, by -1, gives
// that back.
func (s *pass) countTake(i int32, by int) {
	p := s.p
	t := &p.tasks[p.insts[i].task]
	w := p.insts[i].worker
	if w == none {
		return
	}
	if t.group != none && p.opt.GroupBudget != (Budget{}) {
		if s.taken == nil {
			s.taken = map[int32]int{}
		}
		s.taken[t.group] += by
	}
	if zone := p.workers[w].spec.Zone; zone != "" && p.opt.ZoneBudget != (Budget{}) {
		s.zoneSize(zone)
		s.takenIn[zone] += by
	}
}

// zoneSize is the number of instances that were in the zone when the pass first
// asked.
func (s *pass) zoneSize(zone string) int {
	if s.takenIn == nil {
		s.takenIn, s.zones = map[string]int{}, map[string]int{}
	}
	n, ok := s.zones[zone]
	if !ok {
		for _, w := range s.p.order {
			if s.p.workers[w].spec.Zone == zone {
				n += len(s.p.workers[w].list)
			}
		}
		s.zones[zone] = n
	}
	return n
}

// keyHome is the worker that holds most of a key's weight (by index), the one
// to gather at; none if nothing of it is anywhere.
func (s *pass) keyHome(t *task, index int32) int32 {
	p := s.p
	var at []int32
	sums := map[int32]amount{}
	for _, m := range p.keys.all[t.key].members {
		if j := p.sibling(m, index); j != none && p.insts[j].worker != none {
			w := p.insts[j].worker
			if _, ok := sums[w]; !ok {
				at = append(at, w)
			}
			sums[w] = sums[w].plus(toAmount(p.tasks[m].weight))
		}
	}
	best := none
	for _, w := range at {
		if best == none || sums[best].less(sums[w]) ||
			!sums[w].less(sums[best]) && p.workers[w].name < p.workers[best].name {
			best = w
		}
	}
	return best
}
