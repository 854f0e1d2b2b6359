// Package storetest holds every implementation of store.Store to what its
// documentation says. The tests of package store/memory and of package store/etcd
// run it; nothing else does.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/rota-project/rota/store"
)

// Target is an implementation.
type Target struct {
	// Open opens a root of the one database. It is closed by t.Cleanup.
	Open func(t *testing.T, root string) store.Store
	// Compact forgets the history before a revision.
	Compact func(ctx context.Context, revision int64) error
}

// Run holds the target to everything. It is called once for a database.
func Run(t *testing.T, target Target) {
	t.Run("Compaction", func(t *testing.T) { compaction(t, target) }) // first and alone: it touches all roots
	for name, test := range map[string]func(*testing.T, store.Store){
		"Empty": empty, "Revisions": revisions, "Conditions": conditions, "Atomic": atomic, "Limits": limits,
		"Bytes": oddBytes, "Linearizable": linearizable, "Snapshot": snapshot, "Ended": ended,
		"LeaseRevoked": leaseRevoked, "LeaseEnds": leaseEnds, "LeaseGone": leaseGone, "LeaseLeft": leaseLeft,
		"WatchOld": watchOld, "WatchPrefix": watchPrefix, "WatchDeleted": watchDeleted, "WatchUntorn": watchUntorn,
		"WatchFuture": watchFuture, "WatchEnds": watchEnds, "Table": tables,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, target.Open(t, "test/"+name+"/"))
		})
	}
	t.Run("Roots", func(t *testing.T) {
		t.Parallel()
		roots(t, target.Open(t, "roots/a/"), target.Open(t, "roots/b/"))
	})
}

// patience is how long a test waits for what should come at once: for ever, but
// for a test that hangs.
const patience = 30 * time.Second

func put(key, value string) store.Op { return store.Op{Key: key, Value: []byte(value)} }

// txn does ops and returns their revision.
func txn(t *testing.T, s store.Store, ops ...store.Op) int64 {
	t.Helper()
	ok, revision, err := s.Txn(t.Context(), nil, ops)
	if err != nil || !ok {
		t.Fatalf("Txn(%d operations) = %v, %d, %v", len(ops), ok, revision, err)
	}
	return revision
}

func get(t *testing.T, s store.Store, key string) (store.KV, bool) {
	t.Helper()
	kv, ok, revision, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	if ok && (kv.Key != key || kv.Create <= 0 || kv.Mod < kv.Create || revision < kv.Mod) {
		t.Fatalf("Get(%q) = %+v at revision %d", key, kv, revision)
	}
	return kv, ok
}

// wants fails unless key has value; an empty value stands for no key.
func wants(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	if kv, ok := get(t, s, key); ok != (value != "") || string(kv.Value) != value {
		t.Fatalf("%q is %q, %v; want %q", key, kv.Value, ok, value)
	}
}

func list(t *testing.T, s store.Store, prefix string) ([]store.KV, int64) {
	t.Helper()
	kvs, revision, err := s.Range(t.Context(), prefix)
	if err != nil {
		t.Fatalf("Range(%q): %v", prefix, err)
	}
	return kvs, revision
}

// next is the next batch of a watch; closed says that there is none any more.
func next(t *testing.T, ch <-chan store.Batch) (b store.Batch, closed bool) {
	t.Helper()
	for {
		select {
		case b, ok := <-ch:
			if ok && b.Err == nil && len(b.Events) == 0 {
				continue // it says only up to where there is nothing more
			}
			return b, !ok
		case <-time.After(patience):
			t.Fatal("the watch brings nothing")
			return store.Batch{}, true
		}
	}
}

// events reads a watch until it has n events, and checks what holds of batches.
func events(t *testing.T, ch <-chan store.Batch, n int) []store.Event {
	t.Helper()
	var evs []store.Event
	var last int64
	for len(evs) < n {
		b, closed := next(t, ch)
		if closed || b.Err != nil {
			t.Fatalf("the watch ends after %d of %d events: %v", len(evs), n, b.Err)
		}
		from := last
		for _, ev := range b.Events {
			if ev.Mod <= from || ev.Mod < last || ev.Mod > b.Revision {
				t.Fatalf("event %+v in the batch of revision %d, after one of %d", ev, b.Revision, last)
			}
			last = ev.Mod
		}
		if b.Revision < last {
			t.Fatalf("a batch has revision %d and an event of %d", b.Revision, last)
		}
		last = b.Revision
		evs = append(evs, b.Events...)
	}
	if len(evs) > n {
		t.Fatalf("the watch brings %d events, want %d: %+v", len(evs), n, evs)
	}
	return evs
}
