package scheduler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/store"
)

// edit is what changes in one worker's grants.
type edit struct {
	set     []record.Grant
	del     []string
	session int64 // the session that must be alive; 0 for any
}

// execute writes what the ledger wants written: first what ends, and only when
// that is confirmed what begins, so that no instant of the store shows an
// exclusive instance twice. whole is false if something is left to be tried again:
// a session may have ended of which the view does not know yet.
func (l *leader) execute(ctx context.Context) (wrote, whole bool, err error) {
	e := l.ledger.Ready(rota.Generation(l.fence + 1))
	l.s.stats.moving.Store(int64(l.ledger.Moving()))
	if e.Empty() {
		return false, true, nil
	}
	ends, begins := map[string]*edit{}, map[string]*edit{}
	for _, h := range e.Release {
		d := editOf(ends, h.Worker)
		d.del = append(d.del, record.InstanceKey(h.Instance))
	}
	for _, h := range e.Revoke {
		g := h.Grant
		g.Revoked = true
		d := editOf(ends, h.Worker)
		d.set = append(d.set, record.Grant{Grant: g})
	}
	lost := l.lost()
	waiting := false // for the end of a session whose grants cannot be read, or of moves
	defer func() {
		for worker, d := range begins {
			for _, g := range d.set {
				l.s.capacity.Written(g.Instance, worker)
			}
		}
	}()
	for _, h := range e.Grant {
		if lost.mayHold(h.Instance) {
			waiting = true
			continue
		}
		ok, again := l.enter(h)
		if waiting = waiting || again; !ok {
			continue // it is looked at again when something there is gone
		}
		d := editOf(begins, h.Worker)
		d.set = append(d.set, record.Grant{Grant: h.Grant, Trace: l.passes.of(h.Instance, h.Worker)})
		d.session = h.Session
	}
	apart := l.apart
	l.apart = false
	switch tried, done, err := l.atOnce(ctx, ends, begins); {
	case err != nil:
		return false, false, err
	case tried && !done && !apart:
		// What ended is nobody's then, and the next plan may give it to another.
		return false, false, l.refused(ctx, begins)
	case tried && done:
		return true, !waiting, nil
	}
	wrote, whole, err = l.commit(ctx, ends, apart)
	if err != nil || !whole {
		return wrote, false, err
	}
	began, whole, err := l.commit(ctx, begins, apart)
	return wrote || began, whole && !waiting, err
}

// refused is called after a transaction that was refused. Most likely some of the workers
// are lost that were to begin something: the view is to know it, and what is left is
// tried together again. Hundreds may be lost at a time. If that is not the cause, each
// worker's part is tried apart the next time, so that none holds up others.
func (l *leader) refused(ctx context.Context, begins map[string]*edit) error {
	v := l.s.view
	if err := v.Wait(ctx, l.fence); err != nil {
		return fmt.Errorf("wait for the news: %w", err)
	}
	l.apart = true
	v.Read(func() {
		for worker, d := range begins {
			if s := v.Sessions[worker]; d.session != 0 && (s == nil || s.ID != d.session) {
				l.apart = false
			}
		}
	})
	return nil
}

// atOnce writes what ends and what begins in one transaction, if all of it fits into
// one: no instant of the store is between them, and the time of one write is saved.
func (l *leader) atOnce(ctx context.Context, ends, begins map[string]*edit) (tried, done bool, err error) {
	if len(ends) == 0 || len(begins) == 0 {
		return false, false, nil
	}
	all := map[string]*edit{}
	for worker, d := range ends {
		all[worker] = &edit{set: slices.Clone(d.set), del: d.del}
	}
	for worker, d := range begins {
		both := editOf(all, worker)
		for _, g := range d.set {
			if slices.Contains(both.del, record.InstanceKey(g.Instance)) {
				return false, false, nil // the old one is to be seen gone
			}
		}
		both.set, both.session = append(both.set, d.set...), d.session
	}
	both := l.stage(slices.Sorted(maps.Keys(all)), all)
	if both.err != nil || !both.whole || len(commit.Pack(both.units, fenced)) != 1 {
		return false, false, both.err
	}
	r := l.pages.Together(ctx, both.units...)
	return true, r.OK, r.Err
}

func editOf(m map[string]*edit, worker string) *edit {
	d := m[worker]
	if d == nil {
		d = &edit{}
		m[worker] = d
	}
	return d
}

// commit writes edits, worker by worker, and plans the next writes meanwhile. whole is
// false if some could not be written, or are to be tried again with what the view knows
// since; apart is to try each of them now.
func (l *leader) commit(ctx context.Context, edits map[string]*edit, apart bool) (wrote, whole bool, err error) {
	whole = true
	ctx, cancel := context.WithCancel(ctx)
	ahead := make(chan staged)
	defer func() {
		cancel()
		for range ahead { // until it has ended
		}
	}()
	go func() {
		defer close(ahead)
		for workers := range slices.Chunk(slices.Sorted(maps.Keys(edits)), stagedTogether) {
			select {
			case ahead <- l.stage(workers, edits):
			case <-ctx.Done():
				return
			}
		}
	}()
	for some := range ahead {
		if some.err != nil {
			return wrote, false, some.err
		}
		whole = whole && some.whole
		for r := range l.pages.Write(ctx, some.units) {
			if r.Err != nil {
				return wrote, false, r.Err
			}
			if r.Several() {
				if !apart {
					return wrote, false, l.refused(ctx, edits)
				}
				continue // its units follow
			}
			wrote, whole = wrote || r.OK, whole && r.OK
		}
	}
	if ctx.Err() != nil {
		return wrote, false, fmt.Errorf("write grants: %w", ctx.Err())
	}
	return wrote, whole, nil
}

// stagedTogether is of how many workers the writes are planned while those of as many
// before them are done: some transactions' worth.
const stagedTogether = 128

// staged are the planned writes of some workers. whole is false if something is left out.
type staged struct {
	units []table.Unit
	whole bool
	err   error
}

// stage plans the writes of workers, one after the other.
func (l *leader) stage(workers []string, edits map[string]*edit) (out staged) {
	out.whole = true
	v := l.s.view
	for _, worker := range workers {
		d := edits[worker]
		v.Read(func() {
			t := v.Grants[worker]
			if t == nil {
				t = record.NewGrants(worker)
			}
			if t.Lost() { // it is removed as a whole, when nobody can go by it any more
				out.whole = false
				return
			}
			units, err := t.Stage(d.set, d.del)
			if err != nil {
				out.err = fmt.Errorf("grants of %s: %w", worker, err)
				return
			}
			for _, u := range units {
				if d.session != 0 {
					u.Conds = append(u.Conds, store.Cond{Key: store.SessionKey(worker), By: store.ByCreate, Revision: d.session})
				}
				out.whole = out.whole && !u.Partial
				out.units = append(out.units, u)
			}
		})
		if out.err != nil {
			return out
		}
	}
	return out
}

// fenced is how many conditions and operations guard has for each transaction.
const fenced = 1

// writer is the way of this term's pages into the store: the view has at once what is
// written. What is refused may be done all the same, if its outcome was unknown: then the
// view has it, too. An error ends the term.
func (l *leader) writer() commit.Writer {
	return commit.Writer{
		Txn: l.timed, Timeout: l.s.cfg.Lease, Guard: l.guard, Reserve: fenced, Settle: l.settle, Done: l.s.view.Applied,
	}
}

// txn does one transaction of this term, of other keys than pages; see writer.
func (l *leader) txn(ctx context.Context, conds []store.Cond, ops []store.Op) (ok bool, rev int64, err error) {
	w := l.pages
	w.Done = nil
	r := w.Together(ctx, table.Unit{Conds: conds, Ops: ops})
	return r.OK, r.Revision, r.Err
}

// guard has each transaction compare the leader's key and write it again, so that all
// transactions of all leaders have one order and a late one does nothing.
func (l *leader) guard(context.Context, int, int) ([]store.Cond, []store.Op, error) {
	return []store.Cond{{Key: store.LeaderKey, By: store.ByMod, Revision: l.fence}},
		[]store.Op{{Key: store.LeaderKey, Value: l.value, Lease: l.lease}}, nil
}

func (l *leader) timed(ctx context.Context, conds []store.Cond, ops []store.Op) (ok bool, rev int64, err error) {
	began := time.Now()
	ok, rev, err = l.s.store.Txn(ctx, conds, ops)
	l.s.measures.commits.Observe(time.Since(began).Seconds())
	if err == nil && ok {
		l.fence = rev
	}
	if err == nil {
		l.dog.Goes() // there may be thousands to write
	}
	return ok, rev, err
}

// settle finds out where the store stands after a transaction that was refused
// or whose outcome is unknown: it writes the fence anew, after which an earlier
// transaction can no longer land, or sees that it has landed.
func (l *leader) settle(ctx context.Context, err error) error {
	if err == nil {
		l.s.stats.refusedTxns.Add(1)
	} else if ctx.Err() == nil {
		l.s.log.Warn("outcome of a transaction unknown, looking", "error", err)
	}
	st := l.s.cfg.Store
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, l.s.cfg.Lease)
		kv, ok, _, err := st.Get(one, store.LeaderKey)
		if err == nil && (!ok || kv.Create != l.epoch) {
			cancel()
			return errDeposed
		}
		if err == nil && kv.Mod == l.fence {
			conds, ops, _ := l.guard(one, 0, 0)
			var rev int64
			if ok, rev, err = st.Txn(one, conds, ops); err == nil && ok {
				cancel()
				l.fence = rev
				return nil
			}
		} else if err == nil {
			cancel()
			l.fence = kv.Mod
			return l.s.view.Wait(ctx, kv.Mod)
		}
		cancel()
		if err != nil {
			l.s.log.Warn("the store does not answer", "error", err)
		}
		sleep(ctx, retryPause/10)
	}
	return fmt.Errorf("settle: %w", ctx.Err())
}
