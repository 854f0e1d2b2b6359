package placement

import (
	"slices"

	"github.com/rota-project/rota"
)

// lastPlan remembers the net moves of the last plan, for Commit.
type lastPlan struct {
	version uint64
	first   *rota.Move
	finals  []step
	stops   int
}

// finals takes from the steps, in place, the net move of each instance, in the
// order of its last step.
func (s *pass) finals(steps []step) []step {
	p := s.p
	if n := (len(p.insts) + 63) / 64; len(s.marks) < n {
		s.marks = make([]uint64, n)
	}
	var first map[int32]int32 // where those of several steps came from
	at := len(steps)
	for k := len(steps) - 1; k >= 0; k-- {
		st := steps[k]
		if bit := uint64(1) << (st.inst & 63); s.marks[st.inst>>6]&bit == 0 {
			s.marks[st.inst>>6] |= bit
			at--
			steps[at] = st
			continue
		}
		if first == nil {
			first = map[int32]int32{}
		}
		first[st.inst] = st.from
	}
	list := steps[at:]
	kept := list[:0]
	for _, f := range list {
		s.marks[f.inst>>6] = 0
		if from, ok := first[f.inst]; ok {
			f.from = from
		}
		if f.from == none {
			f.why = cause{} // it was nowhere, whatever happened on the way
		} else if !forced(f.why.code) {
			if c, ok := s.evicted[f.inst]; ok && forced(c.code) {
				f.why = c // it had to go; balance only chose where to
			}
		}
		// Nobody has to be told to stop what was on a worker that is gone.
		if f.from != f.to && (f.to != none || !p.workers[f.from].gone) {
			kept = append(kept, f)
		}
	}
	return kept
}

// finish takes the steps back and puts the net moves into words.
func (s *pass) finish(before, after float64) rota.Plan {
	p := s.p
	steps := s.steps
	s.restore()
	finals := s.finals(steps)
	plan := rota.Plan{Summary: rota.Summary{ImbalanceBefore: before, ImbalanceAfter: after, Waiting: len(s.waiting)}}
	if n := len(p.strays) + len(finals); n > 0 {
		plan.Moves = make([]rota.Move, 0, n)
	}
	plan.Moves = s.stops(plan.Moves)
	stops := len(plan.Moves)
	plan.Moves = plan.Moves[:stops+len(finals)]
	for k := range finals {
		if k%ahead == 0 {
			s.touch(min(ahead, len(finals)-k), func(j int) int32 { return finals[k+j].inst })
		}
		f, m := &finals[k], &plan.Moves[stops+k]
		t := &p.tasks[p.insts[f.inst].task]
		m.Instance = rota.Instance{Task: t.id, Index: int(f.inst - t.first)}
		if f.from != none {
			m.From = p.workers[f.from].name
		}
		if f.to != none {
			m.To = p.workers[f.to].name
		}
		m.Reason, m.Forced, m.Code = s.words(f.why), forced(f.why.code), f.why.code
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
			plan.Waiting[k] = rota.Waiting{Instance: p.instance(w.inst), Reason: w.reason, Code: w.code, Obstacle: string(w.most)}
		}
	}
	p.last = lastPlan{version: p.version, finals: finals, stops: stops}
	if len(plan.Moves) > 0 {
		p.last.first = &plan.Moves[0]
	}
	s.shrink()
	return plan
}

// shrink lets go of what only a large plan needed, but for the steps, which the
// plan's net moves share.
func (s *pass) shrink() {
	if p := s.p; cap(p.nowhere) > large && len(p.nowhere) == 0 {
		p.nowhere = nil
	}
	if cap(s.pending) > large {
		s.log, s.pending, s.waiting = nil, nil, nil
	}
	if len(s.trees) > 16 {
		s.trees = nil
	}
}

// large is how many entries or steps are not kept for the next pass.
const large = 1 << 14

// stops are the moves of instances that no task declares.
func (s *pass) stops(moves []rota.Move) []rota.Move {
	for i, st := range s.p.strays {
		moves = append(moves, rota.Move{Instance: i, From: st.worker, Reason: st.reason, Forced: true, Code: rota.Undeclared})
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
	p.makeRoom(l.finals)
	_, equal := p.equalWeights() // then no worker both gives and takes
	for _, f := range l.finals {
		p.assign(f.inst, f.to)
		if !equal && f.from != none && !forced(f.why.code) {
			if p.left == nil {
				p.left = map[pair]struct{}{}
			}
			p.left[pair{f.inst, f.from}] = struct{}{}
		}
	}
	p.version++
	p.settled = p.version
	if p.last = (lastPlan{}); cap(p.scratch.steps) > large {
		p.scratch.steps = nil
	}
}

// makeRoom grows the workers' lists for what comes, if that is much.
func (p *Planner) makeRoom(steps []step) {
	if len(steps) <= len(p.order) {
		return
	}
	more := make([]int, len(p.workers))
	for _, f := range steps {
		if f.to != none {
			more[f.to]++
		}
	}
	for w, n := range more {
		k := &p.workers[w]
		k.list = slices.Grow(k.list, n)
	}
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
