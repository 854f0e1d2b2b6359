package placement

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota"
)

// Planner holds tasks, workers and the current assignment. It is not safe for concurrent
// use, not even for queries: Plan works on the state and restores it.
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
	claims  map[string]Use // what else takes of workers, see Claim

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

	suspects []int32           // instances whose place has to be looked at again
	version  uint64            // grows with every change
	left     map[pair]struct{} // by instance and worker: what balance took from where since settled
	settled  uint64            // the version that the last commit made
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
	p.nowhere = slices.Grow(p.nowhere, max(0, tasks-p.count))
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

// Assign records that the instance is on the worker. It is a fact, whatever the rules say;
// the next plan corrects what the rules forbid, and stops an instance that no task
// declares.
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
		p.strays[i] = stray{p.workers[w].name, Text(rota.Undeclared)}
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

// Unassign records that the instance is on no worker.
func (p *Planner) Unassign(i rota.Instance) {
	p.version++
	if n := p.find(i); n != none {
		p.assign(n, none)
		p.forgetLoad(n)
		return
	}
	delete(p.strays, i)
}

// Where returns the worker that holds the instance. An instance whose worker is gone, or
// that no task declares, has none.
func (p *Planner) Where(i rota.Instance) (worker string, ok bool) {
	n := p.find(i)
	if n == none || p.insts[n].worker == none || p.workers[p.insts[n].worker].gone {
		return "", false
	}
	return p.workers[p.insts[n].worker].name, true
}
