package pools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/fleet"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// loop tends the pools of one engine. The one without a name tends those whose engine
// this scheduler does not have: it says so.
type loop struct {
	k      *Control
	name   string
	engine engine.Engine // nil for the one without a name
	demand demand
	signal chan struct{}
}

func (l *loop) wake() {
	select {
	case l.signal <- struct{}{}:
	default:
	}
}

// run looks again and again until the Control closes.
func (l *loop) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.signal:
		case <-l.k.ctx.Done():
			return
		}
		busy := l.look(l.k.ctx)
		timer.Stop()
		if busy {
			timer.Reset(lookEvery)
		}
	}
}

// pool is a pool as the picture has it.
type pool struct {
	engine.Pool
	record *storepb.Pool
	mod    int64
	state  *storepb.PoolState
}

// picture is what a look goes by.
type picture struct {
	epoch      int64 // of this scheduler's term; 0 while another leads
	cluster    string
	pools      []pool
	workers    map[string]*worker // of all pools, by name
	schedulers []string           // where workers connect
}

// worker is a worker of a pool as the picture has it.
type worker struct {
	*storepb.PoolWorker
	mod      int64
	alive    bool
	lost     int64 // when its last session ended, in milliseconds since the Unix epoch; 0 for never
	left     bool  // its last session ended in order
	draining bool
	load     int
	kinds    []string // that it says it can run, while it lives
}

// see takes the picture.
func (k *Control) see() (p picture) {
	v := k.cfg.View
	p.workers = map[string]*worker{}
	v.Read(func() {
		if v.Leader != nil && v.Leader.Name == k.cfg.Scheduler {
			p.epoch = v.Leader.Epoch
		}
		p.cluster = v.Engines.GetCluster()
		for name, m := range v.Pools {
			p.pools = append(p.pools, pool{fromStore(m), m, v.Mod(store.PoolKey(name)), v.PoolStates[name]})
		}
		for name, m := range v.PoolWorkers {
			w := &worker{PoolWorker: m, mod: v.Mod(store.PoolWorkerKey(name)), alive: v.Sessions[name] != nil, lost: v.Nodes[name].GetLostUnixMs(), draining: v.Nodes[name].GetDraining()}
			if s := v.Sessions[name]; s != nil {
				w.kinds = s.GetKinds()
			}
			if g := v.Grants[name]; g != nil {
				w.load = g.Len()
			}
			p.workers[name] = w
		}
		for _, name := range slices.Sorted(maps.Keys(v.Schedulers)) {
			if a := v.Schedulers[name].GetGrpc(); a != "" {
				p.schedulers = append(p.schedulers, a)
			}
		}
	})
	k.tellLeft(p.workers)
	if k.cfg.Work != nil {
		for name, w := range p.workers {
			w.load += k.cfg.Work(name)
		}
	}
	slices.SortFunc(p.pools, func(a, b pool) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Name, b.Name))
	})
	return p
}

// look sees to all pools of the engine once. It reports whether it is to look again
// soon.
func (l *loop) look(ctx context.Context) (busy bool) {
	if l.engine == nil {
		return l.lacking(ctx)
	}
	p := l.k.see()
	if !p.concerns(l.name) {
		return false
	}
	// The engine is listed before the picture is taken: a worker that it lists has had a
	// record by then.
	copies, listErr := l.list(ctx)
	if p = l.k.see(); p.epoch != 0 && p.cluster == "" {
		if err := l.k.nameCluster(ctx, p.epoch); err != nil {
			l.k.cfg.Logger.Warn("pools are waiting for the store", "error", err)
			return true
		}
		p = l.k.see()
	}
	l.strays(ctx, &p, copies)
	if p.epoch == 0 {
		return engine.Here(l.name) && len(copies) > 0
	}
	l.weigh(&p, time.Now())
	for n := range p.pools {
		if p.pools[n].Engine == l.name && ctx.Err() == nil {
			if err := l.tend(ctx, &p, &p.pools[n], copies, listErr); err != nil && ctx.Err() == nil {
				l.k.cfg.Logger.Warn("pool not processed", "pool", p.pools[n].Name, "error", err)
			}
		}
	}
	return true
}

// concerns reports whether there is anything of an engine.
func (p *picture) concerns(name string) bool {
	for _, w := range p.workers {
		if w.GetEngine() == name {
			return true
		}
	}
	return engine.Here(name) || slices.ContainsFunc(p.pools, func(x pool) bool { return x.Engine == name })
}

// has reports whether a pool has workers.
func (p *picture) has(pool string) bool {
	for _, w := range p.workers {
		if w.GetPool() == pool {
			return true
		}
	}
	return false
}

// list asks the engine what it knows of this cluster's workers.
func (l *loop) list(ctx context.Context) (map[string][]engine.Copy, error) {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	all, err := l.engine.List(ctx)
	if err != nil {
		return nil, err
	}
	copies := map[string][]engine.Copy{}
	for _, c := range all {
		copies[c.Worker] = append(copies[c.Worker], c)
	}
	return copies, nil
}

// nameCluster gives the cluster a name that no other has which uses the same engine.
func (k *Control) nameCluster(ctx context.Context, epoch int64) error {
	value, err := record.Encode(&storepb.Engines{Version: record.Version, Cluster: suffix()})
	if err != nil {
		return err
	}
	_, err = k.txn(ctx, []store.Cond{term(epoch), {Key: store.EnginesKey, By: store.ByCreate}}, []store.Op{{Key: store.EnginesKey, Value: value}})
	return err
}

// term is the condition that this scheduler leads still.
func term(epoch int64) store.Cond {
	return store.Cond{Key: store.LeaderKey, By: store.ByCreate, Revision: epoch}
}

// strays stops what should not run: copies of workers that nobody has a record of, and
// on an engine of this scheduler's own those that are to end. Of a shared engine only
// the leader does so.
func (l *loop) strays(ctx context.Context, p *picture, copies map[string][]engine.Copy) {
	here := engine.Here(l.name)
	if p.epoch == 0 && !here {
		return
	}
	for name, list := range copies {
		w := p.workers[name]
		for _, c := range list {
			switch {
			case c.State == engine.Ended, c.Cluster != p.cluster, w != nil && (!here || w.GetStoppingUnixMs() == 0):
				continue
			case w == nil:
				l.k.cfg.Logger.Warn("stopping a worker that belongs to no pool", "engine", l.name, "worker", name, "handle", c.Handle)
			}
			if err := l.stop(ctx, c.Handle); err != nil {
				l.k.cfg.Logger.Warn("worker not stopped", "engine", l.name, "worker", name, "handle", c.Handle, "error", err)
			}
		}
	}
}

func (l *loop) stop(ctx context.Context, handle string) error {
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	return l.engine.Stop(ctx, handle)
}

// tend sees to one pool.
func (l *loop) tend(ctx context.Context, p *picture, x *pool, copies map[string][]engine.Copy, listErr error) error {
	now := time.Now()
	f := fleet.Picture{
		Now: moment(now), Engine: l.name, From: x.Size.From, To: x.Size.To, IdleAfter: x.IdleAfter, StartTimeout: x.StartTimeout,
		Deleted: x.record.GetDeleted(), Listed: listErr == nil, Memory: memoryOf(x.state),
		Want: l.demand.want[x.Name], Spare: l.demand.spare[x.Name],
	}
	for name, w := range p.workers {
		if w.GetPool() != x.Name {
			continue
		}
		m := fleet.Member{
			Name: name, Asked: millis(w.GetAskedUnixMs()), Handle: w.GetHandle(), Joined: millis(w.GetJoinedUnixMs()), Alive: w.alive, Lost: millis(w.lost), Left: w.left, Load: w.load,
			Leaving: millis(w.GetLeavingUnixMs()), Stopping: millis(w.GetStoppingUnixMs()), Outdated: !proto.Equal(w.GetTemplate(), x.record.GetTemplate()),
			Elsewhere: engine.Here(l.name) && w.GetScheduler() != l.k.cfg.Scheduler,
		}
		for _, c := range copies[name] {
			if c.Cluster == p.cluster {
				m.Copies = append(m.Copies, fleet.Copy{
					Handle: c.Handle, Waiting: c.State == engine.Waiting, Ended: c.State == engine.Ended, Detail: c.Detail, Began: moment(c.Began), Ends: moment(c.Ends),
				})
			}
		}
		f.Members = append(f.Members, m)
	}
	if f.Deleted && len(f.Members) == 0 {
		return l.k.remove(ctx, p.epoch, x)
	}
	plan := fleet.Decide(f)
	if listErr != nil {
		away := fmt.Sprintf("the engine %s does not answer: %v", l.name, listErr)
		if !slices.Contains(x.state.GetNotes(), away) {
			l.k.tell(events.PoolAway, x.Name, "", away)
		}
		plan.Notes = append([]string{away}, plan.Notes...)
	}
	if plan.Memory.Size != f.Memory.Size && !x.Size.Fixed() && !f.Deleted && x.state != nil {
		l.k.tell(events.PoolScaled, x.Name, "", fmt.Sprintf("from %d to %d, by the load", f.Memory.Size, plan.Memory.Size))
	}
	if plan.Memory.Error != "" && plan.Memory.ErrorAt != f.Memory.ErrorAt {
		l.k.tell(events.PoolFailed, x.Name, "", plan.Memory.Error)
		l.k.cfg.Logger.Warn("pool fails", "pool", x.Name, "engine", l.name, "error", plan.Memory.Error, "failures", plan.Memory.Failures)
	}
	a := &acts{loop: l, picture: p, pool: x, copies: copies, now: now, memory: plan.Memory}
	for _, act := range plan.Actions {
		if err := a.do(ctx, act); err != nil {
			return errors.Join(err, l.k.remember(ctx, p.epoch, x, a.memory, plan.Notes))
		}
	}
	a.follow(ctx)
	return l.k.remember(ctx, p.epoch, x, a.memory, plan.Notes)
}

// remove removes a pool that is deleted and has no workers.
func (k *Control) remove(ctx context.Context, epoch int64, x *pool) error {
	ok, err := k.txn(ctx, []store.Cond{term(epoch), {Key: store.PoolKey(x.Name), By: store.ByMod, Revision: x.mod}}, []store.Op{
		{Key: store.PoolKey(x.Name), Delete: true}, {Key: store.PoolStateKey(x.Name), Delete: true},
	})
	if ok {
		k.tell(events.PoolGone, x.Name, "", "")
		k.cfg.Logger.Info("pool gone", "pool", x.Name)
	}
	return err
}

// remember keeps what is to be remembered of a pool, if it has changed.
func (k *Control) remember(ctx context.Context, epoch int64, x *pool, m fleet.Memory, notes []string) error {
	state := stateOf(x.Name, m, notes)
	if proto.Equal(state, x.state) {
		return nil
	}
	value, err := record.Encode(state)
	if err != nil {
		return err
	}
	_, err = k.txn(ctx, []store.Cond{term(epoch), {Key: store.PoolKey(x.Name), By: store.ByMod, Revision: x.mod}},
		[]store.Op{{Key: store.PoolStateKey(x.Name), Value: value}})
	return err
}

// lacking says of pools whose engine the leader does not have that it does not.
func (l *loop) lacking(ctx context.Context) (busy bool) {
	p := l.k.see()
	if p.epoch == 0 {
		return false
	}
	for n := range p.pools {
		x := &p.pools[n]
		if l.k.cfg.Engines[x.Engine] != nil {
			continue
		}
		var err error
		if x.record.GetDeleted() && !p.has(x.Name) {
			err = l.k.remove(ctx, p.epoch, x)
		} else {
			err = l.k.remember(ctx, p.epoch, x, memoryOf(x.state), []string{fmt.Sprintf(
				"the leader %s has no engine %s: start it with --engines %s", l.k.cfg.Scheduler, x.Engine, x.Engine)})
		}
		if err != nil && ctx.Err() == nil {
			l.k.cfg.Logger.Warn("pool not processed", "pool", x.Name, "error", err)
			busy = true
		}
	}
	return busy
}
