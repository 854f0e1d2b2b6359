package placement

import (
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
	pos    int32
}

// entry is an instance in the list of its worker, with what choosing among the
// list needs, so that a choice reads one stretch of memory.
type entry struct {
	inst   int32
	tie    uint32 // the high half of the instance's hash
	weight float64
}

// worker is a slot for a worker. A worker that is gone keeps its slot, and its
// instances, until a plan has placed them elsewhere, so that moves can say where
// they were; for everybody else they are nowhere.
type worker struct {
	spec     rota.Worker
	name     string
	hash     uint64
	known    bool // set up; free slots are not
	gone     bool
	dirty    bool // something changed that may forbid what it holds
	strength float64
	list     []entry
	load     amount // the sum of declared weights
	room     []room // by resource number
}

// room is the state of one resource on one worker.
type room struct {
	used, capacity amount
	counted        bool // false: the worker counts nothing
}

func (w *worker) ready() bool { return w.known && !w.gone && !w.spec.Cordoned && !w.spec.Draining }

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
	size    int     // instances
	members []int32 // keys only: tasks, in no order
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

// pair is a group and a worker.
type pair struct{ group, worker int32 }

func (p *Planner) instance(i int32) rota.Instance {
	t := &p.tasks[p.insts[i].task]
	return rota.Instance{Task: t.id, Index: int(i - t.first)}
}

// tieOf is the hash by which equal instances are told apart.
func (t *task) tieOf(i int32) uint64 {
	if i == t.first {
		return t.hash
	}
	return mix(t.hash + uint64(i-t.first))
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

// put places instance i, which is nowhere and in no list, on worker w, or (none)
// on the list of what is nowhere.
func (p *Planner) put(i, w int32) {
	in := &p.insts[i]
	t := &p.tasks[in.task]
	in.worker = w
	e := entry{inst: i, tie: uint32(t.tieOf(i) >> 32), weight: t.weight}
	if w == none {
		in.pos = int32(len(p.nowhere))
		p.nowhere = append(p.nowhere, e)
		return
	}
	k := &p.workers[w]
	in.pos = int32(len(k.list))
	k.list = append(k.list, e)
	k.load = k.load.plus(toAmount(t.weight))
	p.level[w] = k.load.float() / k.strength
	if t.demand != none {
		for _, n := range p.demands[t.demand].amounts {
			k.room[n.resource].used = k.room[n.resource].used.plus(n.amount)
		}
	}
	if t.group != none {
		p.groupCount[pair{t.group, w}]++
	}
}

// take removes instance i from its list.
func (p *Planner) take(i int32) {
	in := &p.insts[i]
	list := &p.nowhere
	if w := in.worker; w != none {
		k := &p.workers[w]
		list = &k.list
		t := &p.tasks[in.task]
		k.load = k.load.minus(toAmount(t.weight))
		p.level[w] = k.load.float() / k.strength
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
		}
	}
	last := len(*list) - 1
	e := (*list)[last]
	(*list)[in.pos] = e
	p.insts[e.inst].pos = in.pos
	*list = (*list)[:last]
	in.worker, in.pos = none, none
}
