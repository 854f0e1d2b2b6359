package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// writeBar is the most that a change of one task may write.
const writeBar = 6000

// counted is a store that counts what is written to it.
type counted struct {
	*etcd.Store
	bytes, txns atomic.Int64
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

// written changes one of 50,000 tasks, again and again: each time it is stopped and
// started anew, and both are acknowledged. What is counted are keys and values.
func written(ctx context.Context, o options) (rows []row, err error) {
	const tasks, workers = 50_000, 20
	const near = 2000 // that are changed: pages are written whole now and then, too
	var c *counted
	l, err := startOn(ctx, scheduler.Config{}, func(s *etcd.Store) store.Store {
		c = &counted{Store: s}
		return c
	})
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
