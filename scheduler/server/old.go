package server

import (
	"context"
	"time"

	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/compat/schedulerworker"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// oldWorkers keeps the workers of the protocol jobscheduler in the store, so that
// they outlive a restart of their scheduler and every scheduler can drive them.
type oldWorkers struct {
	name  string // of this scheduler
	store store.Store
	view  *view.View
}

// Keep writes a worker that has registered here.
func (o *oldWorkers) Keep(ctx context.Context, w schedulerworker.OldWorker) error {
	value, err := record.Encode(&storepb.OldWorker{
		Version: record.Version, Id: w.ID, Address: w.Address, SinceUnixMs: w.Since.UnixMilli(), Scheduler: o.name,
	})
	if err != nil {
		return err
	}
	if _, _, err = o.store.Txn(ctx, nil, []store.Op{{Key: store.OldWorkerKey(w.ID), Value: value}}); err != nil {
		return convert.StoreError(err)
	}
	return nil
}

// Forget removes a worker.
func (o *oldWorkers) Forget(ctx context.Context, id string) error {
	if _, _, err := o.store.Txn(ctx, nil, []store.Op{{Key: store.OldWorkerKey(id), Delete: true}}); err != nil {
		return convert.StoreError(err)
	}
	return nil
}

// Decides reports whether the worker registered here, or its scheduler is gone.
func (o *oldWorkers) Decides(id string) (mine bool) {
	o.view.Read(func() {
		w := o.view.OldWorkers[id]
		mine = w == nil || w.GetScheduler() == o.name || o.view.Schedulers[w.GetScheduler()] == nil
	})
	return mine
}

// follow tells the registry of the workers that the store has.
func (o *oldWorkers) follow(r *schedulerworker.Registry) *view.Subscription {
	tell := func(id string) {
		w := o.view.OldWorkers[id]
		if w == nil {
			r.Remove(id)
			return
		}
		// An address that cannot be is not written.
		_ = r.Add(schedulerworker.OldWorker{ID: id, Address: w.GetAddress(), Since: time.UnixMilli(w.GetSinceUnixMs())})
	}
	return o.view.Subscribe(func() {
		for id := range o.view.OldWorkers {
			tell(id)
		}
	}, func(d *view.Delta) {
		for _, id := range d.OldWorkers {
			tell(id)
		}
	})
}
