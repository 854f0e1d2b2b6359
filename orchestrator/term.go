package orchestrator

import (
	"context"
	"errors"
	"fmt"

	"github.com/rota-project/rota"
)

// NextTerm asks all workers at once what they run, computes the changes, then removes, then
// adds. A worker whose List fails or times out is left out of this term and gets nothing;
// its tasks are given to others.
//
// An error does not end the term: NextTerm returns all errors, joined, which say what could
// not be done. A task is not added anywhere while its removal elsewhere has failed. If a
// task was removed from one worker and the new worker refuses it, it goes back to the first
// one at once; any other refused task goes to another worker in the next term. A worker
// that accepts none of a term's additions gets nothing new for some terms (at most four),
// and is then tried with one task.
//
// Terms run one at a time.
func (o *Orchestrator[W, T]) NextTerm(ctx context.Context) error {
	o.term.Lock()
	defer o.term.Unlock()
	tasks, workers := o.snapshot()
	actual, errs := list(ctx, &o.calls, workers, o.comm.List)
	o.mu.Lock()
	o.actual = actual
	o.mu.Unlock()
	if o.calls.stats != nil {
		defer o.calls.stats(TermStats{WorkerCount: len(actual)})
	}

	for _, t := range tasks {
		if min(t.Instances, len(actual)) > rota.MaxReplicas {
			errs = append(errs, fmt.Errorf("task %v: %d instances: only %d are placed", t.Name, t.Instances, rota.MaxReplicas))
		}
	}
	remove, add, err := o.desk.plan(tasks, actual)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if len(actual) > 0 {
		o.calls.log.Printf("orchestrator: term %d: %d of %d workers answered, %d tasks to remove, %d to add",
			o.desk.term, len(actual), len(workers), len(remove), len(add))
	}
	failed := give(ctx, &o.calls, remove, "remove", o.comm.Remove)
	errs = append(errs, told(remove, failed, "remove")...)
	tried := add[:0]
	for _, x := range add {
		if x.after != nowhere && failed[x.after] != nil {
			o.desk.failed(x)
		} else {
			tried = append(tried, x)
		}
	}
	failed = give(ctx, &o.calls, tried, "add", o.comm.Add)
	err = o.putBack(ctx, tried, failed)
	return errors.Join(append(append(errs, told(tried, failed, "add")...), err)...)
}

// putBack gives the tasks whose addition failed to the workers that had them
// before, and notes how the additions went. One that was late may have been
// added all the same: the next term knows.
func (o *Orchestrator[W, T]) putBack(ctx context.Context, added []order[W, T], failed []error) error {
	var again []order[W, T]
	var at []int
	for i, err := range failed {
		if err == nil {
			continue
		}
		x := added[i]
		o.desk.failed(x)
		if x.back == nowhere || errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		x.worker = o.desk.places[x.back].worker
		again, at = append(again, x), append(at, i)
	}
	back := give(ctx, &o.calls, again, "put back", o.comm.Add)
	var wrong error
	for k, err := range back {
		x := again[k]
		if err == nil {
			wrong = errors.Join(wrong, o.desk.put(o.desk.records[x.record], int(x.index), x.back))
		} else {
			failed[at[k]] = fmt.Errorf("%w; %w", failed[at[k]], err)
		}
	}
	o.desk.trust.outcome(append(added, again...), append(failed, back...))
	return wrong
}
