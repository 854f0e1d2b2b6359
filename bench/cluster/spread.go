package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rota-project/rota/scheduler"
)

// spreads is how often the tasks are spread; the best counts.
const spreads = 3

// spread declares n tasks to a cluster of idle workers.
func spread(ctx context.Context, n, workers int, bar, peer time.Duration) ([]row, error) {
	var best, bestAll time.Duration
	for range spreads {
		took, all, err := spreadOnce(ctx, n, workers)
		if err != nil {
			return nil, err
		}
		if best == 0 || took < best {
			best = took
		}
		if bestAll == 0 || all < bestAll {
			bestAll = all
		}
	}
	what := fmt.Sprintf("%d tasks to %d workers: ", n, workers)
	return []row{
		inSeconds(what+"first to last running", best, bar, peer, "best of 3"),
		inSeconds(what+"declaring to last running", bestAll, 0, 0, "best of 3"),
	}, nil
}

func spreadOnce(ctx context.Context, n, workers int) (took, all time.Duration, err error) {
	l, err := start(ctx, scheduler.Config{})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	r := newRan()
	ws, err := l.workers(ctx, workers, r)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := l.apply(ctx, taskList(n)); err != nil {
		return 0, 0, err
	}
	if err := r.until(ctx, "all tasks", func() bool { return len(r.by) == n }); err != nil {
		return 0, 0, err
	}
	r.mu.Lock()
	took, all = r.last.Sub(r.first), r.last.Sub(began)
	r.mu.Unlock()
	return took, all, stopAll(ctx, ws)
}
