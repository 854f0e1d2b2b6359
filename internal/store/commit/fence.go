package commit

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota/store"
)

// Fence keeps out what one writer still has on its way. Each of its transactions compares
// the fence's key. Once the outcome of one is unknown, the key is written before the
// next: what has not landed by then compares an older revision, and never lands.
//
// Without it a late write can land after its opposite: what was to be made if it was
// absent is back after its deletion, and what was to be deleted is gone after somebody
// was told that it is there.
type Fence struct {
	Store store.Store
	Key   string
	// Timeout bounds each call of the store. Zero is no bound but the context's.
	Timeout time.Duration

	mu       sync.Mutex
	revision int64 // of the key; 0 if it is to be written first
	// doubts counts calls of Doubt, settled those since which the key was written.
	doubts, settled int
}

// Guard is that of a Writer that has Reserve 1, and whose owner calls Doubt.
func (f *Fence) Guard(ctx context.Context, _, _ int) ([]store.Cond, []store.Op, error) {
	rev, err := f.put(ctx)
	if err != nil {
		return nil, nil, err
	}
	return []store.Cond{{Key: f.Key, By: store.ByMod, Revision: rev}}, nil, nil
}

// Settle returns nil when nothing of what was doubted can land any more.
func (f *Fence) Settle(ctx context.Context) error {
	f.mu.Lock()
	settled := f.settled == f.doubts
	f.mu.Unlock()
	if settled {
		return nil
	}
	_, err := f.put(ctx)
	return err
}

// Doubt says that a transaction may be on its way.
func (f *Fence) Doubt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision = 0
	f.doubts++
}

// Txn is that of the store, beside the fence: a Writer that writes by it has Reserve 1.
func (f *Fence) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (ok bool, revision int64, err error) {
	guard, _, err := f.Guard(ctx, 0, 0)
	if err != nil {
		return false, 0, err
	}
	ok, revision, err = f.Store.Txn(ctx, append(slices.Clip(conds), guard...), ops)
	switch {
	case err != nil:
		f.Doubt()
	case !ok:
		f.refused(ctx)
	}
	return ok, revision, err
}

// refused looks who wrote the fence last: another process may have this writer's name.
func (f *Fence) refused(ctx context.Context) {
	one, cancel := f.bound(ctx)
	defer cancel()
	kv, _, _, err := f.Store.Get(one, f.Key)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || kv.Mod > f.revision {
		f.revision = 0
	}
}

// put writes the key, if it is to be written.
func (f *Fence) put(ctx context.Context) (revision int64, err error) {
	f.mu.Lock()
	revision, doubts := f.revision, f.doubts
	f.mu.Unlock()
	if revision != 0 {
		return revision, nil
	}
	one, cancel := f.bound(ctx)
	defer cancel()
	if _, revision, err = f.Store.Txn(one, nil, []store.Op{{Key: f.Key}}); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.doubts == doubts {
		f.revision, f.settled = max(f.revision, revision), doubts
	}
	return revision, nil
}

func (f *Fence) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if f.Timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, f.Timeout)
}
