package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"
)

// writeBar is the most that a change of one task may write.
const writeBar = 6000

// counted is a store that counts what is written to it.
type counted struct {
	*etcd.Store
	bytes, txns, leases atomic.Int64
}

// writes are the entries of etcd's log: transactions, and leases that begin and end.
func (c *counted) writes() int64 { return c.txns.Load() + c.leases.Load() }

func (c *counted) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, time.Duration, error) {
	c.leases.Add(1)
	return c.Store.Grant(ctx, ttl)
}

func (c *counted) Revoke(ctx context.Context, id store.LeaseID) error {
	c.leases.Add(1)
	return c.Store.Revoke(ctx, id)
}

func (c *counted) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	ok, rev, err := c.Store.Txn(ctx, conds, ops)
	if ok && err == nil {
		c.txns.Add(1)
		for _, o := range ops {
			c.bytes.Add(int64(len(o.Key) + len(o.Value)))
		}
	}
	return ok, rev, err
}

// startCounted starts a scheduler on such a store.
func startCounted(ctx context.Context, cfg scheduler.Config) (l *live, c *counted, err error) {
	l, err = startOn(ctx, cfg, func(s *etcd.Store) store.Store {
		c = &counted{Store: s}
		return c
	})
	return l, c, err
}

// written changes one of 50,000 tasks, again and again: each time it is stopped and
// started anew, and both are acknowledged. What is counted are keys and values.
func written(ctx context.Context, o options) (rows []row, err error) {
	const tasks, workers = 50_000, 20
	const near = 2000 // that are changed: pages are written whole now and then, too
	l, c, err := startCounted(ctx, scheduler.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	r := newRan()
	ws, err := l.workers(ctx, workers, r)
	if err != nil {
		return nil, err
	}
	payload := func(i, n int) rota.Task {
		return rota.Task{ID: fmt.Sprintf("task-%06d", i), Payload: fmt.Appendf(nil, "one of %d, with some %060d", tasks, n)}
	}
	list := make([]rota.Task, tasks)
	for i := range list {
		list[i] = payload(i, 0)
	}
	if err := l.apply(ctx, list); err != nil {
		return nil, err
	}
	if err := l.settled(ctx, workers); err != nil {
		return nil, err
	}
	declared, txns := c.bytes.Swap(0), c.txns.Swap(0)
	changes := 100 * o.runs
	for n := range changes {
		r.mark()
		if err := l.apply(ctx, []rota.Task{payload(n*7919%near, 1+n)}); err != nil {
			return nil, err
		}
		if err := r.until(ctx, "the changed task", func() bool { return r.starts == 1 }); err != nil {
			return nil, err
		}
	}
	if err := l.settled(ctx, workers); err != nil {
		return nil, err
	}
	each, writes := float64(c.bytes.Load())/float64(changes), float64(c.txns.Load())/float64(changes)
	return []row{
		{"50000 tasks declared and running: written of each", float64(declared) / tasks, 0, "B", 0, fmt.Sprintf("%d transactions", txns)},
		{"a change of one of 50000 tasks: written", each, writeBar, "B", 0, fmt.Sprintf("%d changes, %.1f transactions each", changes, writes)},
	}, stopAll(ctx, ws)
}

// The most that a worker may write that joins or leaves, and what an idle one may in idleFor.
const (
	comingBar, idleBar = 10, 1
	idleFor            = 10 * time.Second
)

// coming counts what is written while a worker joins, is idle and leaves to which no task
// moves, beside few tasks and beside many. What moves is written on top.
func coming(ctx context.Context, o options) (rows []row, err error) {
	for _, tasks := range []int{1000, 50_000} {
		more, err := comingBeside(ctx, tasks, o.runs)
		if err != nil {
			return rows, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func comingBeside(ctx context.Context, tasks, runs int) (rows []row, err error) {
	const workers = 20
	l, c, err := startCounted(ctx, scheduler.Config{Lease: 15 * time.Second})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	r := newRan()
	ws, err := l.workers(ctx, workers, r)
	if err != nil {
		return nil, err
	}
	if err := l.apply(ctx, taskList(tasks)); err != nil {
		return nil, err
	}
	if err := l.settled(ctx, workers); err != nil {
		return nil, err
	}
	// count waits until all that is to be written has been, and answers how much it was.
	count := func(since int64) (int64, error) {
		for last := int64(-1); last != c.writes(); {
			last = c.writes()
			if err := backoff.Sleep(ctx, 3*time.Second); err != nil {
				return 0, err
			}
		}
		return c.writes() - since, nil
	}
	if _, err := count(0); err != nil { // what settles
		return nil, err
	}
	before := c.writes()
	if err := backoff.Sleep(ctx, idleFor); err != nil {
		return nil, err
	}
	idle := c.writes() - before
	var joins, leaves int64
	runs = max(1, runs/4)
	for n := range runs {
		before = c.writes()
		w, err := worker.New(worker.Config{Name: fmt.Sprintf("other%d", n), Schedulers: []string{l.addr}})
		if err != nil {
			return nil, err
		}
		if err := w.HandleTask("other", r.on(w.Name())); err != nil {
			return nil, err
		}
		w.Start()
		for c.writes() == before { // its session is the first that it writes
			if err := backoff.Sleep(ctx, 50*time.Millisecond); err != nil {
				return nil, err
			}
		}
		joined, err := count(before)
		if err != nil {
			return nil, err
		}
		before = c.writes()
		if err := w.Stop(ctx); err != nil {
			return nil, err
		}
		left, err := count(before)
		if err != nil {
			return nil, err
		}
		joins, leaves = max(joins, joined), max(leaves, left)
	}
	what := fmt.Sprintf("etcd writes beside %d tasks: ", tasks)
	note := fmt.Sprintf("most of %d; what moves to it is written beside", runs)
	return []row{
		{what + "a worker joins", float64(joins), comingBar, "", 0, note},
		{what + "it leaves in order", float64(leaves), comingBar, "", 0, note},
		{what + fmt.Sprintf("%d workers idle for %v", workers, idleFor), float64(idle), idleBar, "", 0, "renewals of leases write nothing"},
	}, stopAll(ctx, ws)
}
