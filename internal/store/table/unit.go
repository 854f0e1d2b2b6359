package table

import (
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
