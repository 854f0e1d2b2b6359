package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/worker"
)

const (
	someWorkers = 10
	someTasks   = 10_000
)

// tenth starts a cluster of 10 workers with 1,000 exclusive tasks each.
// connect, if not nil, is how one of them is connected.
func tenth(ctx context.Context, connect func(*live) worker.Connector) (l *live, r *ran, ws []*worker.Worker, err error) {
	if l, err = start(ctx, scheduler.Config{}); err != nil {
		return nil, nil, nil, err
	}
	r = newRan()
	if ws, err = l.workers(ctx, someWorkers-1, r); err == nil {
		var w *worker.Worker
		var via worker.Connector
		if connect != nil {
			via = connect(l)
		}
		if w, err = l.worker("victim", r, via); err == nil {
			ws = append(ws, w)
			err = l.settled(ctx, someWorkers)
		}
	}
	if err == nil {
		err = l.apply(ctx, taskList(someTasks))
	}
	if err == nil {
		err = l.settled(ctx, someWorkers)
	}
	if err != nil {
		err = errors.Join(err, l.stop())
	}
	return l, r, ws, err
}

// leave stops one worker in order, again and again.
func leave(ctx context.Context, o options) (rows []row, err error) {
	l, r, ws, err := tenth(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	victim := ws[len(ws)-1]
	var whole, gaps []time.Duration
	for range o.runs {
		r.mark()
		began := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- victim.Stop(ctx) }()
		if err := r.until(ctx, "the tasks of a leaver", func() bool { return r.starts >= someTasks/someWorkers && len(r.by) == someTasks }); err != nil {
			return nil, err
		}
		r.mu.Lock()
		whole = append(whole, r.last.Sub(began))
		gaps = append(gaps, r.gaps...)
		r.mu.Unlock()
		if err := <-stopped; err != nil {
			return nil, err
		}
		if victim, err = l.worker("victim", r, nil); err != nil {
			return nil, err
		}
		if err := l.settled(ctx, someWorkers); err != nil {
			return nil, err
		}
	}
	ws[len(ws)-1] = victim
	return []row{
		inMillis("orderly stop of 1 of 10: its 1,000 run elsewhere, p99", percentile(whole, 0.99), 200*time.Millisecond, 9400*time.Millisecond,
			fmt.Sprintf("median %v of %d; one task is without owner for %v at the median", percentile(whole, 0.5).Round(time.Millisecond), len(whole), percentile(gaps, 0.5).Round(time.Millisecond))),
	}, stopAll(ctx, ws)
}

// cut cuts a worker off: what is said gets lost, both ways, and nothing is closed.
func cut(ctx context.Context, _ options) (rows []row, err error) {
	const times = 3
	var worst time.Duration
	for range times {
		took, err := cutOnce(ctx)
		if err != nil {
			return nil, err
		}
		worst = max(worst, took)
	}
	return []row{inSeconds("cut-off worker (lease 5 s): its 1,000 run elsewhere", worst, 6*time.Second, 10*time.Second,
		fmt.Sprintf("worst of %d; escheduler's is 10 s and a wait", times))}, nil
}

func cutOnce(ctx context.Context) (took time.Duration, err error) {
	var n network
	l, r, ws, err := tenth(ctx, n.connector)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	r.mark()
	began := time.Now()
	n.cut.Store(true)
	if err := r.until(ctx, "the tasks of a worker that is cut off", func() bool {
		return r.starts >= someTasks/someWorkers && len(r.by) == someTasks
	}); err != nil {
		return 0, err
	}
	took = r.last.Sub(began)
	n.cut.Store(false)
	return took, stopAll(ctx, ws)
}

// network can be cut: then what is sent gets lost, and nothing comes.
type network struct{ cut atomic.Bool }

func (n *network) connector(l *live) worker.Connector {
	return func(ctx context.Context, _ []string) (worker.Stream, error) {
		return lossy{l.server.Scheduler().Sessions().Dial(ctx), n}, nil
	}
}

type lossy struct {
	worker.Stream
	n *network
}

func (s lossy) Send(m *rotav1.FromWorker) error {
	if s.n.cut.Load() {
		return nil
	}
	return s.Stream.Send(m)
}

func (s lossy) Recv() (*rotav1.ToWorker, error) {
	for {
		m, err := s.Stream.Recv()
		if err != nil || !s.n.cut.Load() {
			return m, err
		}
	}
}

// move moves one exclusive task from worker to worker by pinning it.
func move(ctx context.Context, o options) (rows []row, err error) {
	l, r, ws, err := tenth(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	r.mark()
	task := rota.Task{ID: "task-000000"}
	i := rota.Instance{Task: task.ID}
	for n := range 10 * o.runs {
		task.Rules.Pinned = ws[n%2].Name()
		if err := l.apply(ctx, []rota.Task{task}); err != nil {
			return nil, err
		}
		if err := r.until(ctx, "the move", func() bool { return r.by[i] == task.Rules.Pinned }); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	gaps := r.gaps
	r.mu.Unlock()
	if len(gaps) < 5*o.runs {
		return nil, fmt.Errorf("%d moves only", len(gaps))
	}
	return []row{inMillis("planned move of one exclusive task: nobody runs it, p99", percentile(gaps, 0.99), 50*time.Millisecond, 0,
		fmt.Sprintf("median %v of %d", percentile(gaps, 0.5).Round(100*time.Microsecond), len(gaps)))}, stopAll(ctx, ws)
}
