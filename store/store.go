// Package store is the only source of truth: an ordered map of keys with revisions,
// transactions, leases and watches, as in etcd. Desired state, grants and acknowledgements
// are in it and nowhere else.
//
// Store is the small part of etcd that rota needs. Package store/etcd implements it on an
// embedded or an external etcd, package store/memory in memory for tests; package
// internal/store/storetest tests both for the same behaviour. The keys and who writes them
// are documented in keys.go.
//
// This package does not know tasks or workers.
package store

import (
	"context"
	"errors"
	"time"
)

// Limits that every transaction keeps; stock etcd allows 128 operations and 1.5 MiB.
const (
	MaxTxnOps   = 128
	MaxTxnBytes = 1 << 20
)

// Errors of a Store, besides ErrInvalid and ErrNoSpace. From a Txn, each of them means that
// nothing was done. Any other error means that the outcome is unknown: the transaction may
// take effect now, later, or never. Read again and decide by revisions.
var (
	// ErrCompacted ends a Watch whose history is gone: list again.
	ErrCompacted = errors.New("store: history compacted")
	// ErrLeaseNotFound says that the lease has ended.
	ErrLeaseNotFound = errors.New("store: lease not found")
	// ErrWentBack says that the store went back to an earlier state: an old data directory,
	// or a backup. Generations derive from revisions, so a leader that goes on would reuse
	// generations.
	ErrWentBack = errors.New("store: went back to an earlier revision; " +
		"stop everything and restore it with etcdutl snapshot restore --bump-revision 1000000000 --mark-compacted (docs/etcd.md)")
	// ErrTooLarge refuses a Txn over the limits. Nothing was done.
	ErrTooLarge = errors.New("store: transaction over its limits")
)

// LeaseID names a lease. Zero is no lease.
type LeaseID int64

// KV is a key and its value at some revision. The value is read-only.
type KV struct {
	Key    string
	Value  []byte
	Create int64 // the revision at which the key came to be
	Mod    int64 // the revision that wrote this value
	Lease  LeaseID
}

// Cond is a condition of a Txn. Exactly one of the two revisions is compared.
type Cond struct {
	Key string
	// By says which revision Revision is. A key that is absent has both at 0.
	By       By
	Revision int64
	// Final says that once the transaction is done its conditions never hold again,
	// although that cannot be told from them: it may be asked twice.
	Final bool
}

// By names a revision of a key.
type By uint8

const (
	// ByCreate compares the revision at which the key came to be.
	ByCreate By = iota
	// ByMod compares the revision that wrote its value.
	ByMod
)

// Op writes or, with Delete, removes a key. Removing one that is absent does nothing.
type Op struct {
	Key    string
	Value  []byte
	Lease  LeaseID // the key goes when the lease ends
	Delete bool
}

// Event is a change of a key. A deletion has a KV with Key and Mod only.
type Event struct {
	KV
	Deleted bool
}

// Batch is all that one or several successive revisions changed below a
// watched prefix; a revision is never torn over two batches. Revision is the
// last of them. One without events says that nothing more changed up to there. A
// batch with Err ends the watch.
type Batch struct {
	Revision int64
	Events   []Event
	Err      error
}

// Store is safe for concurrent use. Keys are relative to the root that it was
// opened with.
type Store interface {
	// Range reads all keys that begin with prefix, in order, and the revision
	// that they were read at. It is linearizable: it sees every Txn that
	// returned before it began.
	Range(ctx context.Context, prefix string) ([]KV, int64, error)
	// Get reads one key. ok is false if it is absent.
	Get(ctx context.Context, key string) (kv KV, ok bool, revision int64, err error)
	// Txn does all ops, if all conditions hold. ok says whether they held; the
	// revision is the one of the ops if they were done, else of the look.
	Txn(ctx context.Context, conds []Cond, ops []Op) (ok bool, revision int64, err error)
	// Watch sends all changes below prefix from revision on, zero for those from
	// now on. The channel is closed when ctx or the store ends, or after a Batch
	// with Err. Cut connections are mended inside.
	Watch(ctx context.Context, prefix string, revision int64) <-chan Batch
	// Grant creates a lease of at least ttl and returns its actual duration.
	Grant(ctx context.Context, ttl time.Duration) (LeaseID, time.Duration, error)
	// KeepAlive renews a lease once and returns its new duration. If it returns no error,
	// the store has confirmed the renewal.
	KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error)
	// LeaseLeft returns the minimum remaining time of a lease that is not renewed.
	LeaseLeft(ctx context.Context, id LeaseID) (time.Duration, error)
	// Revoke ends a lease and removes its keys. Revoking an ended lease is no error.
	Revoke(ctx context.Context, id LeaseID) error
}

// Member is one of the machines that keep a store, as it reports itself.
type Member struct {
	Endpoint string
	Err      error // it did not answer, and the rest is empty
	Version  string
	// DBBytes is the size of its database, InUseBytes what of it is in use, QuotaBytes
	// what it may be; 0 if the member does not say.
	DBBytes, InUseBytes, QuotaBytes int64
	Leader                          bool
	Latency                         time.Duration
	Alarms                          []string // NOSPACE, CORRUPT
	Asked                           time.Time
}

// Inspector is a Store that can report the state of its members.
type Inspector interface {
	Inspect(ctx context.Context) []Member
}

// Compactor is a Store whose history can be compacted: watches from before the revision
// then end with ErrCompacted.
type Compactor interface {
	Compact(ctx context.Context, revision int64) error
}
