package placement

import (
	"slices"

	"github.com/rota-project/rota"
)

// none is no worker, no group, no key, no demand.
const none = int32(-1)

// task is what the planner keeps of a rota.Task: 64 bytes and its id.
type task struct {
	id       string
	hash     uint64
	weight   float64
	priority float64
	first, n int32 // its instances: insts[first : first+n]
	class    int32
	group    int32
	key      int32
	demand   int32
}

// inst is one instance: where it is and where in that place's list.
type inst struct {
	task   int32
	worker int32 // none while it is nowhere
	pos    int32 // none while it is being placed
}

// entry is an instance in the list of its worker, with what choosing among the
// list needs, so that a choice reads one stretch of memory.
type entry struct {
	inst   int32
	tie    uint32 // the high half of the instance's tie, but for its lowest bit: see plain
	weight float64
}

// plain reports whether nothing but its weight distinguishes the instance: it
// has one replica, no demand, group, key or rules that look at others, so that
// lists and loads are all that its moves touch.
func (e entry) plain() bool { return e.tie&1 != 0 }

// worker is a slot for a worker. A worker that is gone keeps its slot, and its
// instances, until a plan has placed them elsewhere, so that moves can say where
// they were; for everybody else they are nowhere.
type worker struct {
	list     []entry
	load     amount // the sum of declared weights
	declared amount // of those with measured load, the sum of declared weights
	measured amount // and of measured loads
	strength float64
	max      int32 // the most instances it takes
	known    bool  // set up; free slots are not
	gone     bool
	open     bool // ready: known, not gone, cordoned or draining
	drains   bool
	dirty    bool   // something changed that may forbid what it holds
	room     []room // by resource number
	name     string
	hash     uint64
	spec     rota.Worker
}

// room is the state of one resource on one worker.
type room struct {
	used, capacity amount
	counted        bool // false: the worker counts nothing
}

// ready reports whether the worker may be given something.
func (w *worker) ready() bool { return w.open }

func (w *worker) roomFor(name string) room {
	if w.spec.Capacity == nil {
		return room{}
	}
	return room{capacity: toAmount(w.spec.Capacity[name]), counted: true}
}

// named is a group or a key.
type named struct {
	name    string
	hash    uint64
	refs    int
	size    int     // groups only: instances
	placed  int     // groups only: instances that are somewhere
	members []int32 // keys and gangs only: tasks, in no order
}

type names struct {
	all  []named
	by   map[string]int32
	free []int32
}

func (n *names) get(name string) int32 {
	if name == "" {
		return none
	}
	if i, ok := n.by[name]; ok {
		return i
	}
	if n.by == nil {
		n.by = map[string]int32{}
	}
	v := named{name: name, hash: hash64(name)}
	i := int32(len(n.all))
	if k := len(n.free); k > 0 {
		i, n.free = n.free[k-1], n.free[:k-1]
		n.all[i] = v
	} else {
		n.all = append(n.all, v)
	}
	n.by[name] = i
	return i
}

// join and leave keep the members of a key or gang.
func (n *names) join(i, task int32) {
	if i != none {
		n.all[i].members = append(n.all[i].members, task)
	}
}

func (n *names) leave(i, task int32) {
	if i != none {
		m := n.all[i].members
		k := slices.Index(m, task)
		m[k] = m[len(m)-1]
		n.all[i].members = m[:len(m)-1]
	}
}

func (n *names) ref(i int32) {
	if i != none {
		n.all[i].refs++
	}
}

func (n *names) unref(i int32) {
	if i == none {
		return
	}
	if n.all[i].refs--; n.all[i].refs == 0 {
		delete(n.by, n.all[i].name)
		n.all[i] = named{}
		n.free = append(n.free, i)
	}
}

// pair is a group, a class or an instance, and a worker.
type pair struct{ of, worker int32 }

func (p *Planner) instance(i int32) rota.Instance {
	t := &p.tasks[p.insts[i].task]
	return rota.Instance{Task: t.id, Index: int(i - t.first)}
}

// tieOf is by which equal instances are told apart: their task's hash, with the
// index in its low bits, so that a task's instances have their turns in order.
func (t *task) tieOf(i int32) uint64 {
	const indexBits = 14 // rota.MaxReplicas fits
	return t.hash&^(1<<indexBits-1) | uint64(i-t.first)
}

// less orders equal instances for good: by hash, then by name.
func (p *Planner) less(i, j int32) bool {
	t, u := &p.tasks[p.insts[i].task], &p.tasks[p.insts[j].task]
	if a, b := t.tieOf(i), u.tieOf(j); a != b {
		return a < b
	}
	if t.id != u.id {
		return t.id < u.id
	}
	return i-t.first < j-u.first
}

// entryOf is what lists keep of instance i.
func (p *Planner) entryOf(i int32) entry {
	t := &p.tasks[p.insts[i].task]
	e := entry{inst: i, tie: uint32(t.tieOf(i)>>32) &^ 1, weight: t.weight}
	c := p.classes[t.class]
	if t.n == 1 && t.demand == none && t.group == none && t.key == none && !c.complex && !c.rules.Preempt {
		e.tie |= 1
	}
	return e
}

// put places an instance, which is in no list, on worker w, or (none) on the
// list of what is nowhere.
func (p *Planner) put(e entry, w int32) {
	in := &p.insts[e.inst]
	in.worker = w
	if w == none {
		in.pos = int32(len(p.nowhere))
		p.nowhere = append(p.nowhere, e)
		return
	}
	k := &p.workers[w]
	in.pos = int32(len(k.list))
	k.list = append(k.list, e)
	k.load = k.load.plus(toAmount(e.weight))
	if m := p.measured(e.inst); m >= 0 {
		k.declared, k.measured = k.declared.plus(toAmount(e.weight)), k.measured.plus(toAmount(m))
	}
	p.rate(w, k)
	if !e.plain() {
		p.charge(in.task, w, k)
	}
}

// charge counts what an instance takes of a worker besides its weight.
func (p *Planner) charge(n, w int32, k *worker) {
	t := &p.tasks[n]
	if t.demand != none {
		for _, n := range p.demands[t.demand].amounts {
			k.room[n.resource].used = k.room[n.resource].used.plus(n.amount)
		}
	}
	if t.group != none {
		p.groupCount[pair{t.group, w}]++
		p.groups.all[t.group].placed++
	}
	if p.classes[t.class].shy {
		p.shyCount[pair{t.class, w}]++
	}
}

// take removes instance i from its list and returns its entry.
func (p *Planner) take(i int32) entry {
	in := &p.insts[i]
	list := &p.nowhere
	if w := in.worker; w != none {
		k := &p.workers[w]
		list = &k.list
		p.unload(k.list[in.pos], w, k)
	}
	if in.pos == none { // it is being placed, in no list
		return p.entryOf(i)
	}
	last := len(*list) - 1
	taken, e := (*list)[in.pos], (*list)[last]
	(*list)[in.pos] = e
	p.insts[e.inst].pos = in.pos
	*list = (*list)[:last]
	in.worker, in.pos = none, none
	return taken
}

// takeLast is take for an entry that is the last of the list of worker w.
func (p *Planner) takeLast(w int32) entry {
	k := &p.workers[w]
	last := len(k.list) - 1
	e := k.list[last]
	p.unload(e, w, k)
	k.list = k.list[:last]
	return e
}

// unload takes an entry out of its worker's sums.
func (p *Planner) unload(e entry, w int32, k *worker) {
	weight := toAmount(e.weight)
	k.load = k.load.minus(weight)
	if m := p.measured(e.inst); m >= 0 {
		k.declared, k.measured = k.declared.minus(weight), k.measured.minus(toAmount(m))
	}
	p.rate(w, k)
	if !e.plain() {
		p.discharge(p.insts[e.inst].task, w, k)
	}
}

// discharge takes back charge.
func (p *Planner) discharge(n, w int32, k *worker) {
	t := &p.tasks[n]
	if t.demand != none {
		for _, n := range p.demands[t.demand].amounts {
			k.room[n.resource].used = k.room[n.resource].used.minus(n.amount)
		}
	}
	if t.group != none {
		c := pair{t.group, w}
		if n := p.groupCount[c] - 1; n == 0 {
			delete(p.groupCount, c)
		} else {
			p.groupCount[c] = n
		}
		p.groups.all[t.group].placed--
	}
	if p.classes[t.class].shy {
		p.shyCount[pair{t.class, w}]--
	}
}
