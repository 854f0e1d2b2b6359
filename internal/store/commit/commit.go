// Package commit is how planned writes get into the store: units are packed into as few
// transactions as its limits allow, each beside the guard of its writer, and a pack that
// is refused is done again one unit at a time, so that one of them holds up no other.
//
// The leader, the API, workers' acknowledgements, jobs and programs write by it. It says
// what became of each unit. What follows is for the writer to decide: to plan anew, to
// read, or to give up. It must never know what is written, nor try the same twice by itself.
package commit

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/store"
)

// Writer writes units into a store. Only Txn must be set.
type Writer struct {
	// Txn is that of store.Store.
	Txn func(ctx context.Context, conds []store.Cond, ops []store.Op) (ok bool, revision int64, err error)
	// Timeout bounds each transaction. Zero is no bound but the context's.
	Timeout time.Duration
	// Guard says what a transaction of the units from one index to another compares and
	// writes beside them, at most Reserve of each. With an error it is not tried. Nil: nothing.
	Guard   func(ctx context.Context, from, to int) ([]store.Cond, []store.Op, error)
	Reserve int
	// Settle is called after a transaction that was refused, or failed with err. When it
	// returns nil, it has found out whether that was done, or seen to it that it can no
	// longer be: the result is then that it was refused. Else its error takes the place of
	// err. Nil: nothing is found out.
	Settle func(ctx context.Context, err error) error
	// Done is told of units that were written, in their order and one call at a time, perhaps
	// while the next transaction is under way: it may take as long as one. Together, and the
	// last Result of Write and those that are not OK, come when it has returned. Nil: nobody
	// wants to know.
	Done func(units []table.Unit, revision int64)
}

// Result is what became of a transaction of units[From:To].
type Result struct {
	From, To int
	// OK says that they are written, at Revision.
	OK       bool
	Revision int64
	// Err is how the transaction failed. Whether they are written is unknown, unless it is
	// one of the errors of package store. Without it, and not OK, they were refused.
	Err error
}

// Several reports whether r is of a pack that was refused: its units are tried one by one next.
func (r Result) Several() bool { return !r.OK && r.Err == nil && r.To-r.From > 1 }

// Write writes units in their order, and yields each transaction's result before it does
// the next. Who stops ranging leaves the rest unwritten.
func (w Writer) Write(ctx context.Context, units []table.Unit) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		var telling sync.WaitGroup
		defer telling.Wait()
		if done := w.Done; done != nil {
			w.Done = func(units []table.Unit, revision int64) {
				telling.Wait()
				telling.Go(func() { done(units, revision) })
			}
		}
		from := 0
		for _, pack := range Pack(units, w.Reserve) {
			to := from + len(pack)
			r := w.txn(ctx, units, from, to)
			if !r.OK || to == len(units) {
				telling.Wait()
			}
			if !yield(r) {
				return
			}
			for n := from; n < to && r.Several(); n++ {
				one := w.txn(ctx, units, n, n+1)
				telling.Wait()
				if !yield(one) {
					return
				}
			}
			from = to
		}
	}
}

// Together writes units in one transaction, whatever its size.
func (w Writer) Together(ctx context.Context, units ...table.Unit) Result {
	return w.txn(ctx, units, 0, len(units))
}

func (w Writer) txn(ctx context.Context, units []table.Unit, from, to int) Result {
	r := Result{From: from, To: to}
	conds, ops := join(units[from:to])
	one := ctx
	if w.Timeout > 0 {
		var cancel context.CancelFunc
		one, cancel = context.WithTimeout(ctx, w.Timeout)
		defer cancel()
	}
	if w.Guard != nil {
		moreConds, moreOps, err := w.Guard(one, from, to)
		if err != nil {
			r.Err = err
			return r
		}
		conds, ops = append(conds, moreConds...), append(ops, moreOps...)
	}
	r.OK, r.Revision, r.Err = w.Txn(one, conds, ops)
	if r.OK = r.OK && r.Err == nil; !r.OK {
		r.Revision = 0
		if w.Settle != nil {
			r.Err = w.Settle(ctx, r.Err)
		}
	} else if w.Done != nil {
		w.Done(units[from:to], r.Revision)
	}
	return r
}

// reservedBytes is what Pack leaves of a transaction's bytes for its writer's guard.
const reservedBytes = 64 << 10

// Pack parts units into as few transactions as their order allows, each within the
// limits of the store even with reserve more conditions and as many more operations
// (reserve is at most a quarter of store.MaxTxnOps; together they may have 64 KiB). A
// unit that is over them is alone.
func Pack(units []table.Unit, reserve int) [][]table.Unit {
	var packs [][]table.Unit
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
			packs = append(packs, units[start:i:i])
			start, conds, ops, size = i, 0, 0, 0
		}
		conds += len(u.Conds)
		ops += len(u.Ops)
		size += bytes
	}
	if start < len(units) {
		packs = append(packs, units[start:])
	}
	return packs
}

// join returns all operations of units, and all their conditions once: many units of a
// pack may be bound to the same session.
func join(units []table.Unit) (conds []store.Cond, ops []store.Op) {
	const guard = 2 // for what a guard has
	n, m := guard, guard
	for _, u := range units {
		n, m = n+len(u.Conds), m+len(u.Ops)
	}
	conds, ops = make([]store.Cond, 0, n), make([]store.Op, 0, m)
	for _, u := range units {
		for _, c := range u.Conds {
			if !slices.Contains(conds, c) {
				conds = append(conds, c)
			}
		}
		ops = append(ops, u.Ops...)
	}
	return conds, ops
}
