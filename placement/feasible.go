package placement

// feasible reports whether the rules let instance i, which is not on w, go to
// w, as things stand in the pass. w is ready.
func (p *Planner) feasible(i, w int32) bool {
	t := &p.tasks[p.insts[i].task]
	if !p.domains[p.classes[t.class].domain].has(w) {
		return false
	}
	return p.fits(t, w) && !p.twin(t, i, w) &&
		(len(p.shunned) == 0 && !p.classes[t.class].complex || !p.company(t, i, w).stands())
}

// fits reports whether w has room for one more instance of t.
func (p *Planner) fits(t *task, w int32) bool {
	k := &p.workers[w]
	if k.full() {
		return false
	}
	return t.demand == none || p.lacks(t, w) == none
}

func (w *worker) full() bool { return len(w.list) >= int(w.max) }

// lacks returns the first resource of which w has too little left for t, or none.
func (p *Planner) lacks(t *task, w int32) int32 {
	k := &p.workers[w]
	for _, n := range p.demands[t.demand].amounts {
		if !k.room[n.resource].fits(n.amount) {
			return n.resource
		}
	}
	return none
}

// twin reports whether another instance of the task is on w.
func (p *Planner) twin(t *task, i, w int32) bool {
	if t.n == 1 {
		return false
	}
	for j := t.first; j < t.first+t.n; j++ {
		if j != i && p.insts[j].worker == w {
			return true
		}
	}
	return false
}

// overfull reports whether w holds more than it has room for.
func (p *Planner) overfull(w int32) bool {
	k := &p.workers[w]
	if len(k.list) > int(k.max) {
		return true
	}
	for r := range k.room {
		if k.room[r].counted && k.room[r].capacity.less(k.room[r].used) {
			return true
		}
	}
	return false
}

// split reports whether another task of i's key has its instance of the same
// index on another worker.
func (p *Planner) split(t *task, i int32) bool {
	if t.key == none {
		return false
	}
	at := p.insts[i].worker
	for _, m := range p.keys.all[t.key].members {
		if j := p.sibling(m, i-t.first); j != none && p.insts[j].worker != none && p.insts[j].worker != at {
			return true
		}
	}
	return false
}

// sibling returns the instance of task m with the index, or none.
func (p *Planner) sibling(m, index int32) int32 {
	if t := &p.tasks[m]; index < t.n {
		return t.first + index
	}
	return none
}
