package sessions

import (
	"context"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/store"
)

// buryFresh is how old the store's last word may be for a worker to be buried.
const buryFresh = 2 * time.Second

// bury ends the session of a worker that has not come back to any scheduler, as
// soon as it cannot trust its lease any more: that counts from when the worker asked
// for the last renewal that it was told of, and this scheduler asked the store later.
// The store's own end of the lease comes later still, by as much as an election of
// etcd takes: whoever is elected gives all leases their whole time again. After an
// outage of the store nobody is buried: the worker may be about to come back. Nor is
// one that has said nothing since it was welcomed: its hello may have come so late
// that it has long been with another scheduler, by whose renewals it goes.
func (c *session) bury() {
	if c.broke.Load() && c.await(c.ttl/4) && c.forsaken() { // the store may end the lease first
		ctx, cancel := timeout(c.srv.opening)
		rev := c.srv.markDied(ctx, c.name, c.written())
		cancel()
		c.mu.Lock()
		c.mod = max(c.mod, rev)
		c.mu.Unlock()
	}
	if !c.await(0) || !c.forsaken() {
		return
	}
	ctx, cancel := timeout(c.srv.opening)
	defer cancel()
	ops := []store.Op{{Key: store.SessionKey(c.name), Delete: true}}
	c.srv.cfg.View.Read(func() {
		for _, key := range c.srv.cfg.View.TakerKeys(c.name) {
			ops = append(ops, store.Op{Key: key, Delete: true}) // it takes nothing before it has said again what it runs
		}
	})
	// Whoever has taken the session over wrote its key.
	ok, _, err := c.srv.cfg.Store.Txn(ctx,
		[]store.Cond{{Key: store.SessionKey(c.name), By: store.ByMod, Revision: c.written()}}, ops)
	if err != nil || !ok {
		return // the lease ends by itself
	}
	c.srv.cfg.Logger.Info("no more word from the worker", "worker", c.name, "incarnation", c.info.GetIncarnation(), "lease", c.ttl)
	_ = c.srv.cfg.Store.Revoke(ctx, c.lease) // what it said goes, too
}

// await waits until so long before the worker cannot trust its lease any more; false
// if the server closes.
func (c *session) await(before time.Duration) bool {
	for {
		c.mu.Lock()
		left := time.Until(c.renewed.Add(c.ttl - before))
		c.mu.Unlock()
		if left <= 0 {
			return true
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-c.srv.opening.Done():
			timer.Stop()
			return false
		}
	}
}

// forsaken reports whether the worker has come back to nobody.
func (c *session) forsaken() bool {
	v, mine := c.srv.cfg.View, false
	v.Read(func() {
		now := v.Sessions[c.name]
		mine = now != nil && now.ID == c.id && now.Mod == c.written()
	})
	return mine && c.spoke.Load() && time.Since(v.AsOf()) <= buryFresh
}

// markDied writes down, before a session goes, that it goes because the worker's process
// has died; rev is the revision of its key, and the answer the one to go on with. A
// worker that was about to leave is left out, and one that comes back all the same
// writes its key anew. That the mark is missing harms nobody.
func (s *Server) markDied(ctx context.Context, worker string, rev int64) int64 {
	have, kv, _, err := readSession(ctx, s.cfg.Store, worker)
	if err != nil || have == nil || kv.Mod != rev || have.GetLeaving() {
		return rev
	}
	have.Died = true
	value, err := record.Encode(have)
	if err != nil {
		return rev
	}
	ok, marked, err := s.cfg.Store.Txn(ctx,
		[]store.Cond{{Key: kv.Key, By: store.ByMod, Revision: rev}},
		[]store.Op{{Key: kv.Key, Value: value, Lease: store.LeaseID(have.GetLease())}})
	if err != nil || !ok {
		return rev
	}
	return marked
}

// farewell ends the session of a worker that holds nothing.
func (c *session) farewell(ctx context.Context) bool {
	ctx, cancel := timeout(context.WithoutCancel(ctx))
	defer cancel()
	if err := c.srv.cfg.Store.Revoke(ctx, c.lease); err != nil {
		c.srv.cfg.Logger.Warn("lease not ended", "worker", c.name, "error", err)
		return true
	}
	c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Goodbye{Goodbye: &rotav1.Goodbye{Left: true}}})
	return true
}
