package orchestrator

import (
	"context"
	"sync"
)

// Communicator sends orders to workers. Its methods are called concurrently. Their contexts
// end with the term's context, or when the time limit of the call is over. A method that
// panics counts as failed.
type Communicator[W, T comparable] interface {
	// List returns the tasks that the worker runs.
	List(ctx context.Context, worker W) ([]T, error)
	// Add tells the worker to start the task.
	Add(ctx context.Context, worker W, task T) error
	// Remove tells the worker to stop the task.
	Remove(ctx context.Context, worker W, task T) error
}

// Task is a declared task.
type Task[T comparable] struct {
	Name      T
	Instances int // each on a different worker; zero means none
}

// WorkerState is what a worker reported to run.
type WorkerState[W, T comparable] struct {
	Name  W
	Tasks []T
}

// Orchestrator keeps the declared tasks and workers. It is safe for concurrent use. Create
// it with New.
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

// New returns an Orchestrator without tasks and workers.
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

// AddTask declares the task from the next term on. For a task that is already declared it
// changes nothing, not even the number of instances; UpdateTasks does.
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

// RemoveTask removes the task from the declared ones.
func (o *Orchestrator[W, T]) RemoveTask(task T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tasks.remove(task)
}

// UpdateTasks replaces the declared tasks, and keeps this order. If a task is listed twice,
// its last number of instances counts.
func (o *Orchestrator[W, T]) UpdateTasks(tasks []Task[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tasks = ordered[T, int]{}
	for _, t := range tasks {
		o.tasks.set(t.Name, max(t.Instances, 0))
	}
}

// ListExpectedTasks returns the declared tasks, in the order in which they were added or,
// after UpdateTasks, listed.
func (o *Orchestrator[W, T]) ListExpectedTasks() []Task[T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.expected()
}

// AddWorker gives the worker tasks from the next term on. Adding a worker twice changes
// nothing.
func (o *Orchestrator[W, T]) AddWorker(worker W) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.workers.set(worker, struct{}{})
}

// RemoveWorker removes the worker. The worker is not told to stop anything; its tasks are
// given to others.
func (o *Orchestrator[W, T]) RemoveWorker(worker W) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.workers.remove(worker)
}

// UpdateWorkers replaces the workers.
func (o *Orchestrator[W, T]) UpdateWorkers(workers []W) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.workers = ordered[W, struct{}]{}
	for _, w := range workers {
		o.workers.set(w, struct{}{})
	}
}

// LastActual returns what the workers reported in the last term, without those that did not
// answer; nil before the first term. The caller owns the slices.
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
