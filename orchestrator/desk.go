package orchestrator

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
)

// desk is where a term is worked out: a planner, and the user's values by the
// planner's names. It outlives terms, so that a term costs what has changed.
type desk[W, T comparable] struct {
	planner *placement.Planner
	tasks   map[T]*record[T]
	byID    map[string]*record[T]
	names   map[W]string
	byName  map[string]W
	next    int // for names
	term    int
}

// record is one task: which of its instances the planner has on which worker.
type record[T comparable] struct {
	task T
	id   string
	n    int
	at   []string // by index, "" for nowhere
	seen []string // workers that said this term that they do it
	term int

	one, two [1]string // what at and seen begin with
}

// order is a task to be added to, or removed from, a worker.
type order[W, T comparable] struct {
	worker W
	task   T
	after  *order[W, T] // the removal that has to succeed first
	err    error
	rec    *record[T]
	index  int
}

func newDesk[W, T comparable]() *desk[W, T] {
	p, err := placement.New(placement.Options{})
	if err != nil {
		panic(err) // the zero options are valid
	}
	return &desk[W, T]{
		planner: p, tasks: map[T]*record[T]{}, byID: map[string]*record[T]{},
		names: map[W]string{}, byName: map[string]W{},
	}
}

// name makes a name that sorts after all names before.
func (d *desk[W, T]) name(prefix string) string {
	d.next++
	var b [16]byte
	n := append(b[:0], prefix...)
	n = strconv.AppendInt(n, 1_000_000_000_000+int64(d.next), 10)
	return string(n)
}

// plan works out what to remove and what to add, from what is expected and
// what the workers that answered say they do.
func (d *desk[W, T]) plan(tasks []Task[T], actual []WorkerState[W, T]) (remove, add []*order[W, T], err error) {
	d.term++
	if err := d.expect(tasks); err != nil {
		return nil, nil, err
	}
	if err := d.know(actual); err != nil {
		return nil, nil, err
	}
	remove, err = d.observe(actual)
	if err != nil {
		return nil, nil, err
	}
	plan := d.planner.Plan()
	d.planner.Commit(plan)
	adds := make([]order[W, T], 0, len(plan.Moves))
	for _, m := range plan.Moves {
		r := d.byID[m.Instance.Task]
		if r == nil {
			continue
		}
		var first *order[W, T]
		if from, ok := d.byName[m.From]; ok {
			first = &order[W, T]{worker: from, task: r.task}
			remove = append(remove, first)
		}
		r.at[m.Instance.Index] = m.To
		if m.To != "" {
			adds = append(adds, order[W, T]{worker: d.byName[m.To], task: r.task, after: first, rec: r, index: m.Instance.Index})
		}
	}
	for i := range adds {
		add = append(add, &adds[i])
	}
	return remove, add, nil
}

// failed tells the planner that an addition has failed.
func (d *desk[W, T]) failed(x *order[W, T]) {
	d.planner.Unassign(rota.Instance{Task: x.rec.id, Index: x.index})
	x.rec.at[x.index] = ""
}

// expect tells the planner of the tasks.
func (d *desk[W, T]) expect(tasks []Task[T]) error {
	if len(d.tasks) == 0 {
		d.tasks, d.byID = make(map[T]*record[T], len(tasks)), make(map[string]*record[T], len(tasks))
		d.planner.Reserve(len(tasks))
	}
	var slab []record[T] // new records come by the thousand
	for k, t := range tasks {
		n := instances(t.Instances)
		r := d.tasks[t.Name]
		if r == nil {
			if len(slab) == 0 {
				slab = make([]record[T], min(len(tasks)-k, 1024))
			}
			r, slab = &slab[0], slab[1:]
			r.task, r.id = t.Name, d.name("t")
			r.at, r.seen = r.one[:0], r.two[:0]
			d.tasks[t.Name], d.byID[r.id] = r, r
		}
		r.term = d.term
		if r.n == n {
			continue
		}
		for k := n; k < r.n; k++ { // what they run is extra from now on, not astray
			d.planner.Unassign(rota.Instance{Task: r.id, Index: k})
		}
		if err := d.planner.SetTask(rota.Task{ID: r.id, Replicas: n}); err != nil {
			return fmt.Errorf("task %v: %w", t.Name, err)
		}
		r.n = n
		r.at = slices.Grow(r.at, n)[:min(n, len(r.at))]
		for len(r.at) < n {
			r.at = append(r.at, "")
		}
	}
	for t, r := range d.tasks {
		if r.term != d.term {
			for k := range r.n {
				d.planner.Unassign(rota.Instance{Task: r.id, Index: k})
			}
			d.planner.RemoveTask(r.id)
			delete(d.tasks, t)
			delete(d.byID, r.id)
		}
	}
	return nil
}

// know tells the planner of the workers that answered. The others are gone for
// this term, and what they did is nowhere.
func (d *desk[W, T]) know(actual []WorkerState[W, T]) error {
	here := make(map[W]bool, len(actual))
	for _, s := range actual {
		here[s.Name] = true
		if _, ok := d.names[s.Name]; ok {
			continue
		}
		name := d.name("w")
		if err := d.planner.SetWorker(rota.Worker{Name: name}); err != nil {
			return fmt.Errorf("worker %v: %w", s.Name, err)
		}
		d.names[s.Name], d.byName[name] = name, s.Name
	}
	for w, name := range d.names {
		if !here[w] {
			d.planner.RemoveWorker(name)
			delete(d.names, w)
			delete(d.byName, name)
		}
	}
	return nil
}

// observe tells the planner who does what, and returns what nobody should: of
// tasks that are not expected all, of tasks with too many instances those of the
// fullest workers.
func (d *desk[W, T]) observe(actual []WorkerState[W, T]) (remove []*order[W, T], err error) {
	load := make(map[string]int, len(actual))
	for _, r := range d.tasks {
		r.seen = r.seen[:0]
	}
	for _, s := range actual {
		name := d.names[s.Name]
		load[name] = len(s.Tasks)
		for _, t := range s.Tasks {
			r := d.tasks[t]
			switch {
			case r == nil:
				remove = append(remove, &order[W, T]{worker: s.Name, task: t})
				load[name]--
			case !slices.Contains(r.seen, name):
				r.seen = append(r.seen, name)
			}
		}
	}
	for _, s := range actual { // in the order of the workers, not of a map
		for _, t := range s.Tasks {
			r := d.tasks[t]
			if r == nil {
				continue
			}
			for len(r.seen) > r.n {
				worst := 0
				for k := range r.seen {
					if load[r.seen[k]] > load[r.seen[worst]] {
						worst = k
					}
				}
				load[r.seen[worst]]--
				remove = append(remove, &order[W, T]{worker: d.byName[r.seen[worst]], task: t})
				r.seen = slices.Delete(r.seen, worst, worst+1)
			}
		}
	}
	for _, r := range d.tasks {
		if err := d.reconcile(r); err != nil {
			return nil, err
		}
	}
	return remove, nil
}

// reconcile corrects what the planner thinks of r where the workers differ.
func (d *desk[W, T]) reconcile(r *record[T]) error {
	for k, at := range r.at {
		if at != "" && !slices.Contains(r.seen, at) {
			d.planner.Unassign(rota.Instance{Task: r.id, Index: k})
			r.at[k] = ""
		}
	}
	k := 0
	for _, w := range r.seen {
		if slices.Contains(r.at, w) {
			continue
		}
		for r.at[k] != "" {
			k++
		}
		r.at[k] = w
		if err := d.planner.Assign(rota.Instance{Task: r.id, Index: k}, w); err != nil {
			return fmt.Errorf("task %v: %w", r.task, err)
		}
	}
	return nil
}
