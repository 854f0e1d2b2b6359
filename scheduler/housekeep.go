package scheduler

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"
)

// clusterFacts are what the leader tells all.
type clusterFacts struct{ started, allRunning bool }

func factsOf(c *storepb.Cluster) clusterFacts {
	return clusterFacts{c.GetStarted(), c.GetAllRunning()}
}

// nodeWrites are changes to what is remembered of workers, not written yet.
type nodeWrites struct {
	gone  map[string]*storepb.Session // lost now; nil if nothing is known of it
	here  map[string]bool             // back, or never away
	prune bool                        // forget those lost long ago
}

// lost notes a worker whose lease ended without a farewell.
func (o *nodeWrites) lost(name string, node *storepb.Node, last *storepb.Session) {
	if node.GetLostUnixMs() != 0 {
		return // known
	}
	if o.gone == nil {
		o.gone = map[string]*storepb.Session{}
	}
	o.gone[name] = last
	delete(o.here, name)
}

// back notes that a worker which may be remembered as lost lives.
func (o *nodeWrites) back(node *storepb.Node) {
	if node.GetLostUnixMs() != 0 {
		o.returned(node.GetName())
	}
}

func (o *nodeWrites) returned(name string) {
	if o.here == nil {
		o.here = map[string]bool{}
	}
	o.here[name] = true
	delete(o.gone, name)
}

// housekeep writes what the leader tells all and what it remembers of workers.
func (l *leader) housekeep(ctx context.Context, now time.Time) (wrote bool, err error) {
	var conds []store.Cond
	var ops []store.Op
	facts := clusterFacts{started: true, allRunning: l.planAt.IsZero() && l.ledger.Running() == l.instances}
	if facts != l.told {
		value, err := record.Encode(&storepb.Cluster{Version: record.Version, Started: facts.started, AllRunning: facts.allRunning})
		if err != nil {
			return false, err
		}
		ops = append(ops, store.Op{Key: store.ClusterKey, Value: value})
	}
	l.s.view.Read(func() {
		put := func(n *storepb.Node, keep bool) {
			key := store.NodeKey(n.GetName())
			if len(ops) >= store.MaxTxnOps/2 {
				return // the rest the next time
			}
			op := store.Op{Key: key, Delete: !keep}
			if keep {
				n.Version = record.Version
				if op.Value, err = record.Encode(n); err != nil {
					return
				}
			}
			conds = append(conds, store.Cond{Key: key, By: store.ByMod, Revision: l.s.view.Mod(key)})
			ops = append(ops, op)
		}
		for _, name := range slices.Sorted(maps.Keys(l.owed.gone)) {
			old := l.s.view.Nodes[name]
			last := l.owed.gone[name]
			if last == nil {
				last = old.GetLast()
			}
			put(&storepb.Node{
				Name: name, Cordoned: old.GetCordoned(), Draining: old.GetDraining(), LostUnixMs: now.UnixMilli(), Last: last,
			}, true)
		}
		for _, name := range slices.Sorted(maps.Keys(l.owed.here)) {
			if old := l.s.view.Nodes[name]; old.GetLostUnixMs() != 0 {
				put(&storepb.Node{Name: name, Cordoned: old.GetCordoned(), Draining: old.GetDraining()},
					old.GetCordoned() || old.GetDraining())
			}
		}
		if l.owed.prune {
			for _, name := range slices.Sorted(maps.Keys(l.s.view.Nodes)) {
				n := l.s.view.Nodes[name]
				lost := time.UnixMilli(n.GetLostUnixMs())
				if n.GetLostUnixMs() != 0 && now.Sub(lost) > l.s.cfg.ForgetLost && !n.GetCordoned() && !n.GetDraining() {
					put(n, false)
				}
			}
		}
	})
	if err != nil || len(ops) == 0 {
		l.owed = nodeWrites{}
		return false, err
	}
	ok, _, err := l.txn(ctx, conds, ops)
	if err != nil || !ok {
		return false, err // somebody else wrote a node: it is seen soon, and tried again
	}
	l.told = facts
	if len(ops) < store.MaxTxnOps/2 {
		l.owed = nodeWrites{}
	}
	return true, nil
}

// gather is the barrier of the first start: where no worker lives when a leader
// takes office, it waits for enough of them, so that nothing is assigned twice
// over while they come up.
func (l *leader) gather(ctx context.Context) error {
	want, v := l.s.cfg.BarrierWorkers, l.s.view
	count := func() (n int) {
		v.Read(func() { n = len(v.Sessions) })
		return n
	}
	if want == 0 || count() > 0 && l.started() {
		return nil
	}
	if l.started() {
		value, err := record.Encode(&storepb.Cluster{Version: record.Version})
		if err != nil {
			return err
		}
		if _, _, err := l.txn(ctx, nil, []store.Op{{Key: store.ClusterKey, Value: value}}); err != nil {
			return err
		}
	}
	l.s.log.Info("waiting for workers", "want", want, "at_most", l.s.cfg.BarrierWait)
	sub := v.Subscribe(nil, l.inbox.put)
	defer sub.Close()
	timer := time.NewTimer(l.s.cfg.BarrierWait)
	defer timer.Stop()
	for count() < want {
		select {
		case <-l.inbox.signal:
			l.inbox.take()
		case list := <-l.lists:
			if err := l.reconcile(ctx, list); err != nil {
				return err
			}
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (l *leader) started() (yes bool) {
	l.s.view.Read(func() { yes = l.s.view.Cluster.GetStarted() })
	return yes
}
