// Package memory is the store's twin of etcd in memory: the same revisions,
// leases, watches, compaction and limits, without a disk or a network. Tests and
// simulations use it in place of package store/etcd; package internal/store/storetest
// holds both to the same behaviour. It keeps nothing beyond the process, so no
// cluster may run on it.
//
// Time is that of the time package, so leases end on the fake clock of
// testing/synctest. All goroutines and timers end with Close.
package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota/store"
)

// ErrClosed is the answer of a store after Close.
var ErrClosed = errors.New("memory: store is closed")

// ErrFuture refuses to compact what has not happened yet.
var ErrFuture = errors.New("memory: revision is in the future")

// Store is one root of a database in memory. It is safe for concurrent use.
type Store struct {
	db   *db
	root string
}

var _ store.Store = (*Store)(nil)

// db is what all roots share.
type db struct {
	mu        sync.Mutex
	keys      []*entry // in order of key
	revision  int64
	compacted int64 // history below it is gone
	history   []change
	keep      int // the most changes of history, 0 is no limit
	leases    map[store.LeaseID]*lease
	lastLease store.LeaseID
	changed   chan struct{} // closed and replaced at each revision
	done      chan struct{} // closed by Close
	watches   sync.WaitGroup
}

type entry struct {
	store.KV
}

// change is all that one revision did.
type change struct {
	revision int64
	events   []store.Event
}

// New makes an empty database and opens its root "". Its first revision is 1, as
// etcd's is.
func New() *Store {
	return &Store{db: &db{
		revision: 1,
		leases:   map[store.LeaseID]*lease{},
		changed:  make(chan struct{}),
		done:     make(chan struct{}),
	}}
}

// At opens another root of the same database, as another etcd client would.
// Leases and revisions are shared; keys below one root are not seen below another
// (unless one root's name begins with the other's).
func (s *Store) At(root string) *Store { return &Store{db: s.db, root: root} }

// Close ends all watches and leases' timers of the whole database and waits for
// them. It may be called twice.
func (s *Store) Close() {
	d := s.db
	d.mu.Lock()
	select {
	case <-d.done:
	default:
		close(d.done)
		for _, l := range d.leases {
			l.timer.Stop()
		}
	}
	d.mu.Unlock()
	d.watches.Wait()
}

// Compact forgets the history before revision, as etcd does: a watch from before
// it ends with store.ErrCompacted. Revisions that are compacted already are
// refused with store.ErrCompacted, future ones with ErrFuture.
func (s *Store) Compact(revision int64) error {
	d := s.db
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case revision <= d.compacted:
		return store.ErrCompacted
	case revision > d.revision:
		return ErrFuture
	}
	d.compact(revision)
	return nil
}

// KeepHistory compacts by itself from now on, so that about the last n revisions
// are there. Zero keeps all.
func (s *Store) KeepHistory(n int) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	s.db.keep = n
}

// Revision is that of the last change.
func (s *Store) Revision() int64 {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	return s.db.revision
}

func (d *db) compact(revision int64) {
	i, _ := slices.BinarySearchFunc(d.history, revision, func(c change, r int64) int { return cmp.Compare(c.revision, r) })
	d.history = slices.Clone(d.history[i:])
	d.compacted = revision
}

// enter locks the database for a call, unless it is of no use any more.
func (d *db) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	select {
	case <-d.done:
		d.mu.Unlock()
		return ErrClosed
	default:
		return nil
	}
}

// Range implements store.Store.
func (s *Store) Range(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	d := s.db
	if err := d.enter(ctx); err != nil {
		return nil, 0, fmt.Errorf("memory: range %q: %w", prefix, err)
	}
	defer d.mu.Unlock()
	full := s.root + prefix
	i, _ := d.find(full)
	var kvs []store.KV
	for ; i < len(d.keys) && strings.HasPrefix(d.keys[i].Key, full); i++ {
		kvs = append(kvs, s.relative(d.keys[i].KV))
	}
	return kvs, d.revision, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.KV, bool, int64, error) {
	d := s.db
	if key == "" {
		return store.KV{}, false, 0, fmt.Errorf("memory: get: %w: an empty key", store.ErrInvalid)
	}
	if err := d.enter(ctx); err != nil {
		return store.KV{}, false, 0, fmt.Errorf("memory: get %q: %w", key, err)
	}
	defer d.mu.Unlock()
	i, ok := d.find(s.root + key)
	if !ok {
		return store.KV{}, false, d.revision, nil
	}
	return s.relative(d.keys[i].KV), true, d.revision, nil
}

// Txn implements store.Store.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if err := store.CheckTxn(conds, ops); err != nil {
		return false, 0, err
	}
	d := s.db
	if err := d.enter(ctx); err != nil {
		return false, 0, fmt.Errorf("memory: txn: %w", err)
	}
	defer d.mu.Unlock()
	for _, c := range conds {
		var have int64
		if i, ok := d.find(s.root + c.Key); ok {
			have = d.keys[i].Mod
			if c.By == store.ByCreate {
				have = d.keys[i].Create
			}
		}
		if have != c.Revision {
			return false, d.revision, nil
		}
	}
	for _, o := range ops {
		if l := d.leases[o.Lease]; !o.Delete && o.Lease != 0 && (l == nil || !time.Now().Before(l.ends)) {
			return false, 0, fmt.Errorf("memory: txn: key %q: %w", o.Key, store.ErrLeaseNotFound)
		}
	}
	var events []store.Event
	for _, o := range ops {
		if o.Delete {
			events = d.remove(events, s.root+o.Key)
		} else {
			events = append(events, d.put(s.root+o.Key, o.Value, o.Lease))
		}
	}
	d.publish(events)
	return true, d.revision, nil
}

// relative is kv as it is seen from the root.
func (s *Store) relative(kv store.KV) store.KV {
	kv.Key = kv.Key[len(s.root):]
	return kv
}

func (d *db) find(key string) (int, bool) {
	return slices.BinarySearchFunc(d.keys, key, func(e *entry, k string) int { return cmp.Compare(e.Key, k) })
}

// put writes a key at the next revision.
func (d *db) put(key string, value []byte, id store.LeaseID) store.Event {
	kv := store.KV{Key: key, Value: append([]byte{}, value...), Create: d.revision + 1, Mod: d.revision + 1, Lease: id}
	i, ok := d.find(key)
	if ok {
		kv.Create = d.keys[i].Create
		d.detach(d.keys[i])
		d.keys[i].KV = kv
	} else {
		d.keys = slices.Insert(d.keys, i, &entry{kv})
	}
	if id != 0 {
		d.leases[id].keys[key] = struct{}{}
	}
	return store.Event{KV: kv}
}

// remove deletes a key at the next revision, if it is there.
func (d *db) remove(events []store.Event, key string) []store.Event {
	i, ok := d.find(key)
	if !ok {
		return events
	}
	d.detach(d.keys[i])
	d.keys = slices.Delete(d.keys, i, i+1)
	return append(events, store.Event{KV: store.KV{Key: key, Mod: d.revision + 1}, Deleted: true})
}

func (d *db) detach(e *entry) {
	if l := d.leases[e.Lease]; l != nil {
		delete(l.keys, e.Key)
	}
}

// publish makes events the next revision. None make none.
func (d *db) publish(events []store.Event) {
	if len(events) == 0 {
		return
	}
	d.revision++
	d.history = append(d.history, change{d.revision, events})
	if d.keep > 0 && len(d.history) > 2*d.keep {
		d.compact(d.history[len(d.history)-d.keep].revision)
	}
	close(d.changed)
	d.changed = make(chan struct{})
}
