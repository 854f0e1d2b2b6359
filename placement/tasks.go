package placement

import (
	"strings"

	"github.com/rota-project/rota"
)

// SetTask adds a task or changes it. A task that cannot be is a
// *rota.FieldError and changes nothing. What the task's instances are on stays,
// until a plan moves them.
func (p *Planner) SetTask(t rota.Task) error {
	if err := t.Validate(); err != nil {
		return err
	}
	t = t.Normalize()
	t.Weight = toAmount(t.Weight).float() // as it is summed
	c, err := p.classOf(t.Kind, &t.Rules)
	if err != nil {
		return err
	}
	p.version++
	h := hash64(t.ID)
	slot, ok := p.ids.find(p.tasks, t.ID, h)
	if ok {
		p.changeTask(p.ids.slots[slot]-1, c, &t)
		return nil
	}
	n := int32(len(p.tasks))
	if k := len(p.freed); k > 0 {
		n, p.freed = p.freed[k-1], p.freed[:k-1]
	} else {
		p.tasks = append(p.tasks, task{})
	}
	p.count++
	p.tasks[n] = task{id: strings.Clone(t.ID), hash: h}
	p.describe(n, c, &t)
	p.allot(n, int32(t.Replicas))
	p.resize(&p.tasks[n], t.Replicas)
	p.ids.insert(p.tasks, n)
	p.tally(t.Weight, 1)
	u := &p.tasks[n]
	for i := u.first; i < u.first+u.n; i++ {
		p.born(i, n)
	}
	if len(p.strays) > 0 {
		for i := u.first; i < u.first+u.n; i++ {
			p.adopt(i)
		}
	}
	return nil
}

// born makes instance i of task n, which is nowhere.
func (p *Planner) born(i, n int32) {
	p.insts[i] = inst{task: n}
	p.put(p.entryOf(i), none)
}

// adopt puts an instance where it was as a stray.
func (p *Planner) adopt(i int32) {
	id := p.instance(i)
	if s, ok := p.strays[id]; ok {
		delete(p.strays, id)
		if w, ok := p.byName[s.worker]; ok {
			p.put(p.take(i), w)
			p.suspects = append(p.suspects, i)
		}
	}
}

// describe sets what does not concern places.
func (p *Planner) describe(n, c int32, t *rota.Task) {
	u := &p.tasks[n]
	u.weight, u.priority, u.class = t.Weight, t.Priority, c
	u.group, u.key, u.demand = p.groups.get(t.Group), p.keys.get(t.Key), p.demandOf(t.Resources)
	p.groups.ref(u.group)
	p.keys.ref(u.key)
	p.classes[c].refs++
	if u.demand != none {
		p.demands[u.demand].refs++
	}
	p.keys.join(u.key, n)
	p.gangs.join(p.classes[c].gang, n)
	if p.classes[c].complex {
		p.watch[n] = struct{}{}
	}
}

// undescribe lets go of what describe took.
func (p *Planner) undescribe(n int32) {
	u := &p.tasks[n]
	p.groups.unref(u.group)
	p.keys.leave(u.key, n)
	p.gangs.leave(p.classes[u.class].gang, n)
	p.keys.unref(u.key)
	delete(p.watch, n)
	p.leaveClass(u.class)
	p.leaveDemand(u.demand)
}

// resize counts the instances of the task's group.
func (p *Planner) resize(t *task, by int) {
	if t.group != none {
		p.groups.all[t.group].size += by
	}
}

// tally counts the tasks whose weight differs from the reference.
func (p *Planner) tally(weight float64, by int) {
	if p.weightSeen == 0 {
		p.weightRef, p.weightOdd = weight, 0
	}
	p.weightSeen += by
	if weight != p.weightRef {
		p.weightOdd += by
	}
}

// equalWeights returns the weight that all tasks have, if they all do.
func (p *Planner) equalWeights() (float64, bool) {
	if p.weightOdd == p.weightSeen && p.weightSeen > 0 {
		p.weightOdd, p.weightSeen = 0, 0
		for n := range p.tasks {
			if p.tasks[n].id != "" {
				p.tally(p.tasks[n].weight, 1)
			}
		}
	}
	return p.weightRef, p.weightOdd == 0 && p.reports == 0
}

// allot gives the task room for n instances.
func (p *Planner) allot(t, n int32) {
	first := int32(len(p.insts))
	if free := p.blocks[n]; len(free) > 0 {
		first = free[len(free)-1]
		p.blocks[n] = free[:len(free)-1]
	} else {
		for range n {
			p.insts = append(p.insts, inst{})
		}
	}
	p.tasks[t].first, p.tasks[t].n = first, n
}

// changeTask describes task n anew. Its instances leave their lists for the
// time, since sums are kept by the old description.
func (p *Planner) changeTask(n, c int32, t *rota.Task) {
	u := &p.tasks[n]
	if p.same(u, c, t) {
		return
	}
	first, count := u.first, u.n
	at, measured := make([]int32, count), make([]float64, count)
	for k := range count {
		at[k], measured[k] = p.insts[first+k].worker, p.measured(first+k)
		p.take(first + k)
		p.forgetLoad(first + k)
	}
	p.tally(u.weight, -1)
	p.resize(u, -int(count))
	p.classes[c].refs++ // or the old description might take it along
	p.undescribe(n)
	p.describe(n, c, t)
	p.classes[c].refs--
	p.resize(u, t.Replicas)
	p.tally(t.Weight, 1)
	if int32(t.Replicas) != count {
		for k := int32(t.Replicas); k < count; k++ {
			if at[k] != none {
				p.strays[rota.Instance{Task: u.id, Index: int(k)}] = stray{p.workers[at[k]].name, fewerReplicas}
			}
		}
		p.free(first, count)
		p.allot(n, int32(t.Replicas))
		u = &p.tasks[n]
	}
	for k := range u.n {
		i := u.first + k
		p.born(i, n)
		if k < count && at[k] != none {
			p.report(i, measured[k])
			p.put(p.take(i), at[k])
			p.suspects = append(p.suspects, i)
			continue
		}
		if k >= count {
			p.adopt(i)
		}
	}
}

// same reports whether t says of the task what is known.
func (p *Planner) same(u *task, c int32, t *rota.Task) bool {
	group, key := "", ""
	if u.group != none {
		group = p.groups.all[u.group].name
	}
	if u.key != none {
		key = p.keys.all[u.key].name
	}
	return u.class == c && u.weight == t.Weight && u.priority == t.Priority && u.n == int32(t.Replicas) &&
		group == t.Group && key == t.Key && u.demand == p.demandOf(t.Resources)
}

func (p *Planner) free(first, n int32) {
	for i := first; i < first+n; i++ {
		p.insts[i] = inst{task: none, worker: none, pos: none}
	}
	p.blocks[n] = append(p.blocks[n], first)
}

// RemoveTask forgets the task. Its instances that are somewhere become moves
// to nowhere. An unknown id changes nothing.
func (p *Planner) RemoveTask(id string) {
	slot, ok := p.ids.find(p.tasks, id, hash64(id))
	if !ok {
		return
	}
	p.version++
	n := p.ids.slots[slot] - 1
	u := &p.tasks[n]
	for k := range u.n {
		w := p.insts[u.first+k].worker
		if w != none && !p.workers[w].gone {
			p.strays[rota.Instance{Task: u.id, Index: int(k)}] = stray{p.workers[w].name, taskDeleted}
		}
		p.take(u.first + k)
		p.forgetLoad(u.first + k)
		if w != none {
			p.release(w)
		}
	}
	p.ids.remove(p.tasks, slot)
	p.resize(u, -int(u.n))
	p.tally(u.weight, -1)
	p.undescribe(n)
	p.free(u.first, u.n)
	p.tasks[n] = task{}
	p.freed = append(p.freed, n)
	p.count--
}
