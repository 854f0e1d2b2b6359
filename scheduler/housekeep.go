package scheduler

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// clusterFacts are what the leader tells all.
type clusterFacts struct {
	started, allRunning bool
	epoch               int64 // of whoever says so: what was true of another's term may not be of this
}

func factsOf(c *storepb.Cluster) clusterFacts {
	return clusterFacts{c.GetStarted(), c.GetAllRunning(), c.GetEpoch()}
}

// nodeWrites are changes to what is remembered of workers, not written yet. A worker
// is in one of them at the most: what became of it last.
type nodeWrites struct {
	gone  map[string]*storepb.Session // lost now; nil if nothing is known of it
	went  map[string]bool             // left in order, or lost with nothing
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
	delete(o.went, name)
}

// left notes a worker of whose life nothing is to be remembered.
func (o *nodeWrites) left(name string) {
	if o.went == nil {
		o.went = map[string]bool{}
	}
	o.went[name] = true
	delete(o.gone, name)
}

// over notes that nothing is to be written of a worker any more: it has been, or
// the worker lives again, and whoever wrote its session wrote what is to be
// remembered of it.
func (o *nodeWrites) over(name string) {
	delete(o.gone, name)
	delete(o.went, name)
}

// nodeWrite is one of them. It is written only while the worker has no session,
// unless it is old.
type nodeWrite struct {
	node *storepb.Node
	keep bool
	old  bool
}

// list is what is to be written; the view stands still.
func (o *nodeWrites) list(v *view.View, now time.Time, forget time.Duration) (out []nodeWrite) {
	for _, name := range slices.Sorted(maps.Keys(o.gone)) {
		have := v.Nodes[name]
		n := &storepb.Node{
			Name: name, Cordoned: have.GetCordoned(), Draining: have.GetDraining(), LostUnixMs: now.UnixMilli(), Last: o.gone[name],
		}
		if n.GetLast() == nil {
			n.Last = have.GetLast()
		}
		out = append(out, nodeWrite{node: n, keep: true})
	}
	for _, name := range slices.Sorted(maps.Keys(o.went)) {
		if have := v.Nodes[name]; have.GetLast() != nil {
			n := &storepb.Node{Name: name, Cordoned: have.GetCordoned(), Draining: have.GetDraining()}
			out = append(out, nodeWrite{node: n, keep: n.GetCordoned() || n.GetDraining()})
		}
	}
	if !o.prune {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(v.Nodes)) {
		n := v.Nodes[name]
		lost := time.UnixMilli(n.GetLostUnixMs())
		if _, again := o.gone[name]; again || o.went[name] {
			continue
		}
		if n.GetLostUnixMs() != 0 && now.Sub(lost) > forget && !n.GetCordoned() && !n.GetDraining() {
			out = append(out, nodeWrite{node: n, old: true})
		}
	}
	return out
}

// housekeep writes what the leader tells all and what it remembers of workers. whole
// is false if somebody wrote beside it.
func (l *leader) housekeep(ctx context.Context, now time.Time) (wrote, whole bool, err error) {
	var conds []store.Cond
	var ops []store.Op
	facts := clusterFacts{
		started: true, allRunning: l.planAt.IsZero() && l.ledger.Running() == l.instances && l.listed(), epoch: l.epoch,
	}
	if facts != l.told {
		value, err := record.Encode(&storepb.Cluster{
			Version: record.Version, Started: facts.started, AllRunning: facts.allRunning, Epoch: facts.epoch,
		})
		if err != nil {
			return false, false, err
		}
		ops = append(ops, store.Op{Key: store.ClusterKey, Value: value})
	}
	suspected, err := l.suspectsOp()
	if err != nil {
		return false, false, err
	}
	if suspected.Value != nil {
		ops, conds = append(ops, suspected), append(conds, store.Cond{Key: suspected.Key, By: store.ByMod, Revision: l.suspects.mod})
	}
	var nodes []nodeWrite
	v := l.s.view
	v.Read(func() {
		nodes = l.owed.list(v, now, l.s.cfg.ForgetLost)
		nodes = nodes[:min(len(nodes), store.MaxTxnOps/4)] // the rest the next time
		room := store.MaxTxnBytes*7/8 - suspected.Size()
		for n, w := range nodes {
			name := w.node.GetName()
			op := store.Op{Key: store.NodeKey(name), Delete: !w.keep}
			if w.keep {
				w.node.Version = record.Version
				if op.Value, err = record.Encode(w.node); err != nil {
					return
				}
			}
			mine := []store.Cond{{Key: op.Key, By: store.ByMod, Revision: v.Mod(op.Key)}}
			if !w.old {
				mine = append(mine, store.Cond{Key: store.SessionKey(name), By: store.ByCreate, Revision: 0})
			}
			if room -= op.Size(); n > 0 && room < 0 {
				nodes = nodes[:n]
				return
			}
			ops, conds = append(ops, op), append(conds, mine...)
		}
	})
	if err != nil || len(ops) == 0 {
		l.owed = nodeWrites{}
		return false, true, err
	}
	ok, rev, err := l.txn(ctx, conds, ops)
	if err != nil || !ok {
		return false, false, err
	}
	l.told = facts
	if suspected.Value != nil {
		l.suspects.written(rev)
	}
	for _, w := range nodes {
		l.owed.over(w.node.GetName())
	}
	return true, true, nil
}

// listed reports whether every source has given a list, to this leader or to one
// before: while one has not, nobody knows what all tasks are.
func (l *leader) listed() bool {
	known := true
	v := l.s.view
	v.Read(func() {
		for _, src := range l.s.cfg.Sources {
			m := v.Sources[src.Name]
			known = known && m != nil && (m.GetError() == "" || m.GetTasks() > 0)
		}
	})
	return known
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
	sub := v.Subscribe(nil, l.hear)
	defer sub.Close()
	timer := time.NewTimer(l.s.cfg.BarrierWait)
	defer timer.Stop()
	for count() < want {
		select {
		case <-l.inbox.Signal():
			l.inbox.Take()
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
