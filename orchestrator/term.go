package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// NextTerm asks all workers at once what they do, works out what has to change,
// then removes, then adds. A worker whose List fails or is late is left out of
// this term and gets nothing; what it did is given to others. An error does not
// end the term: all of them are joined and say what could not be done. A task
// is not added anywhere while its removal elsewhere has failed; the next term,
// which asks the workers again, makes good what this one could not.
//
// Terms run one at a time.
func (o *Orchestrator[W, T]) NextTerm(ctx context.Context) error {
	o.term.Lock()
	defer o.term.Unlock()
	tasks, workers := o.snapshot()
	actual, errs := o.ask(ctx, workers)
	o.mu.Lock()
	o.actual = actual
	o.mu.Unlock()

	remove, add, err := o.desk.plan(tasks, actual)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if len(actual) > 0 {
		o.set.log.Printf("orchestrator: term %d: %d of %d workers answered, %d tasks to remove, %d to add",
			o.desk.term, len(actual), len(workers), len(remove), len(add))
	}
	failed := o.carryOut(ctx, remove, "remove", o.comm.Remove)
	errs = append(errs, failed...)
	tried := add[:0]
	for _, x := range add {
		if x.after != nowhere && failed[x.after] != nil {
			o.desk.failed(x)
		} else {
			tried = append(tried, x)
		}
	}
	failed = o.carryOut(ctx, tried, "add", o.comm.Add)
	errs = append(errs, failed...)
	for i, err := range failed {
		if err != nil {
			o.desk.failed(tried[i])
		}
	}
	if o.set.stats != nil {
		o.set.stats(TermStats{WorkerCount: len(actual)})
	}
	return errors.Join(errs...)
}

// ask lists all workers at once.
func (o *Orchestrator[W, T]) ask(ctx context.Context, workers []W) (actual []WorkerState[W, T], errs []error) {
	type answer struct {
		tasks []T
		err   error
	}
	answers := make([]answer, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() {
			a := &answers[i]
			a.tasks, a.err = within(ctx, o.set, func(ctx context.Context) ([]T, error) { return o.comm.List(ctx, w) })
		})
	}
	wg.Wait()
	actual = make([]WorkerState[W, T], 0, len(workers))
	for i, w := range workers {
		if err := answers[i].err; err != nil {
			o.set.log.Printf("orchestrator: list %v: %v", w, err)
			errs = append(errs, fmt.Errorf("list %v: %w", w, err))
			continue
		}
		actual = append(actual, WorkerState[W, T]{w, append([]T(nil), answers[i].tasks...)})
	}
	return actual, errs
}

// carryOut gives the orders, many at once, waits for all, and returns the error
// of each.
func (o *Orchestrator[W, T]) carryOut(ctx context.Context, orders []order[W, T], what string, call func(context.Context, W, T) error) []error {
	errs := make([]error, len(orders))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(orders), maxCalls) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(orders)); i = next.Add(1) - 1 {
				x := &orders[i]
				_, err := within(ctx, o.set, func(ctx context.Context) (struct{}, error) {
					return struct{}{}, call(ctx, x.worker, x.task)
				})
				if err != nil {
					o.set.log.Printf("orchestrator: %s %v, worker %v: %v", what, x.task, x.worker, err)
					errs[i] = fmt.Errorf("%s %v, worker %v: %w", what, x.task, x.worker, err)
				}
			}
		})
	}
	wg.Wait()
	return errs
}

// within calls f with the time that a call has. It returns when that is up even
// if f does not; f's context is cancelled in any case.
func within[R any](ctx context.Context, s settings, f func(context.Context) (R, error)) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	type result struct {
		value R
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f(ctx)
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none R
		return none, ctx.Err()
	}
}
