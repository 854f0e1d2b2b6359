package table

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rota-project/rota/store"
)

// Unit is a set of writes that are done together or not at all, and the
// conditions under which they are right.
type Unit struct {
	Conds []store.Cond
	Ops   []store.Op
	// Partial says that a part of what was to be set in this range is left for
	// the next Stage, after this unit is applied.
	Partial bool
}

// Bind gives the pages that u writes a lease, and returns u.
func (u Unit) Bind(lease store.LeaseID) Unit {
	for i := range u.Ops {
		if !u.Ops[i].Delete {
			u.Ops[i].Lease = lease
		}
	}
	return u
}

// reservedBytes is what Pack leaves of a transaction's bytes for its owner.
const reservedBytes = 64 << 10

// Pack joins units into as few transactions as their order allows, each within
// the limits of the store even with reserve more conditions and as many more
// operations (reserve is at most a quarter of store.MaxTxnOps; together they may
// have 64 KiB).
func Pack(units []Unit, reserve int) [][]Unit {
	var txns [][]Unit
	var conds, ops, size, start int
	for i, u := range units {
		bytes := 0
		for _, c := range u.Conds {
			bytes += c.Size()
		}
		for _, o := range u.Ops {
			bytes += o.Size()
		}
		if i > start && (conds+len(u.Conds)+reserve > store.MaxTxnOps || ops+len(u.Ops)+reserve > store.MaxTxnOps ||
			size+bytes+reservedBytes > store.MaxTxnBytes) {
			txns = append(txns, units[start:i:i])
			start, conds, ops, size = i, 0, 0, 0
		}
		conds += len(u.Conds)
		ops += len(u.Ops)
		size += bytes
	}
	if start < len(units) {
		txns = append(txns, units[start:])
	}
	return txns
}

// Join returns all conditions and all operations of units.
func Join(units []Unit) (conds []store.Cond, ops []store.Op) {
	for _, u := range units {
		conds = append(conds, u.Conds...)
		ops = append(ops, u.Ops...)
	}
	return conds, ops
}

// Events are the events that a watch will send of a transaction that did units at
// revision. Apply takes them at once, before or after those of the watch. The
// revision of creation is known only of pages that the transaction made.
func Events(units []Unit, revision int64) []store.Event {
	var events []store.Event
	for _, u := range units {
		for _, o := range u.Ops {
			ev := store.Event{KV: store.KV{Key: o.Key, Mod: revision}, Deleted: o.Delete}
			if !o.Delete {
				ev.Value, ev.Lease = o.Value, o.Lease
				if slices.ContainsFunc(u.Conds, func(c store.Cond) bool { return c.Key == o.Key && c.Revision == 0 }) {
					ev.Create = revision
				}
			}
			events = append(events, ev)
		}
	}
	return events
}

// ErrStale says that the view is not up to date: a page has been written by
// somebody else. Apply what the watch brings, or Load, and try again.
var ErrStale = errors.New("table: stale view")

// Load brings the view up to date by a listing.
func (t *Table[R]) Load(ctx context.Context, s store.Store) ([]Change[R], error) {
	kvs, revision, err := s.Range(ctx, t.prefix)
	if err != nil {
		return nil, fmt.Errorf("table %q: list: %w", t.prefix, err)
	}
	changes := t.Reset(kvs)
	t.Advance(revision)
	return changes, nil
}

// Commit writes set and del through txn, in as many transactions as they need,
// applies each that was done, and returns the changes of them all, one
// transaction after the other. txn adds its owner's conditions and operations, at
// most reserve of each, and is otherwise Store.Txn. Commit ends with ErrStale when
// conditions did not hold and with what txn returned; what was done until then
// stays done and is among the changes.
func (t *Table[R]) Commit(set []R, del []string, reserve int, txn func([]store.Cond, []store.Op) (bool, int64, error)) ([]Change[R], error) {
	var changes []Change[R]
	for more := true; more; {
		units, err := t.Stage(set, del)
		if err != nil {
			return changes, err
		}
		for _, packed := range Pack(units, reserve) {
			conds, ops := Join(packed)
			ok, revision, err := txn(conds, ops)
			if err != nil {
				return changes, fmt.Errorf("table %q: write: %w", t.prefix, err)
			}
			if !ok {
				return changes, ErrStale
			}
			changes = append(changes, t.Apply(Events(packed, revision))...)
		}
		more = slices.ContainsFunc(units, func(u Unit) bool { return u.Partial }) || t.n == 0 && len(t.pages) > 0 && t.bad == 0
	}
	return changes, nil
}
