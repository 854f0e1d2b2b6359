package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/worker"
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
	c := &counter{want: int64(n), birth: time.Now(), all: make(chan struct{})}
	ws, err := l.workers(ctx, workers, c)
	if err != nil {
		return 0, 0, err
	}
	began := time.Since(c.birth)
	if err := l.apply(ctx, taskList(n)); err != nil {
		return 0, 0, err
	}
	select {
	case <-c.all:
	case <-time.After(2 * time.Minute):
		return 0, 0, fmt.Errorf("%d of %d tasks run", c.n.Load(), n)
	}
	took, all = c.last-time.Duration(c.first.Load()), c.last-began
	return took, all, stopAll(ctx, ws)
}

// counter counts starts and nothing else: 100,000 functions that wait for one
// lock would be what is measured.
type counter struct {
	want  int64
	birth time.Time
	n     atomic.Int64
	first atomic.Int64 // since birth
	last  time.Duration
	all   chan struct{} // closed when all have started; last is set then
}

func (c *counter) on(string) worker.TaskFunc {
	return func(ctx context.Context, _ worker.Assigned) error {
		switch c.n.Add(1) {
		case 1:
			c.first.Store(int64(time.Since(c.birth)))
		case c.want:
			c.last = time.Since(c.birth)
			close(c.all)
		}
		<-ctx.Done()
		return nil
	}
}
