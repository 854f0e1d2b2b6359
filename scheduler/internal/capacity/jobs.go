package capacity

import (
	"slices"

	"github.com/rota-project/rota/placement"
)

// Lacks says what a worker of the capacity has too little of for a job of the
// amounts, beside what that takes of it already; ok is false if there is room. leader is the epoch of the leader who places
// it; 0 asks for an explanation only.
func (a *Account) Lacks(id, name string, capacity, amounts map[string]float64, leader int64) (o placement.Obstacle, ok bool) {
	if capacity == nil || !takes(amounts) {
		return o, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lacks(id, name, capacity, amounts, leader)
}

func (a *Account) lacks(id, name string, capacity, amounts map[string]float64, leader int64) (o placement.Obstacle, ok bool) {
	var use placement.Use
	if w := a.workers[name]; w != nil {
		use = w.all
	}
	if mine := a.jobs[id]; len(mine) > 0 {
		use = use.Clone()
		for _, c := range mine {
			if c.worker == name {
				use.Remove(c.amounts)
			}
		}
	}
	if o, ok := use.Lacks(capacity, amounts); ok {
		return o, true
	}
	switch {
	case leader == 0:
		return o, false
	case a.term != leader, len(a.strange[name]) > 0:
		return placement.Obstacle{Code: placement.NotCounted}, true
	case a.waits && a.freed:
		return placement.Obstacle{Code: placement.TasksFirst}, true
	}
	return o, false
}

func takes(amounts map[string]float64) bool {
	for _, v := range amounts {
		if v != 0 {
			return true
		}
	}
	return false
}

// Promise enters a job whose place on a worker is about to be written, if there is
// room. It is taken until Withdraw or Settle, also while nobody knows whether it was
// written: it may land late.
func (a *Account) Promise(id, name string, capacity, amounts map[string]float64, leader int64) bool {
	if !takes(amounts) {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if capacity != nil {
		if _, lacks := a.lacks(id, name, capacity, amounts, leader); lacks {
			return false
		}
	}
	if !slices.ContainsFunc(a.jobs[id], func(c jobClaim) bool { return c.promised && c.worker == name }) {
		a.jobs[id] = append(a.jobs[id], jobClaim{name, amounts, true})
		a.take(name, amounts, 1)
	}
	return true
}

// Withdraw takes back what was promised to a job on a worker: it was surely not
// written, and no earlier place on that worker can land. One elsewhere may.
func (a *Account) Withdraw(id, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep(id, func(c jobClaim) bool { return !c.promised || c.worker != name })
}

// Settle takes back all that was promised to a job: the picture has a place or a state
// of it that is later.
func (a *Account) Settle(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(id)
}

func (a *Account) settle(id string) {
	a.keep(id, func(c jobClaim) bool { return !c.promised })
}

// Job says that a job takes amounts of a worker, as the picture has it; an empty name
// that it takes nothing of any.
func (a *Account) Job(id, name string, amounts map[string]float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name != "" && takes(amounts) {
		if slices.ContainsFunc(a.jobs[id], func(c jobClaim) bool { return !c.promised && c.worker == name }) {
			return
		}
		a.jobs[id] = append(a.jobs[id], jobClaim{name, amounts, false})
		a.take(name, amounts, 1)
	}
	a.keep(id, func(c jobClaim) bool { return c.promised || c.worker == name })
}

// keep takes out the claims of a job that are not to be kept.
func (a *Account) keep(id string, keep func(jobClaim) bool) {
	list := a.jobs[id]
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
	if a.jobs[id] = left; len(left) == 0 {
		delete(a.jobs, id)
	}
}

// take puts what a job takes into a worker's sums, or, by -1, takes it out.
func (a *Account) take(name string, amounts map[string]float64, by int) {
	w := a.worker(name)
	change(&w.all, amounts, by)
	change(&w.jobs, amounts, by)
	change(&w.beside, amounts, by)
	a.news[name] = struct{}{}
	a.freed = a.freed || by < 0
	a.drop(name, w)
	a.tell()
}
