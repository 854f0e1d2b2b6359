package placement

import (
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// Explanation says why a task is where it is, or why it is nowhere.
type Explanation struct {
	Task      string
	Known     bool // false: no such task is declared
	Instances []InstanceWhy
}

// InstanceWhy is the explanation of one instance.
type InstanceWhy struct {
	Instance rota.Instance
	Worker   string // where it is, empty for nowhere
	Reason   string // one line for people
	// Rules counts the other workers by what keeps the instance from them, the
	// most frequent first. The empty rule counts those that could take it.
	Rules []RuleCount
}

// RuleCount is a rule that stands in the way, and of whom.
type RuleCount struct {
	Rule    string   // words that follow "workers that": "lack kind gpu"; empty: nothing stands in the way
	Workers []string // by name
}

// Why explains where the task's instances are. It costs a look at every worker
// for each instance.
func (p *Planner) Why(id string) Explanation {
	e := Explanation{Task: id}
	n := p.lookup(id)
	if n == none {
		return e
	}
	e.Known = true
	t := &p.tasks[n]
	for i := t.first; i < t.first+t.n; i++ {
		e.Instances = append(e.Instances, p.whyInstance(i))
	}
	return e
}

func (p *Planner) whyInstance(i int32) InstanceWhy {
	why := InstanceWhy{Instance: p.instance(i)}
	at := p.insts[i].worker
	if at != none && p.workers[at].gone {
		at = none
	}
	by := map[string][]string{}
	for _, w := range p.order {
		if w == at || p.workers[w].gone {
			continue
		}
		rule := p.inTheWay(i, w)
		by[rule] = append(by[rule], p.workers[w].name)
	}
	for rule, workers := range by {
		why.Rules = append(why.Rules, RuleCount{rule, workers})
	}
	slices.SortFunc(why.Rules, func(a, b RuleCount) int {
		if len(a.Workers) != len(b.Workers) {
			return len(b.Workers) - len(a.Workers)
		}
		return strings.Compare(a.Rule, b.Rule)
	})
	if at == none {
		why.Reason = "nowhere: " + p.countRules(i)
		return why
	}
	k := &p.workers[at]
	why.Worker = k.name
	s := &p.scratch
	s.begin(p)
	var b strings.Builder
	b.WriteString("on " + k.name + ", and what runs is not moved without need; ")
	if mean := s.mean(); mean > 0 {
		b.WriteString(text("%s carries %.3g, the mean is %.3g", k.name, p.level[at], mean))
	}
	switch {
	case k.spec.Draining:
		b.WriteString("; " + k.name + " is draining: it has to go")
	case k.spec.Cordoned:
		b.WriteString("; " + k.name + " is cordoned: it gets nothing new")
	}
	b.WriteString("; " + p.countRules(i))
	why.Reason = b.String()
	return why
}
