package placement

import (
	"slices"

	"github.com/rota-project/rota"
)

// settleGang places all of a gang that is nowhere, or nothing; then what runs of
// it stops: all of these or none.
func (s *pass) settleGang(g int32) bool {
	p := s.p
	if s.gangs[g] != "" {
		return false
	}
	if s.gangs == nil {
		s.gangs = map[int32]string{}
	}
	absent, present := s.gang(g)
	mark, displaced := len(s.steps), len(s.displaced)
	// Affinities within the gang may want one before the other.
	for left := absent; len(left) > 0; {
		var again []entry
		for _, e := range left {
			if p.insts[e.inst].worker == none && !s.settleOne(e) {
				again = append(again, e)
			}
		}
		if len(again) == len(left) {
			i := again[0].inst
			reason := Text(rota.GangWaits, p.gangs.all[g].name, plural(len(absent)+len(present), "instance"), p.instance(i).String())
			if with := len(absent) - len(left); with > 0 {
				reason += text(besideOthers, plural(with, "other"))
			}
			reason += ": " + p.countRules(i).reason
			s.undo(mark)
			s.displaced = s.displaced[:displaced]
			s.gangs[g] = reason + s.sumsOf(absent)
			break
		}
		left = again
	}
	if s.gangs[g] == "" {
		return true
	}
	for _, e := range absent { // if it only was to leave a draining worker, it may stay there
		if _, was := s.origin[e.inst]; !was {
			s.breakGang(g)
			break
		}
	}
	return false
}

// sumsOf says of which resources some instances, which are nowhere, need more
// together than all workers have left.
func (s *pass) sumsOf(list []entry) string {
	p := s.p
	need := map[int32]amount{}
	for _, e := range list {
		if d := p.tasks[p.insts[e.inst].task].demand; d != none {
			for _, n := range p.demands[d].amounts {
				need[n.resource] = need[n.resource].plus(n.amount)
			}
		}
	}
	said := ""
	for _, r := range sortedBy(need, func(r int32) string { return p.resources[r] }) {
		var left amount
		counted := true
		for _, w := range s.ready {
			room := &p.workers[w].room[r]
			if !room.counted {
				counted = false
			} else if room.used.less(room.capacity) {
				left = left.plus(room.capacity.minus(room.used))
			}
		}
		if counted && left.less(need[r]) {
			said += text(togetherNeed, amountText(need[r].float()), p.resources[r], amountText(left.float()))
		}
	}
	return said
}

// gang returns what of a gang is nowhere and what is somewhere, in the order of
// turns.
func (s *pass) gang(g int32) (absent, present []entry) {
	p := s.p
	for _, n := range p.gangs.all[g].members {
		t := &p.tasks[n]
		for i := t.first; i < t.first+t.n; i++ {
			if p.insts[i].worker == none {
				absent = append(absent, p.entryOf(i))
			} else {
				present = append(present, p.entryOf(i))
			}
		}
	}
	s.inOrder(absent)
	s.inOrder(present)
	return absent, present
}

// breakGang stops what runs of a gang that cannot be whole.
func (s *pass) breakGang(g int32) {
	if s.p.opt.Freeze {
		return
	}
	absent, present := s.gang(g)
	for _, e := range absent {
		delete(s.origin, e.inst) // nor does it go back
	}
	for _, e := range present {
		s.waiting = slices.DeleteFunc(s.waiting, func(w waiting) bool { return w.inst == e.inst })
		s.waiting = append(s.waiting, waiting{e.inst, rota.GangWaits, why{reason: s.gangs[g]}})
		s.move(e.inst, none, cause{rota.GangBroken, g})
	}
}
