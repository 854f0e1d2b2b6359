package placement

import (
	"strings"

	"github.com/rota-project/rota"
)

// Explanation says why a task is where it is, or why it waits.
type Explanation struct {
	Task      string
	Known     bool // false: no such task is declared
	Instances []InstanceWhy
}

// InstanceWhy is the explanation of one instance.
type InstanceWhy struct {
	Instance rota.Instance
	Worker   string // where it is, empty for none
	Reason   string // one line for people
	// Next is what the next pass does with it, nil for nothing.
	Next *rota.Move
	// Workers are rows of a table of what each rule says of each worker as things are
	// now: the one that it is on, those that could take it, emptiest first, then those
	// that the fewest rules keep it from.
	Workers []WorkerWhy
	// How many workers there are, and how many of those that it is not on could take it.
	All, Fit int
}

// WorkerWhy is a worker and what the rules say of it.
type WorkerWhy struct {
	Worker   string
	Chosen   bool     // the instance is there
	Obstacle Obstacle // the first thing in the way; its zero Code: nothing
	Findings []Finding
}

// Why explains where the task's instances are, and what the next pass does with them by the
// same rules: it makes that plan. For each instance it lists at most as many workers as the
// argument says, and not many more than MaxRows for all together. It costs a plan, and a
// look at every worker for each instance.
func (p *Planner) Why(id string, workers int) Explanation {
	e := Explanation{Task: id}
	n := p.lookup(id)
	if n == none {
		return e
	}
	e.Known = true
	plan := p.Plan()
	t := &p.tasks[n]
	workers = min(workers, max(1, MaxRows/int(t.n)))
	for i := t.first; i < t.first+t.n; i++ {
		e.Instances = append(e.Instances, p.whyInstance(i, &plan, workers))
	}
	return e
}

// MaxRows is how many rows the tables of one explanation have together, but for one of
// each instance.
const MaxRows = 2000

func (p *Planner) whyInstance(i int32, plan *rota.Plan, workers int) InstanceWhy {
	why := InstanceWhy{Instance: p.instance(i)}
	at := p.insts[i].worker
	if at != none && p.workers[at].gone {
		at = none
	}
	s := &p.scratch
	s.begin(p)
	why.Workers, why.All, why.Fit = s.table(i).rows(workers)
	waits := ""
	for k := range plan.Waiting {
		if plan.Waiting[k].Instance == why.Instance {
			waits = plan.Waiting[k].Reason
		}
	}
	for k := range plan.Moves {
		if plan.Moves[k].Instance == why.Instance {
			why.Next = &plan.Moves[k]
		}
	}
	if at == none {
		switch {
		case why.Next != nil && why.Next.To != "":
			why.Reason = "on no worker; the next pass places it on " + why.Next.To
		case waits != "":
			why.Reason = "on no worker: " + waits
		default:
			why.Reason = "on no worker: " + p.countRules(i).reason
		}
		return why
	}
	k := &p.workers[at]
	why.Worker = k.name
	var b strings.Builder
	b.WriteString("on " + k.name + "; running instances are not moved without need; ")
	if mean := s.mean(); mean > 0 {
		b.WriteString(text("%s has a load of %s, the mean is %s", k.name, loadText(p.level[at]), loadText(mean)))
	}
	switch {
	case k.spec.Draining:
		b.WriteString("; " + k.name + " is draining, so the instance has to leave")
	case k.spec.Cordoned:
		b.WriteString("; " + k.name + " is cordoned, so it gets nothing new")
	}
	switch {
	case why.Next != nil && why.Next.To == "":
		b.WriteString("; the next pass stops it: " + why.Next.Reason)
	case why.Next != nil:
		b.WriteString("; the next pass moves it to " + why.Next.To + ": " + why.Next.Reason)
	}
	if waits != "" {
		b.WriteString("; " + waits)
	} else {
		b.WriteString("; " + p.countRules(i).reason)
	}
	why.Reason = b.String()
	return why
}
