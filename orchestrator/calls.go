package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

const (
	// maxCalls is how many Adds or Removes a term makes at once, divided among
	// the workers concerned; each has at least one.
	maxCalls = 128
	// maxWorkerCalls is how many of them go to one worker at once.
	maxWorkerCalls = 16
)

// errHung is the error of a call that is not made.
var errHung = errors.New("an earlier call to this worker has not returned")

// calls makes the calls of the Communicator. A worker with a call that does not
// return, not even when its time is up, is not called until it does: so hung
// calls never pile up, whatever the number of terms.
type calls[W comparable] struct {
	settings

	mu   sync.Mutex
	hung map[W]int // calls whose time is up and that have not returned
}

// do calls f with the time that a call has. It returns when that is up even if f
// does not; f's context is cancelled in any case. A panic of f is its error.
func do[W comparable, R any](ctx context.Context, c *calls[W], worker W, f func(context.Context) (R, error)) (value R, err error) {
	c.mu.Lock()
	hung := c.hung[worker] > 0
	c.mu.Unlock()
	if hung {
		return value, errHung
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return value, err
	}
	type result struct {
		value R
		err   error
	}
	done := make(chan result, 1)
	left := false // nobody waits for f any more; under the lock, as is the end of f
	go func() {
		r := result{err: errors.New("the call ended its goroutine")}
		defer func() {
			if v := recover(); v != nil {
				r.err = fmt.Errorf("panic: %v", v)
				c.log.Printf("orchestrator: worker %v: panic: %v\n%s", worker, v, debug.Stack())
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			done <- r
			if !left {
				return
			}
			if c.hung[worker]--; c.hung[worker] == 0 {
				delete(c.hung, worker)
			}
		}()
		v, err := f(ctx)
		r = result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case r := <-done: // just in time
		return r.value, r.err
	default:
		left = true
		c.hung[worker]++
		return value, ctx.Err()
	}
}

// list asks all workers at once.
func list[W, T comparable](ctx context.Context, c *calls[W], workers []W, call func(context.Context, W) ([]T, error)) (actual []WorkerState[W, T], errs []error) {
	answers, failed := make([][]T, len(workers)), make([]error, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		wg.Go(func() {
			answers[i], failed[i] = do(ctx, c, w, func(ctx context.Context) ([]T, error) { return call(ctx, w) })
		})
	}
	wg.Wait()
	actual = make([]WorkerState[W, T], 0, len(workers))
	for i, w := range workers {
		if err := failed[i]; err != nil {
			c.log.Printf("orchestrator: list %v: %v", w, err)
			errs = append(errs, fmt.Errorf("list %v: %w", w, err))
			continue
		}
		actual = append(actual, WorkerState[W, T]{w, append([]T(nil), answers[i]...)})
	}
	return actual, errs
}

// give gives orders, many at once, waits for all, and returns the error of each.
// When a worker was late once, it is given no more of them.
func give[W, T comparable](ctx context.Context, c *calls[W], orders []order[W, T], what string, call func(context.Context, W, T) error) []error {
	failed := make([]error, len(orders))
	queues := map[W][]int{}
	for i, x := range orders {
		queues[x.worker] = append(queues[x.worker], i)
	}
	var wg sync.WaitGroup
	for _, queue := range queues {
		var next atomic.Int64
		var late atomic.Pointer[error]
		for range min(len(queue), maxWorkerCalls, max(1, maxCalls/len(queues))) {
			wg.Go(func() {
				for k := next.Add(1) - 1; k < int64(len(queue)); k = next.Add(1) - 1 {
					x, err := &orders[queue[k]], &failed[queue[k]]
					if why := late.Load(); why != nil {
						*err = notGivenError{*why}
						continue
					}
					_, e := do(ctx, c, x.worker, func(ctx context.Context) (struct{}, error) {
						return struct{}{}, call(ctx, x.worker, x.task)
					})
					if e == nil {
						continue
					}
					if errors.Is(e, context.DeadlineExceeded) || errors.Is(e, errHung) || ctx.Err() != nil {
						late.Store(&e)
					}
					c.log.Printf("orchestrator: %s %v, worker %v: %v", what, x.task, x.worker, e)
					*err = fmt.Errorf("%s %v, worker %v: %w", what, x.task, x.worker, e)
				}
			})
		}
	}
	wg.Wait()
	return failed
}

// notGivenError is the error of an order that was not given, because of another's.
type notGivenError struct{ error }

// told returns the errors that a user hears: the orders that a worker was not
// given are one.
func told[W, T comparable](orders []order[W, T], failed []error, what string) (errs []error) {
	var late []W
	skipped := map[W][]error{}
	for i, err := range failed {
		if n, ok := err.(notGivenError); ok { //nolint:errorlint // a wrapped one has more to say
			w := orders[i].worker
			if skipped[w] == nil {
				late = append(late, w)
			}
			skipped[w] = append(skipped[w], n.error)
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	for _, w := range late {
		errs = append(errs, fmt.Errorf("%s %d more, worker %v: not tried after %w", what, len(skipped[w]), w, skipped[w][0]))
	}
	return errs
}
