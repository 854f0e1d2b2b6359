package orchestrator

import (
	"context"
	"sync"
)

// Communicator carries orders to workers. Each method is called from many
// goroutines at once; its context ends with the term's, or when the call's time
// is up. A method that panics has failed.
type Communicator[W, T comparable] interface {
	// List returns the tasks that the worker does.
	List(ctx context.Context, worker W) ([]T, error)
	// Add has the worker begin the task.
	Add(ctx context.Context, worker W, task T) error
	// Remove has the worker end the task.
	Remove(ctx context.Context, worker W, task T) error
}

// Task is what is expected of a task.
type Task[T comparable] struct {
	Name      T
	Instances int // each on another worker; zero means none
}

// WorkerState is what a worker said it does.
type WorkerState[W, T comparable] struct {
	Name  W
	Tasks []T
}

// Orchestrator keeps what is expected. All methods are safe from many
// goroutines. Make one with New.
type Orchestrator[W, T comparable] struct {
	comm  Communicator[W, T]
	calls calls[W]

	mu      sync.Mutex // of what is expected and what was said
	tasks   ordered[T, int]
	workers ordered[W, struct{}]
	actual  []WorkerState[W, T]

	term sync.Mutex // of the terms, one at a time
	desk *desk[W, T]
}

// New returns an Orchestrator that expects nothing yet.
func New[W, T comparable](c Communicator[W, T], options ...Option) *Orchestrator[W, T] {
	o := &Orchestrator[W, T]{comm: c, desk: newDesk[W, T]()}
	o.calls = calls[W]{settings: settings{log: silence{}, timeout: DefaultTimeout}, hung: map[W]int{}}
	for _, f := range options {
		f(&o.calls.settings)
	}
	if o.calls.log == nil {
		o.calls.log = silence{}
	}
	return o
}

// AddTask expects the task from the next term on. Adding one that is expected
// already changes nothing, not even its number of instances; UpdateTasks does.
func (o *Orchestrator[W, T]) AddTask(task T, options ...TaskOption) {
	n := 1
	for _, f := range options {
		f(&n)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.tasks.has(task) {
		o.tasks.set(task, max(n, 0))
	}
}

// RemoveTask no longer expects the task.
func (o *Orchestrator[W, T]) RemoveTask(task T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tasks.remove(task)
}

// UpdateTasks expects these tasks and no others, in this order. Of a task that
// is there twice the last number of instances counts.
func (o *Orchestrator[W, T]) UpdateTasks(tasks []Task[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tasks = ordered[T, int]{}
	for _, t := range tasks {
		o.tasks.set(t.Name, max(t.Instances, 0))
	}
}

// ListExpectedTasks returns what is expected, in the order in which it was
// added or, after UpdateTasks, listed.
func (o *Orchestrator[W, T]) ListExpectedTasks() []Task[T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.expected()
}

// AddWorker gives work to the worker from the next term on. Adding it twice is
// harmless.
func (o *Orchestrator[W, T]) AddWorker(worker W) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.workers.set(worker, struct{}{})
}

// RemoveWorker no longer knows the worker. It is not told to end anything: what
// it did is given to others.
func (o *Orchestrator[W, T]) RemoveWorker(worker W) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.workers.remove(worker)
}

// UpdateWorkers knows these workers and no others.
func (o *Orchestrator[W, T]) UpdateWorkers(workers []W) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.workers = ordered[W, struct{}]{}
	for _, w := range workers {
		o.workers.set(w, struct{}{})
	}
}

// LastActual returns what the workers said in the last term, without those that
// did not answer; nil before the first term. The slices are the caller's.
func (o *Orchestrator[W, T]) LastActual() []WorkerState[W, T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.actual == nil {
		return nil
	}
	list := make([]WorkerState[W, T], len(o.actual))
	for i, s := range o.actual {
		list[i] = WorkerState[W, T]{s.Name, append([]T(nil), s.Tasks...)}
	}
	return list
}

// expected returns a copy of what is expected. The caller holds the lock.
func (o *Orchestrator[W, T]) expected() []Task[T] {
	list := make([]Task[T], 0, o.tasks.len())
	for t, n := range o.tasks.all() {
		list = append(list, Task[T]{t, n})
	}
	return list
}

// snapshot returns what is expected now, as copies.
func (o *Orchestrator[W, T]) snapshot() (tasks []Task[T], workers []W) {
	o.mu.Lock()
	defer o.mu.Unlock()
	workers = make([]W, 0, o.workers.len())
	for w := range o.workers.all() {
		workers = append(workers, w)
	}
	return o.expected(), workers
}
