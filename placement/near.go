package placement

import (
	"math"
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// target is what an affinity names: a task or a group.
type target struct{ task, group string }

// affinity is a rota.Affinity of a class.
type affinity struct {
	target
	anti, required bool
	weight         float64
}

// String says it in words: "with task a", "away from group b".
func (a affinity) String() string {
	if a.anti {
		return "away from " + a.target.String()
	}
	return "with " + a.target.String()
}

// enlist notes what the rules of a new class say of other instances.
func (p *Planner) enlist(n int32, c *class) {
	if c.rules.Spread != nil {
		p.spreading++
	}
	for _, a := range c.rules.Affinity {
		t := affinity{target{a.Task, a.Group}, a.Anti, a.Required, a.Weight}
		c.affinity = append(c.affinity, t)
		switch {
		case !a.Required:
		case a.Anti:
			c.shy = true
			p.shunned[t.target] = append(p.shunned[t.target], n)
		default:
			p.followed[t.target]++
		}
	}
}

// dismiss takes back enlist.
func (p *Planner) dismiss(n int32, c *class) {
	if c.rules.Spread != nil {
		p.spreading--
	}
	for _, t := range c.affinity {
		switch {
		case !t.required:
		case t.anti:
			list := p.shunned[t.target]
			k := slices.Index(list, n)
			if list = slices.Delete(list, k, k+1); len(list) == 0 {
				delete(p.shunned, t.target)
			} else {
				p.shunned[t.target] = list
			}
		default:
			if p.followed[t.target]--; p.followed[t.target] == 0 {
				delete(p.followed, t.target)
			}
		}
	}
}

// on counts the target's instances on w other than i.
func (p *Planner) on(x target, w, i int32) int {
	if x.group != "" {
		g, ok := p.groups.by[x.group]
		if !ok {
			return 0
		}
		n := int(p.groupCount[pair{g, w}])
		if n > 0 && p.insts[i].worker == w && p.tasks[p.insts[i].task].group == g {
			n--
		}
		return n
	}
	n := 0
	if k := p.lookup(x.task); k != none {
		t := &p.tasks[k]
		for j := t.first; j < t.first+t.n; j++ {
			if j != i && p.insts[j].worker == w {
				n++
			}
		}
	}
	return n
}

// anywhere reports whether any instance of the target but i has a worker that
// is not gone.
func (p *Planner) anywhere(x target, i int32) bool {
	if x.group != "" {
		g, ok := p.groups.by[x.group]
		if !ok {
			return false
		}
		n := p.groups.all[g].placed
		if p.insts[i].worker != none && p.tasks[p.insts[i].task].group == g {
			n--
		}
		return n > 0
	}
	if k := p.lookup(x.task); k != none {
		t := &p.tasks[k]
		for j := t.first; j < t.first+t.n; j++ {
			if j != i && p.insts[j].worker != none {
				return true
			}
		}
	}
	return false
}

func (p *Planner) matches(x target, t *task) bool {
	if x.group != "" {
		return t.group != none && p.groups.all[t.group].name == x.group
	}
	return t.id == x.task
}

// waits reports whether an affinity has to wait for its target: it has not if
// the task is its own target, or both name each other; one has to be first.
func (p *Planner) waits(x target, t *task) bool {
	if p.matches(x, t) {
		return false
	}
	if k := p.lookup(x.task); x.task != "" && k != none {
		for _, back := range p.classes[p.tasks[k].class].affinity {
			if back.required && !back.anti && p.matches(back.target, t) {
				return false
			}
		}
	}
	return true
}

// bar is a required affinity that stands between an instance and a worker.
type bar struct {
	code Code
	of   target
}

func (b bar) stands() bool { return b.code != "" }

func (b bar) obstacle() Obstacle {
	if !b.stands() {
		return Obstacle{}
	}
	return Obstacle{Code: b.code, Name: b.of.String()}
}

// company reports which required affinity stands between i and w, if any.
func (p *Planner) company(t *task, i, w int32) bar {
	for _, a := range p.classes[t.class].affinity {
		if b := p.affine(a, t, i, w); b.stands() {
			return b
		}
	}
	if len(p.shunned) == 0 {
		return bar{}
	}
	for _, x := range p.namesOf(t) {
		if b := p.shuns(x, t, i, w); b.stands() {
			return b
		}
	}
	return bar{}
}

// affine reports whether a required affinity stands between i and w.
func (p *Planner) affine(a affinity, t *task, i, w int32) bar {
	if !a.required {
		return bar{}
	}
	there := p.on(a.target, w, i) > 0
	switch {
	case a.anti && there:
		return bar{AntiAffinity, a.target}
	case !a.anti && !there && (p.waits(a.target, t) || p.anywhere(a.target, i)):
		return bar{LacksAffinity, a.target}
	}
	return bar{}
}

// namesOf are what affinities of others may name t by; one may be empty.
func (p *Planner) namesOf(t *task) [2]target {
	group := ""
	if t.group != none {
		group = p.groups.all[t.group].name
	}
	return [2]target{{task: t.id}, {group: group}}
}

// shuns reports whether something on w keeps away from x, which names i.
func (p *Planner) shuns(x target, t *task, i, w int32) bar {
	if x == (target{}) {
		return bar{}
	}
	for _, c := range p.shunned[x] {
		n := p.shyCount[pair{c, w}]
		if p.insts[i].worker == w && t.class == c {
			n--
		}
		if n > 0 {
			return bar{OthersAntiAffinity, x}
		}
	}
	return bar{}
}

func (x target) String() string {
	if x.group != "" {
		return "group " + x.group
	}
	return "task " + x.task
}

// score is what preferences and preferred affinities give w, from -1 to 1.
func (p *Planner) score(t *task, i, w int32) float64 {
	c := p.classes[t.class]
	sum, most := 0.0, 0.0
	for _, f := range c.prefer {
		most += f.weight
		if f.when.Met(&p.workers[w].spec) {
			sum += f.weight
		}
	}
	for _, a := range c.affinity {
		if a.required {
			continue
		}
		most += a.weight
		if p.on(a.target, w, i) > 0 {
			if a.anti {
				sum -= a.weight
			} else {
				sum += a.weight
			}
		}
	}
	if most == 0 || math.IsInf(most, 0) {
		return 0
	}
	return sum / most
}

// spreading is the state of one spread: how many instances each value of its
// label has, and its share.
type spreading struct {
	label string
	count map[string]int
	share map[string]float64 // nil: all the same
}

// spreadOf counts for the spread of t, without i.
func (p *Planner) spreadOf(t *task, i int32) *spreading {
	r := p.classes[t.class].rules.Spread
	if r == nil {
		return nil
	}
	s := &spreading{label: r.Label, count: map[string]int{}, share: r.Shares}
	if len(r.Shares) == 0 {
		s.share = nil
	}
	if !r.ByGroup || t.group == none {
		for j := t.first; j < t.first+t.n; j++ {
			if w := p.insts[j].worker; j != i && w != none && !p.workers[w].gone {
				v, _ := labelOf(&p.workers[w].spec, r.Label)
				s.count[v]++
			}
		}
		return s
	}
	for _, w := range p.order {
		if n := int(p.groupCount[pair{t.group, w}]); n > 0 && !p.workers[w].gone {
			v, _ := labelOf(&p.workers[w].spec, r.Label)
			if p.insts[i].worker == w {
				n--
			}
			s.count[v] += n
		}
	}
	return s
}

// cost is how full, by its share, the value of w's label is with one more.
func (s *spreading) cost(w *worker) float64 {
	v, ok := labelOf(&w.spec, s.label)
	if !ok {
		return math.Inf(1)
	}
	share := 1.0
	if s.share != nil {
		share = s.share[v]
	}
	return float64(s.count[v]+1) / share
}

// weigh looks at every worker for a task whose rules compare them: the spread
// first, then those below the mean, then the preferences, then load.
func (s *pass) weigh(t *task, i int32) int32 {
	p := s.p
	sp := p.spreadOf(t, i)
	type bid struct {
		cost  float64
		over  bool
		score float64
		level float64
		group int32
	}
	best := none
	var top bid
	for _, w := range s.ready {
		if !p.feasible(i, w) {
			continue
		}
		b := bid{level: p.level[w], over: p.level[w] >= s.goal, score: p.score(t, i, w)}
		if sp != nil {
			b.cost = sp.cost(&p.workers[w])
		}
		if t.group != none {
			b.group = p.groupCount[pair{t.group, w}]
		}
		if best != none {
			switch {
			case b.cost != top.cost:
				if b.cost > top.cost {
					continue
				}
			case b.over != top.over:
				if b.over {
					continue
				}
			case b.score != top.score:
				if b.score < top.score {
					continue
				}
			case b.level != top.level:
				if b.level > top.level {
					continue
				}
			case b.group >= top.group:
				continue
			}
		}
		best, top = w, b
	}
	return best
}

// watched returns the tasks whose rules look at other instances, by id.
func (p *Planner) watched() []int32 {
	list := make([]int32, 0, len(p.watch))
	for n := range p.watch {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b int32) int { return strings.Compare(p.tasks[a].id, p.tasks[b].id) })
	return list
}

// reunite moves running instances to the company that they have to be with, and
// takes those with unwanted company from their workers, to be placed anew; it
// reports whether there are such. Those whose company is nowhere, or has no
// room for them, stay.
func (s *pass) reunite() bool {
	p := s.p
	if len(p.followed) == 0 && len(p.shunned) == 0 {
		return false
	}
	found := false
	for _, n := range p.watched() {
		t := &p.tasks[n]
		for i := t.first; i < t.first+t.n; i++ {
			w := p.insts[i].worker
			if w == none || p.workers[w].gone || !p.company(t, i, w).stands() || s.parted[i] {
				continue
			}
			apart := false
			for _, a := range p.classes[t.class].affinity {
				if a.required && !a.anti && p.on(a.target, w, i) == 0 && !p.anywhere(a.target, i) {
					apart = true
				}
			}
			if apart {
				continue
			}
			if s.parted == nil {
				s.parted = map[int32]bool{}
			}
			s.parted[i] = true // once a pass, so that two cannot chase each other
			mark := len(s.steps)
			s.move(i, none, cause{rota.BreaksAffinity, w})
			if crowded := p.crowded(t, i, w); crowded || s.settleOne(p.entryOf(i)) {
				found = found || crowded
				continue
			}
			s.undo(mark)
			s.waiting = append(s.waiting, waiting{i, rota.StaysForNow, why{reason: s.staysForNow(w, p.countRules(i).reason)}})
		}
	}
	return found
}

// crowded reports whether i has company on w that must not be.
func (p *Planner) crowded(t *task, i, w int32) bool {
	for _, a := range p.classes[t.class].affinity {
		if a.required && a.anti && p.on(a.target, w, i) > 0 {
			return true
		}
	}
	return p.company(t, i, w).code == OthersAntiAffinity
}

// from remembers where a running instance goes back to if nothing else may
// have it.
func (s *pass) from(i, w int32) {
	if s.origin == nil {
		s.origin = map[int32]int32{}
	}
	s.origin[i] = w
}
