package placement

import (
	"math"

	"github.com/rota-project/rota"
)

// spread levels out the values of a spread: an instance moves where, by shares, its
// value is fuller than another would be with it.
func (s *pass) spread() {
	p := s.p
	if p.spreading == 0 {
		return
	}
	for _, n := range p.watched() {
		t := &p.tasks[n]
		if p.classes[t.class].rules.Spread == nil {
			continue
		}
		for i := t.first; i < t.first+t.n; i++ {
			if !s.mayChoose(1) {
				return
			}
			s.spreadOne(t, i)
		}
	}
}

func (s *pass) spreadOne(t *task, i int32) {
	p := s.p
	d := p.insts[i].worker
	if d == none || !p.workers[d].ready() || t.key != none || !s.mayTake(i) || !s.mayMoveAt(d, 1) {
		return
	}
	sp := p.spreadOf(t, i)
	here := sp.cost(&p.workers[d])
	best, least := none, here
	for _, w := range s.ready {
		if cost := sp.cost(&p.workers[w]); cost < least || cost == least && best != none && p.level[w] < p.level[best] {
			if w != d && s.mayMoveAt(w, 1) && p.feasible(i, w) {
				best, least = w, cost
			}
		}
	}
	if best != none && least < here {
		s.choose(i, d, best, cause{rota.Spreads, p.insts[i].task})
	}
}

// keepsSpread reports whether moving i from d to r leaves its spread no worse.
func (p *Planner) keepsSpread(t *task, i, d, r int32) bool {
	sp := p.spreadOf(t, i)
	if sp == nil {
		return true
	}
	a, b := sp.cost(&p.workers[d]), sp.cost(&p.workers[r])
	return b <= a || math.IsInf(a, 1)
}
