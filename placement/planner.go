package placement

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// Planner holds tasks, workers and the assignment that is. It is not safe for
// use by several goroutines at once, not even for questions: Plan works on the
// state and puts it back.
type Planner struct {
	opt     Options
	tasks   []task
	freed   []int32 // free slots of tasks
	ids     index
	count   int // tasks
	insts   []inst
	blocks  map[int32][]int32 // free stretches of insts by length
	nowhere []entry
	workers []worker
	slots   []int32          // free slots of workers
	byName  map[string]int32 // workers, those that are gone too while they hold something
	order   []int32          // known workers by name
	level   []float64        // by worker slot: load per strength
	strays  map[rota.Instance]stray

	groups     names
	keys       names
	gangs      names
	watch      map[int32]struct{} // tasks of complex classes
	shunned    map[target][]int32 // the classes that must keep away from it
	followed   map[target]int     // how many classes must be with it
	spreading  int                // classes with a spread
	shyCount   map[pair]int32     // by class and worker, of shy classes
	groupCount map[pair]int32

	classes                               []*class
	classByHash                           map[uint64][]int32
	lastClass                             int32
	domains                               []*domain
	domainBySign                          map[string]int32
	demands                               []*demand
	demandByHash                          map[uint64][]int32
	freeClasses, freeDomains, freeDemands []int32
	resources                             []string
	resourceByName                        map[string]int32

	weightRef  float64 // the weight that all tasks but weightOdd of them have
	weightOdd  int
	weightSeen int

	reported []float64 // by instance: measured load, negative for unknown; nil if none ever was
	reports  int       // instances with a measured load
	scale    float64   // declared weight for one of measured load

	suspects []int32 // instances whose place has to be looked at again
	version  uint64  // grows with every change
	scratch  pass
	last     lastPlan
}

// stray is an instance that something runs although no task declares it.
type stray struct {
	worker string
	reason string
}

// New returns an empty planner, or a *rota.FieldError.
func New(o Options) (*Planner, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Planner{
		opt: o, lastClass: none,
		byName: map[string]int32{}, strays: map[rota.Instance]stray{},
		watch: map[int32]struct{}{}, shunned: map[target][]int32{}, followed: map[target]int{}, shyCount: map[pair]int32{},
		blocks: map[int32][]int32{}, groupCount: map[pair]int32{},
		classByHash: map[uint64][]int32{}, domainBySign: map[string]int32{},
		demandByHash: map[uint64][]int32{}, resourceByName: map[string]int32{},
	}, nil
}

// SetOptions changes the options from the next plan on.
func (p *Planner) SetOptions(o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	p.opt = o
	p.version++
	return nil
}

// Reserve makes room for so many tasks, for loading many at once.
func (p *Planner) Reserve(tasks int) {
	p.tasks = slices.Grow(p.tasks, max(0, tasks-len(p.tasks)))
	p.insts = slices.Grow(p.insts, max(0, tasks-len(p.insts)))
	p.ids.grow(p.tasks, tasks)
}

// Len returns the numbers of tasks and of workers, not counting those gone.
func (p *Planner) Len() (tasks, workers int) {
	for _, w := range p.order {
		if !p.workers[w].gone {
			workers++
		}
	}
	return p.count, workers
}

// lookup returns the slot of the task, or none.
func (p *Planner) lookup(id string) int32 {
	slot, ok := p.ids.find(p.tasks, id, hash64(id))
	if !ok {
		return none
	}
	return p.ids.slots[slot] - 1
}

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
				p.strays[rota.Instance{Task: u.id, Index: int(k)}] =
					stray{p.workers[at[k]].name, "the task has fewer replicas now"}
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
			p.strays[rota.Instance{Task: u.id, Index: int(k)}] = stray{p.workers[w].name, "the task is gone"}
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

// SetWorker adds a worker or changes it.
func (p *Planner) SetWorker(w rota.Worker) error {
	if err := w.Validate(); err != nil {
		return err
	}
	p.version++
	n, ok := p.byName[w.Name]
	if !ok {
		n = int32(len(p.workers))
		if k := len(p.slots); k > 0 {
			n, p.slots = p.slots[k-1], p.slots[:k-1]
		} else {
			p.workers = append(p.workers, worker{})
			p.level = append(p.level, 0)
		}
		p.workers[n] = worker{name: strings.Clone(w.Name), hash: hash64(w.Name), room: make([]room, len(p.resources))}
		p.byName[p.workers[n].name] = n
		at, _ := slices.BinarySearchFunc(p.order, w.Name, func(k int32, name string) int { return strings.Compare(p.workers[k].name, name) })
		p.order = slices.Insert(p.order, at, n)
	}
	k := &p.workers[n]
	if k.gone { // what it held is nowhere; it comes back with empty hands
		for len(k.list) > 0 {
			p.assign(k.list[len(k.list)-1].inst, none)
			if _, ok := p.byName[w.Name]; !ok {
				return p.SetWorker(w) // that emptied it, and its slot is free again
			}
		}
	}
	k.spec = cloneWorker(w)
	k.known, k.gone, k.dirty = true, false, true
	k.max = int32(min(w.MaxTasks, math.MaxInt32))
	if k.max == 0 {
		k.max = math.MaxInt32
	}
	k.strength = w.Strength
	if k.strength == 0 {
		k.strength = 1
	}
	if w.Ramp > 0 {
		k.strength *= w.Ramp
	}
	p.rate(n, k)
	for r, name := range p.resources {
		used := k.room[r].used
		k.room[r] = k.roomFor(name)
		k.room[r].used = used
	}
	for _, d := range p.domains {
		if d != nil {
			in, _ := d.admits(&k.spec)
			d.set(n, in)
		}
	}
	return nil
}

func cloneWorker(w rota.Worker) rota.Worker {
	labels, capacity := w.Labels, w.Capacity
	w.Kinds = slices.Clone(w.Kinds)
	w.Labels = make(map[string]string, len(labels))
	for k, v := range labels {
		w.Labels[k] = v
	}
	if capacity != nil {
		w.Capacity = make(map[string]float64, len(capacity))
		for k, v := range capacity {
			w.Capacity[k] = v
		}
	}
	return w
}

// RemoveWorker says that the worker is gone. The next plan places what it held
// elsewhere. An unknown name changes nothing.
func (p *Planner) RemoveWorker(name string) {
	n, ok := p.byName[name]
	if !ok || p.workers[n].gone {
		return
	}
	p.version++
	p.workers[n].gone = true
	for _, d := range p.domains {
		if d != nil {
			d.set(n, false)
		}
	}
	for i, s := range p.strays {
		if s.worker == name {
			delete(p.strays, i)
		}
	}
	p.release(n)
}

// release frees the slot of a worker that is gone and empty.
func (p *Planner) release(n int32) {
	k := &p.workers[n]
	if !k.gone || len(k.list) > 0 {
		return
	}
	at := slices.Index(p.order, n)
	p.order = slices.Delete(p.order, at, at+1)
	delete(p.byName, k.name)
	*k = worker{}
	p.slots = append(p.slots, n)
}

// Assign says that the instance is on the worker: a fact, whatever the rules
// say; the next plan puts right what may not be. An instance that no task
// declares becomes a move to nowhere.
func (p *Planner) Assign(i rota.Instance, name string) error {
	w, ok := p.byName[name]
	if !ok || p.workers[w].gone {
		return fmt.Errorf("assign %s: worker %q: %w", i, name, rota.ErrNotFound)
	}
	if i.Index < 0 || i.Index >= rota.MaxReplicas {
		return fmt.Errorf("assign %s: %w", i, &rota.FieldError{Field: "index", Value: i.Index, Want: fmt.Sprintf("0 to %d", rota.MaxReplicas-1)})
	}
	p.version++
	n := p.find(i)
	if n == none {
		i.Task = strings.Clone(i.Task)
		p.strays[i] = stray{p.workers[w].name, "no task declares it"}
		return nil
	}
	p.assign(n, w)
	p.suspects = append(p.suspects, n)
	return nil
}

func (p *Planner) assign(i, w int32) {
	old := p.insts[i].worker
	p.put(p.take(i), w)
	if old != none {
		p.release(old)
	}
}

// find returns the number of a declared instance, or none.
func (p *Planner) find(i rota.Instance) int32 {
	t := p.lookup(i.Task)
	if t == none || i.Index < 0 || i.Index >= int(p.tasks[t].n) {
		return none
	}
	return p.tasks[t].first + int32(i.Index)
}

// Unassign says that the instance is nowhere.
func (p *Planner) Unassign(i rota.Instance) {
	p.version++
	if n := p.find(i); n != none {
		p.assign(n, none)
		p.forgetLoad(n)
		return
	}
	delete(p.strays, i)
}

// Where returns the worker that holds the instance. An instance whose worker
// is gone, or that no task declares, is nowhere.
func (p *Planner) Where(i rota.Instance) (worker string, ok bool) {
	n := p.find(i)
	if n == none || p.insts[n].worker == none || p.workers[p.insts[n].worker].gone {
		return "", false
	}
	return p.workers[p.insts[n].worker].name, true
}
