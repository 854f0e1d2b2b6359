package placement

import (
	"math"
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// Rule names a rule of placement: a column of the table that Why gives.
type Rule string

// The rules that can stop something, in the order in which they are asked.
const (
	ByState    Rule = "state"    // whether it takes anything new
	ByPin      Rule = "pin"      // the worker that the task or job names
	ByKind     Rule = "kind"     // the kinds that it runs
	ByCommand  Rule = "command"  // the commands that it lists, of jobs
	ByLabels   Rule = "labels"   // required conditions, each by itself
	ByReplicas Rule = "replicas" // one instance of a task a worker
	ByTasks    Rule = "tasks"    // how many it takes
	ByCapacity Rule = "capacity" // resources, each by itself
	ByJobs     Rule = "jobs"     // how many jobs it runs at once
	ByAffinity Rule = "affinity" // what it has to be with, and what must not be there
)

// The rules that only weigh one worker against another.
const (
	BySpread     Rule = "spread"
	ByKey        Rule = "key"
	ByPreference Rule = "preference"
	ByLoad       Rule = "load"
)

// Rules are all of them, in the order of the table's columns.
func Rules() []Rule {
	return []Rule{ByState, ByPin, ByKind, ByCommand, ByLabels, ByReplicas, ByTasks, ByCapacity, ByJobs, ByAffinity, BySpread, ByKey, ByPreference, ByLoad}
}

// Outcome is what a rule says of a worker.
type Outcome string

// Outcomes of rules.
const (
	Passes Outcome = "passes"
	Stops  Outcome = "stops"
	Weighs Outcome = "weighs" // it does not stop it, and speaks for another worker
)

// Finding is what one rule finds of one worker. A rule that asks for several things has
// one for each.
type Finding struct {
	Rule    Rule
	Name    string // what it is about: the condition, the resource, the task or group
	Outcome Outcome
	// What the worker has, and what the rule wants, in words: "1 of 4 left" and "2 needed",
	// "no gpu" and "wants gpu=yes".
	Value, Limit string
	Obstacle     Obstacle // of Stops
}

// ask is one rule that can stop something, asked of instance i of t and worker w. It
// returns the first obstacle, and says to tell, unless that is nil, what it found of
// each thing that it asks for. i may be on w; then the answer is as if it came.
type ask func(p *Planner, t *task, i, w int32, tell func(Finding)) Obstacle

var asks = []ask{
	(*Planner).askState, (*Planner).askPin, (*Planner).askKind, (*Planner).askLabels,
	(*Planner).askReplicas, (*Planner).askTasks, (*Planner).askCapacity, (*Planner).askAffinity,
}

// inTheWay is what keeps i from w first, or none.
func (p *Planner) inTheWay(i, w int32) Obstacle {
	t := &p.tasks[p.insts[i].task]
	for _, rule := range asks {
		if o := rule(p, t, i, w, nil); o.Code != "" {
			return o
		}
	}
	return Obstacle{}
}

// found tells of something that a rule asks for.
func found(tell func(Finding), o Obstacle, v Finding) { tell(v.Of(o)) }

// Of is v as an obstacle decides it: the rule stops, or it passes if there is none.
func (v Finding) Of(o Obstacle) Finding {
	v.Outcome, v.Obstacle = Passes, o
	if o.Code != "" {
		v.Outcome = Stops
	}
	return v
}

// Weighed is v of a rule that stops nothing: it passes if it is good, or speaks for another.
func (v Finding) Weighed(good bool) Finding {
	v.Outcome = Weighs
	if good {
		v.Outcome = Passes
	}
	return v
}

// A rule that tasks and jobs share is asked of a worker by AskState, AskPin, AskLabels
// and Use.Ask. Each returns the first obstacle, and says to tell, unless that is nil, what
// it found of each thing that it asks for.

// AskState asks whether a worker takes anything new.
func AskState(w *rota.Worker, tell func(Finding)) Obstacle { return askState(w, false, tell) }

func (p *Planner) askState(_ *task, _, w int32, tell func(Finding)) Obstacle {
	return askState(&p.workers[w].spec, p.workers[w].gone, tell)
}

func askState(w *rota.Worker, gone bool, tell func(Finding)) (o Obstacle) {
	switch {
	case gone:
		o.Code = Gone
	case w.Draining:
		o.Code = Draining
	case w.Cordoned:
		o.Code = Cordoned
	}
	if tell != nil {
		state := "ready"
		if o.Code != "" {
			state = string(o.Code)
		}
		found(tell, o, Finding{Rule: ByState, Value: state, Limit: wants("ready")})
	}
	return o
}

func (p *Planner) askPin(t *task, _, w int32, tell func(Finding)) Obstacle {
	return AskPin(p.domains[p.classes[t.class].domain].pinned, &p.workers[w].spec, tell)
}

// AskPin asks whether a worker is the one that is named; empty is any.
func AskPin(pinned string, w *rota.Worker, tell func(Finding)) (o Obstacle) {
	if pinned != "" && pinned != w.Name {
		o = Obstacle{Code: NotPinned, Name: pinned}
	}
	if tell != nil && pinned != "" {
		found(tell, o, Finding{Rule: ByPin, Value: w.Name, Limit: pinned + " only"})
	}
	return o
}

func (p *Planner) askKind(t *task, _, w int32, tell func(Finding)) Obstacle {
	k, d := &p.workers[w], p.domains[p.classes[t.class].domain]
	o := d.knows(&k.spec)
	if tell != nil {
		v := Finding{Rule: ByKind, Value: d.kind, Limit: wants("kind " + d.kind)}
		switch {
		case o.Code != "":
			v.Value = someOf(k.spec.Kinds)
		case k.spec.Kinds == nil:
			v.Value = "any"
		}
		found(tell, o, v)
	}
	return o
}

// someOf lists the first few.
func someOf(list []string) string {
	const most = 5
	switch n := len(list); {
	case n == 0:
		return "none"
	case n > most:
		return text("%s and %d more", strings.Join(list[:most], ", "), n-most)
	}
	return strings.Join(list, ", ")
}

func (p *Planner) askLabels(t *task, _, w int32, tell func(Finding)) Obstacle {
	return AskLabels(p.domains[p.classes[t.class].domain].require, &p.workers[w].spec, tell)
}

// AskLabels asks whether a worker meets conditions.
func AskLabels(require []Condition, w *rota.Worker, tell func(Finding)) (first Obstacle) {
	for _, c := range require {
		o := meets(c, w)
		if first.Code == "" {
			first = o
		}
		switch {
		case tell != nil:
			found(tell, o, Finding{Rule: ByLabels, Name: c.String(), Value: labelText(w, c.label), Limit: wants(c.String())})
		case o.Code != "":
			return o
		}
	}
	return first
}

// wants is a limit that is no number.
func wants(what string) string { return "wants " + what }

func labelText(w *rota.Worker, label string) string {
	if v, ok := labelOf(w, label); ok {
		return label + "=" + v
	}
	return "no " + label
}

func (p *Planner) askReplicas(t *task, i, w int32, tell func(Finding)) (o Obstacle) {
	if p.twin(t, i, w) {
		o.Code = HoldsReplica
	}
	if tell != nil && t.n > 1 {
		v := Finding{Rule: ByReplicas, Value: "none there", Limit: "one a worker"}
		if o.Code != "" {
			v.Value = "another is there"
		}
		found(tell, o, v)
	}
	return o
}

func (p *Planner) askTasks(_ *task, i, w int32, tell func(Finding)) (o Obstacle) {
	k := &p.workers[w]
	held := len(k.list)
	if p.insts[i].worker == w {
		held--
	}
	if held >= int(k.max) {
		o.Code = TasksFull
	}
	if tell != nil && k.max != math.MaxInt32 {
		found(tell, o, Finding{Rule: ByTasks, Value: text("%d there", held), Limit: text("%d at most", k.max)})
	}
	return o
}

func (p *Planner) askCapacity(t *task, i, w int32, tell func(Finding)) (first Obstacle) {
	if t.demand == none {
		return first
	}
	k := &p.workers[w]
	for _, n := range p.demands[t.demand].amounts {
		r := k.room[n.resource]
		if p.insts[i].worker == w {
			r.used = r.used.minus(n.amount)
		}
		o := Obstacle{}
		if !r.fits(n.amount) {
			o = r.lack(p.resources[n.resource], n.amount)
		}
		if first.Code == "" {
			first = o
		}
		switch {
		case tell != nil:
			found(tell, o, r.finding(p.resources[n.resource], n.amount))
		case o.Code != "":
			return o
		}
	}
	return first
}

func (p *Planner) askAffinity(t *task, i, w int32, tell func(Finding)) Obstacle {
	first := p.company(t, i, w).obstacle()
	if tell == nil {
		return first
	}
	for _, a := range p.classes[t.class].affinity {
		if a.required {
			found(tell, p.affine(a, t, i, w).obstacle(), p.companyText(a, i, w, ByAffinity))
		}
	}
	for _, x := range p.namesOf(t) {
		if len(p.shunned[x]) == 0 {
			continue
		}
		v := Finding{Rule: ByAffinity, Name: x.String(), Value: "no anti-affinity there excludes it", Limit: wants("no anti-affinity there that excludes it")}
		o := p.shuns(x, t, i, w).obstacle()
		if o.Code != "" {
			v.Value = "an anti-affinity there excludes it"
		}
		found(tell, o, v)
	}
	return first
}

// companyText is the verdict on an affinity without its outcome.
func (p *Planner) companyText(a affinity, i, w int32, by Rule) Finding {
	v := Finding{Rule: by, Name: a.String(), Value: "not there", Limit: wants("it there")}
	if n := p.on(a.target, w, i); n > 0 {
		v.Value = text("%d there", n)
	}
	if a.anti {
		v.Limit = wants("it elsewhere")
	}
	return v
}

// table answers of one instance what the rules say of each worker, as things are in
// a pass.
type table struct {
	*pass
	t      *task
	i      int32
	mean   float64
	home   int32 // of its key
	values *spreading
	least  float64 // cost of the spread on the workers that could take it
}

func (s *pass) table(i int32) *table {
	p := s.p
	t := &p.tasks[p.insts[i].task]
	b := &table{pass: s, t: t, i: i, mean: s.mean(), home: none, least: math.Inf(1)}
	if t.key != none {
		b.home = s.keyHome(t, i-t.first)
	}
	if b.values = p.spreadOf(t, i); b.values != nil {
		for _, w := range s.ready {
			if w == p.insts[i].worker || p.feasible(i, w) {
				b.least = min(b.least, b.values.cost(&p.workers[w]))
			}
		}
	}
	return b
}

// stops is how many of the rules keep the instance from w.
func (b *table) stops(w int32) (n int) {
	for _, rule := range asks {
		if o := rule(b.p, b.t, b.i, w, nil); o.Code != "" {
			n++
		}
	}
	return n
}

// findings are those of all rules that concern the task, in the order of Rules.
func (b *table) findings(w int32) (all []Finding) {
	tell := func(v Finding) { all = append(all, v) }
	for _, rule := range asks {
		rule(b.p, b.t, b.i, w, tell)
	}
	b.compare(w, tell)
	return all
}

// compare tells what the rules say that stop nothing.
func (b *table) compare(w int32, tell func(Finding)) {
	p, k, c := b.p, &b.p.workers[w], b.p.classes[b.t.class]
	better := func(good bool, v Finding) { tell(v.Weighed(good)) }
	if s := b.values; s != nil {
		cost := s.cost(k)
		label, _ := labelOf(&k.spec, s.label)
		v := Finding{Rule: BySpread, Name: s.label, Value: labelText(&k.spec, s.label), Limit: wants("the value with the fewest, by share")}
		if !math.IsInf(cost, 1) {
			v.Value += text(", %d there", s.count[label])
		}
		better(cost <= b.least, v)
	}
	if b.home != none {
		v := Finding{Rule: ByKey, Name: p.keys.all[b.t.key].name, Value: "not there", Limit: wants("the rest of it there")}
		if w == b.home {
			v.Value = "there"
		}
		better(w == b.home, v)
	}
	for _, f := range c.prefer {
		better(f.when.Met(&k.spec), Finding{Rule: ByPreference, Name: f.when.String(), Value: labelText(&k.spec, f.when.label), Limit: "prefers " + f.when.String()})
	}
	for _, a := range c.affinity {
		if !a.required {
			better((p.on(a.target, w, b.i) > 0) != a.anti, p.companyText(a, b.i, w, ByPreference))
		}
	}
	better(p.level[w] <= b.mean, Finding{Rule: ByLoad, Value: loadText(p.level[w]), Limit: "the mean is " + loadText(b.mean)})
}

// rows are the workers that are not gone: the one that the instance is on first, then
// those that could take it, then those that the fewest rules keep it from; of these
// the emptiest first. At most so many have their findings, and are returned.
func (b *table) rows(most int) (rows []WorkerWhy, all, fit int) {
	p := b.p
	at := p.insts[b.i].worker
	type place struct {
		w     int32
		stops int
	}
	list := make([]place, 0, len(p.order))
	for _, w := range p.order {
		if p.workers[w].gone {
			continue
		}
		x := place{w, b.stops(w)}
		if w == at {
			x.stops = -1
		} else if x.stops == 0 {
			fit++
		}
		list = append(list, x)
	}
	slices.SortStableFunc(list, func(x, y place) int {
		switch {
		case x.stops != y.stops:
			return x.stops - y.stops
		case p.level[x.w] < p.level[y.w]:
			return -1
		case p.level[x.w] > p.level[y.w]:
			return 1
		}
		return 0
	})
	for _, x := range list[:min(most, len(list))] {
		rows = append(rows, WorkerWhy{p.workers[x.w].name, x.w == at, p.inTheWay(b.i, x.w), b.findings(x.w)})
	}
	return rows, len(list), fit
}
