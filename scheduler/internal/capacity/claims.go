package capacity

import (
	"slices"

	"github.com/rota-project/rota/placement"
)

// Claims are what one kind of work, which is no tasks, takes of workers' capacity.
type Claims struct {
	a    *Account
	kind string
}

// Of are the claims of the kind of a name. No two kinds have the same.
func (a *Account) Of(kind string) Claims { return Claims{a, kind} }

// Lacks says what a worker of the capacity has too little of for work of the
// amounts, beside what that takes of it already; ok is false if there is room. leader is the
// epoch of the leader who places it; 0 asks for an explanation only.
func (c Claims) Lacks(id, name string, capacity, amounts map[string]float64, leader int64) (o placement.Obstacle, ok bool) {
	o = c.Ask(id, name, capacity, amounts, leader, nil)
	return o, o.Code != ""
}

// Ask is Lacks, and says to tell, unless that is nil, what it found of each resource.
func (c Claims) Ask(id, name string, capacity, amounts map[string]float64, leader int64, tell func(placement.Finding)) placement.Obstacle {
	if !takes(amounts) {
		return placement.Obstacle{}
	}
	if capacity == nil {
		return placement.Use{}.Ask(nil, amounts, tell)
	}
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	return c.a.ask(work{c.kind, id}, name, capacity, amounts, leader, tell)
}

func (a *Account) ask(of work, name string, capacity, amounts map[string]float64, leader int64, tell func(placement.Finding)) (o placement.Obstacle) {
	var use placement.Use
	if w := a.workers[name]; w != nil {
		use = w.all
	}
	if mine := a.others[of]; len(mine) > 0 {
		use = use.Clone()
		for _, c := range mine {
			if c.worker == name {
				use.Remove(c.amounts)
			}
		}
	}
	if o = use.Ask(capacity, amounts, tell); o.Code != "" || leader == 0 {
		return o
	}
	v := placement.Finding{Rule: placement.ByCapacity}
	switch {
	case a.term != leader, len(a.strange[name]) > 0:
		o.Code, v.Value, v.Limit = placement.NotCounted, "not counted yet by the new leader", "wants all that tasks take counted"
	case a.waits && a.freed:
		o.Code, v.Value, v.Limit = placement.TasksFirst, "room has just become free", "tasks that wait are asked first"
	default:
		return o
	}
	if tell != nil {
		tell(v.Of(o))
	}
	return o
}

func takes(amounts map[string]float64) bool {
	for _, v := range amounts {
		if v != 0 {
			return true
		}
	}
	return false
}

// Promise enters work whose place on a worker is about to be written, if there is
// room. It is taken until Withdraw or Settle, also while nobody knows whether it was
// written: it may land late.
func (c Claims) Promise(id, name string, capacity, amounts map[string]float64, leader int64) bool {
	if !takes(amounts) {
		return true
	}
	a, of := c.a, work{c.kind, id}
	a.mu.Lock()
	defer a.mu.Unlock()
	if capacity != nil {
		if a.ask(of, name, capacity, amounts, leader, nil).Code != "" {
			return false
		}
	}
	if !slices.ContainsFunc(a.others[of], func(c otherClaim) bool { return c.promised && c.worker == name }) {
		a.others[of] = append(a.others[of], otherClaim{name, amounts, true})
		a.take(name, amounts, 1)
	}
	return true
}

// Withdraw takes back what was promised on a worker: it was surely not
// written, and no earlier place on that worker can land. One elsewhere may.
func (c Claims) Withdraw(id, name string) {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	c.a.keep(work{c.kind, id}, func(c otherClaim) bool { return !c.promised || c.worker != name })
}

// Settle takes back all that was promised: the picture has a place or a state
// of it that is later.
func (c Claims) Settle(id string) {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	c.a.settle(work{c.kind, id})
}

func (a *Account) settle(of work) {
	a.keep(of, func(c otherClaim) bool { return !c.promised })
}

// Take says that work takes amounts of a worker, as the picture has it; an empty name
// that it takes nothing of any.
func (c Claims) Take(id, name string, amounts map[string]float64) {
	a, of := c.a, work{c.kind, id}
	a.mu.Lock()
	defer a.mu.Unlock()
	if name != "" && takes(amounts) {
		if slices.ContainsFunc(a.others[of], func(c otherClaim) bool { return !c.promised && c.worker == name }) {
			return
		}
		a.others[of] = append(a.others[of], otherClaim{name, amounts, false})
		a.take(name, amounts, 1)
	}
	a.keep(of, func(c otherClaim) bool { return c.promised || c.worker == name })
}

// keep takes out the claims of something that are not to be kept.
func (a *Account) keep(of work, keep func(otherClaim) bool) {
	list := a.others[of]
	if len(list) == 0 {
		return
	}
	left := list[:0]
	for _, c := range list {
		if keep(c) {
			left = append(left, c)
		} else {
			a.take(c.worker, c.amounts, -1)
		}
	}
	if a.others[of] = left; len(left) == 0 {
		delete(a.others, of)
	}
}

// take puts what other work than tasks takes into a worker's sums, or, by -1, takes it out.
func (a *Account) take(name string, amounts map[string]float64, by int) {
	w := a.worker(name)
	change(&w.all, amounts, by)
	change(&w.others, amounts, by)
	change(&w.beside, amounts, by)
	a.news[name] = struct{}{}
	a.freed = a.freed || by < 0
	a.drop(name, w)
	a.tell()
}
