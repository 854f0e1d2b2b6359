package orchestrator

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
)

// desk is where a term is worked out: a planner, and the user's values by the
// numbers that are their names there. It outlives terms, so that a term costs
// what has changed.
type desk[W, T comparable] struct {
	planner *placement.Planner
	tasks   map[T]*record[T]
	records []*record[T] // by number; nil is free
	workers map[W]int32
	places  []place[W] // by number
	trust   trust[W, T]
	term    int
}

// record is one task: which of its instances the planner has on which worker.
type record[T comparable] struct {
	task   T
	id     string
	number int32
	n      int
	avoid  string  // the rule that keeps it from workers that refused it
	at     []int32 // by index: a worker's number, or nowhere
	seen   []int32 // workers that said this term that they do it
	term   int     // when it was last expected

	one, two [1]int32 // what at and seen begin with
}

const nowhere = int32(-1)

// place is a worker that answers.
type place[W comparable] struct {
	worker W
	name   string // empty is free
	load   int
	term   int  // when it last answered
	rests  bool // it is given nothing new
	marked bool // it has the label that avoid asks for
}

// order is a task to be added to, or removed from, a worker.
type order[W, T comparable] struct {
	worker W
	task   T
	record int32 // of an addition,
	index  int32 // which instance it is,
	after  int32 // the removal that has to succeed first, by its place, or nowhere,
	back   int32 // and the worker that gets it if this one refuses, by its number, or nowhere
}

func newDesk[W, T comparable]() *desk[W, T] {
	p, err := placement.New(placement.Options{})
	if err != nil {
		panic(err) // the zero options are valid
	}
	return &desk[W, T]{planner: p, workers: map[W]int32{}, trust: newTrust[W, T]()}
}

// plan works out what to remove and what to add, from what is expected and
// what the workers that answered say they do.
func (d *desk[W, T]) plan(tasks []Task[T], actual []WorkerState[W, T]) (remove, add []order[W, T], err error) {
	d.term++
	d.trust.begin(d.term, actual)
	if err := d.expect(tasks, len(actual)); err != nil {
		return nil, nil, err
	}
	if err := d.know(actual); err != nil {
		return nil, nil, err
	}
	if remove, err = d.observe(actual); err != nil {
		return nil, nil, err
	}
	if err := d.avoid(); err != nil {
		return nil, nil, err
	}
	plan := d.planner.Plan()
	d.planner.Commit(plan)
	add = make([]order[W, T], 0, len(plan.Moves))
	for i := range plan.Moves {
		m := &plan.Moves[i]
		r := d.records[number(m.Instance.Task)]
		x := order[W, T]{task: r.task, record: r.number, index: int32(m.Instance.Index), after: nowhere, back: nowhere}
		if m.From != "" {
			from := number(m.From)
			x.worker, x.after, x.back = d.places[from].worker, int32(len(remove)), from
			remove = append(remove, x)
		}
		r.at[x.index] = nowhere
		if m.To != "" {
			to := number(m.To)
			r.at[x.index], x.worker = to, d.places[to].worker
			add = append(add, x)
		}
	}
	return d.tryOut(remove, add)
}

// number is what a name that the desk gave stands for.
func number(name string) (n int32) {
	for i := range len(name) {
		n = n*10 + int32(name[i]-'0')
	}
	return n
}

// failed tells the planner that an addition has failed.
func (d *desk[W, T]) failed(x order[W, T]) {
	d.lift(d.records[x.record], int(x.index))
}

// put tells the planner where an instance is.
func (d *desk[W, T]) put(r *record[T], index int, to int32) error {
	r.at[index] = to
	if err := d.planner.Assign(rota.Instance{Task: r.id, Index: index}, d.places[to].name); err != nil {
		return fmt.Errorf("task %v: %w", r.task, err)
	}
	return nil
}

// lift says that an instance is nowhere.
func (d *desk[W, T]) lift(r *record[T], index int) {
	d.planner.Unassign(rota.Instance{Task: r.id, Index: index})
	r.at[index] = nowhere
}

// expect tells the planner of the tasks. More instances than there are workers
// wait, and the planner does not hear of them.
func (d *desk[W, T]) expect(tasks []Task[T], workers int) error {
	if len(d.tasks) == 0 {
		d.tasks, d.records = make(map[T]*record[T], len(tasks)), make([]*record[T], 0, len(tasks))
		d.planner.Reserve(len(tasks))
	}
	var slab []record[T] // new records come by the thousand
	free, wanted := 0, 0
	for k, t := range tasks {
		if t.Instances <= 0 {
			continue
		}
		wanted++
		r := d.tasks[t.Name]
		if r == nil {
			if len(slab) == 0 {
				slab = make([]record[T], min(len(tasks)-k, 1024))
			}
			r, slab = &slab[0], slab[1:]
			for free < len(d.records) && d.records[free] != nil {
				free++
			}
			if free == len(d.records) {
				d.records = append(d.records, nil)
			}
			r.task, r.number, r.id = t.Name, int32(free), strconv.Itoa(free)
			r.at, r.seen = r.one[:0], r.two[:0]
			d.tasks[t.Name], d.records[free] = r, r
		}
		r.term, r.seen = d.term, r.seen[:0]
		if err := d.resize(r, min(t.Instances, max(workers, 1), rota.MaxReplicas)); err != nil {
			return err
		}
	}
	if len(d.tasks) == wanted {
		return nil
	}
	for n, r := range d.records {
		if r != nil && r.term != d.term {
			for k := range r.n {
				d.lift(r, k)
			}
			d.planner.RemoveTask(r.id)
			delete(d.tasks, r.task)
			d.records[n] = nil
		}
	}
	return nil
}

// resize tells the planner of a task's number of instances.
func (d *desk[W, T]) resize(r *record[T], n int) error {
	if r.n == n {
		return nil
	}
	for k := n; k < r.n; k++ { // what they run is extra from now on, not astray
		d.lift(r, k)
	}
	r.n = n
	if err := d.declare(r); err != nil {
		return err
	}
	r.at = slices.Grow(r.at, n)[:min(n, len(r.at))]
	for len(r.at) < n {
		r.at = append(r.at, nowhere)
	}
	return nil
}

// declare tells the planner what a task asks for.
func (d *desk[W, T]) declare(r *record[T]) error {
	t := rota.Task{ID: r.id, Replicas: r.n}
	if r.avoid != "" {
		t.Rules.Require = []string{r.avoid}
	}
	if err := d.planner.SetTask(t); err != nil {
		return fmt.Errorf("task %v: %w", r.task, err)
	}
	return nil
}

// know tells the planner of the workers that answered. The others are gone for
// this term, and what they did is nowhere.
func (d *desk[W, T]) know(actual []WorkerState[W, T]) error {
	free := 0
	for _, s := range actual {
		n, ok := d.workers[s.Name]
		if !ok {
			for free < len(d.places) && d.places[free].name != "" {
				free++
			}
			if n = int32(free); free == len(d.places) {
				d.places = append(d.places, place[W]{})
			}
			d.workers[s.Name], d.places[n] = n, place[W]{worker: s.Name, name: strconv.Itoa(free)}
		}
		p := &d.places[n]
		p.term = d.term
		rests, marked := d.trust.rests(s.Name), d.trust.refused[s.Name]
		if ok && rests == p.rests && marked == p.marked {
			continue
		}
		p.rests, p.marked = rests, marked
		w := rota.Worker{Name: p.name, Cordoned: rests}
		if marked {
			w.Labels = map[string]string{refused: p.name}
		}
		if err := d.planner.SetWorker(w); err != nil {
			return fmt.Errorf("worker %v: %w", s.Name, err)
		}
	}
	for n := range d.places {
		if p := &d.places[n]; p.name != "" && p.term != d.term {
			d.planner.RemoveWorker(p.name)
			delete(d.workers, p.worker)
			*p = place[W]{}
		}
	}
	return nil
}

// observe tells the planner who does what, and returns what nobody should: of
// tasks that are not expected all, of tasks with too many instances those of the
// fullest workers.
func (d *desk[W, T]) observe(actual []WorkerState[W, T]) (remove []order[W, T], err error) {
	for _, s := range actual {
		w := d.workers[s.Name]
		p := &d.places[w]
		p.load = len(s.Tasks)
		for _, t := range s.Tasks {
			r := d.tasks[t]
			switch {
			case r == nil:
				remove = append(remove, order[W, T]{worker: s.Name, task: t, after: nowhere, back: nowhere})
				p.load--
			case !slices.Contains(r.seen, w):
				r.seen = append(r.seen, w)
			}
		}
	}
	for _, r := range d.records {
		if r == nil {
			continue
		}
		for len(r.seen) > r.n {
			worst := 0
			for k, w := range r.seen {
				if d.places[w].load > d.places[r.seen[worst]].load {
					worst = k
				}
			}
			p := &d.places[r.seen[worst]]
			p.load--
			remove = append(remove, order[W, T]{worker: p.worker, task: r.task, after: nowhere, back: nowhere})
			r.seen = slices.Delete(r.seen, worst, worst+1)
		}
		if err := d.reconcile(r); err != nil {
			return nil, err
		}
	}
	return remove, nil
}

// reconcile corrects what the planner thinks of r where the workers differ.
func (d *desk[W, T]) reconcile(r *record[T]) error {
	for k, w := range r.at {
		if w != nowhere && !slices.Contains(r.seen, w) {
			d.lift(r, k)
		}
	}
	k := 0
	for _, w := range r.seen {
		if slices.Contains(r.at, w) {
			continue
		}
		for r.at[k] != nowhere {
			k++
		}
		if err := d.put(r, k, w); err != nil {
			return err
		}
	}
	return nil
}
