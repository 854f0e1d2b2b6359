package placement

import (
	"slices"

	"github.com/rota-project/rota"
)

// balance moves instances from workers above the mean to workers below it, one
// at a time, while that makes the fuller of the two emptier. The sum of squared
// loads falls with every move, so it ends, and a plan for what it leaves is
// empty. For equal weights that is the floor or the ceiling of the mean for
// each worker, by the least number of moves: no worker both gives and takes.
func (s *pass) balance() {
	if len(s.ready) < 2 {
		return
	}
	mean := s.mean()
	slack := s.tolerance(mean)
	if s.even(mean, slack) && !s.p.opt.BalanceGroups {
		return
	}
	s.deliver()
	for moved := -1; moved < s.moved; { // what one gave may be what the other needed
		moved = s.moved
		s.relieve(mean, slack)
		s.fill(mean, slack)
	}
	if s.p.opt.BalanceGroups {
		s.evenGroups()
	}
}

// even reports whether there is nothing to do, for little.
func (s *pass) even(mean, slack float64) bool {
	least, most := s.p.level[s.ready[0]], 0.0
	for _, w := range s.ready {
		least, most = min(least, s.p.level[w]), max(most, s.p.level[w])
	}
	if weight, equal := s.p.equalWeights(); equal && s.sameStrength {
		return (most-least)*s.p.workers[s.ready[0]].strength <= weight
	}
	return most <= mean+slack && least >= mean-slack
}

// effort bounds the instances that balancing a pass looks at where rules
// forbid most moves; the next pass goes on.
const effort = 1 << 26

func (s *pass) allWorkers(t *tree, sign float64) *tree { return s.sync(t, sign, nil) }

// relieve takes from the fullest workers.
func (s *pass) relieve(mean, slack float64) {
	p := s.p
	high := s.allWorkers(&s.high, -1)
	high.heldFor = none
	for s.spent < effort && s.mayChoose(1) {
		s.allWorkers(high, -1)
		d, leaf := high.best()
		if d == none || p.level[d] <= mean+slack {
			break
		}
		low := s.allWorkers(&s.low, 1)
		r, _ := low.best()
		if weight, equal := p.equalWeights(); equal && s.sameStrength && !s.gains(d, r, weight, mean) {
			break // nor would a less full worker gain
		}
		if !s.give(d, r, mean, rota.EvensLoad) && !s.giveByDomain(d, mean) && !s.swapAway(d, mean) {
			high.hold(leaf)
		}
	}
	high.restore(p.level)
}

// giveByDomain tries the emptiest worker of each domain that d's tasks have.
func (s *pass) giveByDomain(d int32, mean float64) bool {
	p := s.p
	if s.sole != none {
		return false
	}
	seen := map[int32]bool{}
	var domains []int32
	for _, e := range p.workers[d].list {
		s.spent++
		if n := p.classes[p.tasks[p.insts[e.inst].task].class].domain; !seen[n] {
			seen[n] = true
			domains = append(domains, n)
		}
	}
	s.sortDomains(domains)
	for _, n := range domains {
		tr := s.emptiest(n)
		tr.restore(p.level)
		if r, _ := tr.best(); r != none && r != d && s.give(d, r, mean, rota.EvensLoad) {
			return true
		}
	}
	return false
}

// fill gives to the emptiest workers.
func (s *pass) fill(mean, slack float64) {
	p := s.p
	low, high := &s.low, &s.high
	for s.spent < effort && s.mayChoose(1) {
		s.allWorkers(low, 1)
		r, leaf := low.best()
		if r == none || p.level[r] >= mean-slack {
			break
		}
		done := false
		for s.spent < effort {
			s.allWorkers(high, -1)
			d, giver := high.best()
			if d == none || p.level[d] <= p.level[r] {
				break
			}
			if weight, equal := p.equalWeights(); equal && s.sameStrength && !s.gains(d, r, weight, mean) {
				if len(high.held) == 0 {
					return // nor would a less empty worker gain
				}
				break
			}
			if done = s.give(d, r, mean, rota.FillsUp); done {
				break
			}
			high.hold(giver)
		}
		high.restore(p.level)
		if !done {
			low.hold(leaf)
		}
	}
	low.restore(p.level)
}

// gains reports whether moving weight from d to r makes the two more even, by
// at least the hysteresis.
func (s *pass) gains(d, r int32, weight, mean float64) bool {
	kd, kr := s.p.level[d], s.p.level[r]
	sd, sr := s.p.workers[d].strength, s.p.workers[r].strength
	const noise = 1e-9 // of the levels: rounding must not look like a gain
	if weight*(1/sd+1/sr) >= 2*(kd-kr)-noise*(kd+kr) {
		return false
	}
	if s.p.opt.Hysteresis == 0 {
		return true
	}
	return kd-max(kd-weight/sd, kr+weight/sr) >= s.p.opt.Hysteresis*mean
}

// give moves the instance that suits best from d to r, if one may go.
func (s *pass) give(d, r int32, mean float64, code rota.ReasonCode) bool {
	if d == r || !s.mayMoveAt(d, 1) || !s.mayMoveAt(r, 1) {
		return false
	}
	i := s.pick(d, r, mean)
	if i == none {
		return false
	}
	p := s.p
	arg := d
	if code == rota.FillsUp {
		arg = r
	}
	t := &p.tasks[p.insts[i].task]
	if t.key != none {
		for _, j := range p.bundle(t, i-t.first) {
			if p.insts[j].worker == d {
				s.choose(j, d, r, cause{code, arg})
			}
		}
		return true
	}
	s.choose(i, d, r, cause{code, arg})
	return true
}

// choose moves for balance's sake and charges the budgets.
func (s *pass) choose(i, d, r int32, why cause) {
	s.countTake(i, 1)
	s.move(i, r, why)
	s.moved++
	if s.p.opt.MaxMovesPerWorker > 0 {
		if s.movedAt == nil {
			s.movedAt = map[int32]int{}
		}
		s.movedAt[d]++
		s.movedAt[r]++
	}
}

// mayChoose reports whether balance may choose n more moves, and mayMoveAt
// whether it may to or from w.
func (s *pass) mayChoose(n int) bool {
	return s.p.opt.MaxMoves == 0 || s.moved+n <= s.p.opt.MaxMoves
}

func (s *pass) mayMoveAt(w int32, n int) bool {
	return s.p.opt.MaxMovesPerWorker == 0 || s.movedAt[w]+n <= s.p.opt.MaxMovesPerWorker
}

// pick chooses what to move from d to r: the heaviest that neither takes d
// below the mean nor r above it, else the lightest that gains at all; among
// equals what evens groups, then by hash.
func (s *pass) pick(d, r int32, mean float64) int32 {
	p := s.p
	aim := min((p.level[d]-mean)*p.workers[d].strength, (mean-p.level[r])*p.workers[r].strength) * (1 + 1e-9)
	best, bestWeight, bestGroup := none, 0.0, int32(0)
	var bestTie uint32
	list := p.workers[d].list
	if len(p.keys.by) > 0 { // what is tried below reorders it
		list = slices.Clone(list)
	}
	s.spent += len(list)
	for k := range list {
		e := &list[k]
		weight := e.weight
		if p.reports > 0 {
			weight = p.effective(e.inst, weight)
		}
		t := (*task)(nil)
		if len(p.keys.by) > 0 {
			if t = &p.tasks[p.insts[e.inst].task]; t.key != none {
				weight = s.together(t, e.inst, d)
			}
		}
		if best != none {
			if within := weight <= aim; within != (bestWeight <= aim) {
				if !within {
					continue
				}
			} else if weight != bestWeight {
				if within != (weight > bestWeight) {
					continue
				}
			} else if len(p.groups.by) == 0 && (e.tie > bestTie || e.tie == bestTie && !p.less(e.inst, best)) {
				continue
			}
		}
		if weight <= 0 || !s.gains(d, r, weight, mean) {
			continue
		}
		if t == nil {
			t = &p.tasks[p.insts[e.inst].task]
		}
		group := int32(0)
		if t.group != none {
			group = p.groupCount[pair{t.group, d}] - p.groupCount[pair{t.group, r}]
		}
		if best != none && weight == bestWeight {
			if group < bestGroup || group == bestGroup && (e.tie > bestTie || e.tie == bestTie && !p.less(e.inst, best)) {
				continue
			}
		}
		if !s.mayTake(e.inst) || !s.mayGo(t, e.inst, d, r) {
			continue
		}
		best, bestWeight, bestGroup, bestTie = e.inst, weight, group, e.tie
	}
	return best
}

// together is the weight of everything of t's key (by index) on w.
func (s *pass) together(t *task, i, w int32) float64 {
	sum := amount{}
	for _, m := range s.p.keys.all[t.key].members {
		if j := s.p.sibling(m, i-t.first); j != none && s.p.insts[j].worker == w {
			sum = sum.plus(toAmount(s.p.effective(j, s.p.tasks[m].weight)))
		}
	}
	return sum.float()
}

// mayGo reports whether i, and all of its key, may go from d to r.
func (s *pass) mayGo(t *task, i, d, r int32) bool {
	p := s.p
	if !s.mayPart(t, i, d, r) {
		return false
	}
	if t.key == none {
		return p.feasible(i, r)
	}
	var all []int32
	for _, m := range p.keys.all[t.key].members {
		j := p.sibling(m, i-t.first)
		switch {
		case j == none || p.insts[j].worker == none:
		case p.insts[j].worker != d:
			return false
		default:
			all = append(all, j)
		}
	}
	n := len(all)
	return s.mayChoose(n) && s.mayMoveAt(d, n) && s.mayMoveAt(r, n) && s.mayTake(all...) && s.tryOut(func() bool {
		for _, j := range all {
			if !p.feasible(j, r) {
				return false
			}
			s.move(j, r, cause{rota.EvensLoad, d})
		}
		return true
	})
}

// isFollowed reports whether something has to be where t is.
func (p *Planner) isFollowed(t *task) bool {
	if p.followed[target{task: t.id}] > 0 {
		return true
	}
	return t.group != none && p.followed[target{group: p.groups.all[t.group].name}] > 0
}

// mayPart reports whether what the rules of i, or of others about it, prefer
// lets balance move it from d to r. Nor does it go back, while nothing changes,
// to where balance took it from.
func (s *pass) mayPart(t *task, i, d, r int32) bool {
	p := s.p
	if len(p.followed) > 0 && p.isFollowed(t) {
		return false
	}
	if _, back := p.left[pair{i, r}]; back {
		return false
	}
	c := p.classes[t.class]
	return !c.complex || p.keepsSpread(t, i, d, r) && p.score(t, i, r) >= p.score(t, i, d)
}
