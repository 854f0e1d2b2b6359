// Package limit has what holds calls back: queues for those that wait for a worker or a
// place, a budget of repetitions, and rates of callers. The gateway's calls ask it. It must
// never know what a call is.
package limit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Queue holds calls that wait until a worker, or a place of their function, is
// free: first come, first served, woken by releases, never polling.
type Queue struct {
	waiting atomic.Int32
	mu      sync.Mutex
	list    []*waiter
}

// waiter is one call that waits.
type waiter struct{ woken chan struct{} }

// Waiting is how many calls wait.
func (q *Queue) Waiting() int32 { return q.waiting.Load() }

// Wake tells the first of the queue to look again. It costs one atomic load
// while nobody waits.
func (q *Queue) Wake() {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) > 0 {
		select {
		case q.list[0].woken <- struct{}{}:
		default:
		}
	}
}

// Wait calls try, at once if nobody waits, else when it is this call's turn,
// until it succeeds, the context ends or the timeout is over. most is the
// longest that the queue may be; full says that it was.
func (q *Queue) Wait(ctx context.Context, timeout time.Duration, most int, try func() bool) (ok, full bool) {
	w := &waiter{woken: make(chan struct{}, 1)}
	q.mu.Lock()
	if most < 0 || len(q.list) >= most {
		q.mu.Unlock()
		return false, true
	}
	q.list = append(q.list, w)
	first := len(q.list) == 1
	q.waiting.Add(1)
	q.mu.Unlock()
	defer q.leave(w)
	// A place may have come free before this call was in the queue.
	if first && try() {
		return true, false
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case <-w.woken:
			if try() {
				return true, false
			}
		case <-timer.C:
			return false, false
		case <-ctx.Done():
			return false, false
		}
	}
}

// leave takes the call out of the queue and lets the next one look: there may be
// more than one place.
func (q *Queue) leave(w *waiter) {
	q.mu.Lock()
	for i, x := range q.list {
		if x == w {
			q.list = append(q.list[:i], q.list[i+1:]...)
			break
		}
	}
	q.waiting.Add(-1)
	q.mu.Unlock()
	q.Wake()
}
