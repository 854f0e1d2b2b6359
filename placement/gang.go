package placement

// settleGang places all of a gang that is nowhere, or nothing. What of a gang
// that cannot be whole runs, stops: all of these or none.
func (s *pass) settleGang(g int32) bool {
	p := s.p
	if s.gangs[g] != "" {
		return false
	}
	if s.gangs == nil {
		s.gangs = map[int32]string{}
	}
	var absent, present []entry
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
			reason := text("gang %s of %d: %s fits nowhere: %s", p.gangs.all[g].name, len(absent)+len(present), p.instance(again[0].inst), s.whyNowhere(again[0].inst))
			s.undo(mark)
			s.displaced = s.displaced[:displaced]
			s.gangs[g] = reason
			break
		}
		left = again
	}
	if s.gangs[g] == "" {
		return true
	}
	stay := true // if it only was to leave a draining worker, it stays there
	for _, e := range absent {
		_, was := s.origin[e.inst]
		stay = stay && was
	}
	if !p.opt.Freeze && !stay {
		for _, e := range present {
			s.move(e.inst, none, cause{gangBroken, g})
			s.waiting = append(s.waiting, waiting{e.inst, s.gangs[g]})
		}
	}
	return false
}
