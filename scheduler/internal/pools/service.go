package pools

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// maxPools is how many pools a cluster has at most.
const maxPools = 1000

// States of a pool and of its workers.
const (
	poolReady     = "ready"
	poolGrowing   = "growing"
	poolShrinking = "shrinking"
	poolFailing   = "failing"
	poolDeleting  = "deleting"

	workerAsked    = "asked"
	workerStarted  = "started"
	workerRunning  = "running"
	workerLeaving  = "leaving"
	workerStopping = "stopping"
)

func noPool(name string) error {
	return status.Errorf(codes.NotFound, "pool %q: not found", text.Clip(name, text.Short))
}

// attempts is how often a write is tried against others of the same pool.
const attempts = 20

var errBusy = status.Error(codes.Aborted, "too much contention on the same pool; try again")

// ApplyPools declares pools and changes those that are there.
func (k *Control) ApplyPools(ctx context.Context, r *rotav1.ApplyPoolsRequest) (*rotav1.ApplyPoolsResponse, error) {
	if len(r.GetPools()) == 0 {
		return nil, convert.FieldStatus("pools", "pools: want at least one pool")
	}
	set, seen := make([]engine.Pool, len(r.GetPools())), map[string]bool{}
	for n, d := range r.GetPools() {
		p, err := convert.PoolFromProto(d)
		if err == nil && seen[p.Name] {
			err = &rota.FieldError{Field: "name", Value: p.Name, Want: "a unique name: it occurs twice"}
		}
		if err == nil && k.cfg.Engines[p.Engine] == nil {
			err = &rota.FieldError{Field: "engine", Value: p.Engine, Want: k.engines()}
		}
		if err != nil {
			return nil, convert.FieldStatus(fmt.Sprintf("pools[%d]", n), fmt.Sprintf("pool %q: %v", text.Clip(d.GetName(), text.Short), err))
		}
		set[n], seen[p.Name] = p, true
	}
	if err := k.catchUp(ctx); err != nil {
		return nil, err
	}
	for range attempts {
		out := &rotav1.ApplyPoolsResponse{}
		conds, ops, news, err := k.stage(set, out)
		if err != nil {
			return nil, err
		}
		if len(ops) == 0 || r.GetDryRun() {
			return out, nil
		}
		if ok, err := k.txn(ctx, conds, ops); err != nil || ok {
			for _, n := range news {
				if ok {
					k.asked(ctx, n.Kind, n.Subject.Pool, n.Text)
				}
			}
			return out, err
		}
	}
	return nil, errBusy
}

// catchUp is that of the picture, see view.View, with the answer if it fails. Nothing
// that this scheduler was asked for before can still land then.
func (k *Control) catchUp(ctx context.Context) error {
	if err := k.fence.Settle(ctx); err != nil {
		return convert.ReadError(err)
	}
	return convert.ReadError(k.cfg.View.CatchUp(ctx))
}

// engines says which engines there are on this scheduler, as what is wanted.
func (k *Control) engines() string {
	if len(k.cfg.Engines) == 0 {
		return "an engine; this scheduler has none: start it with --engines"
	}
	return "an engine of this scheduler: " + strings.Join(slices.Sorted(maps.Keys(k.cfg.Engines)), ", ") + " (--engines)"
}

// stage makes the transaction that declares pools, counts what it does, and says what is
// to be told of it.
func (k *Control) stage(set []engine.Pool, out *rotav1.ApplyPoolsResponse) (conds []store.Cond, ops []store.Op, news []events.Event, err error) {
	v := k.cfg.View
	v.Read(func() {
		for _, p := range set {
			key, next, have := store.PoolKey(p.Name), toStore(p), v.Pools[p.Name]
			kind := events.PoolChanged
			switch {
			case have == nil:
				kind = events.PoolDeclared
				out.Created++
			case have.GetDeleted():
				err = status.Errorf(codes.FailedPrecondition, "pool %q: it is being deleted; declare it again when it is gone", p.Name)
				return
			case have.GetEngine() != next.GetEngine() && k.members(p.Name) > 0:
				err = convert.FieldStatus("engine", fmt.Sprintf("pool %q: engine: %q: want %s, where its workers are; to change it delete the pool, or use another name", p.Name, p.Engine, have.GetEngine()))
				return
			case proto.Equal(have, next):
				out.Unchanged++
				continue
			default:
				out.Changed++
			}
			var value []byte
			if value, err = record.Encode(next); err != nil {
				return
			}
			conds = append(conds, store.Cond{Key: key, By: store.ByMod, Revision: v.Mod(key)})
			ops = append(ops, store.Op{Key: key, Value: value})
			news = append(news, events.Event{Kind: kind, Subject: events.Subject{Pool: p.Name}, Text: brief(p)})
		}
		if len(v.Pools)+int(out.GetCreated()) > maxPools {
			err = status.Errorf(codes.ResourceExhausted, "at most %d pools", maxPools)
		}
	})
	return conds, ops, news, err
}

// members is how many workers of a pool there are records of; the view stands still.
func (k *Control) members(pool string) (n int) {
	for _, w := range k.cfg.View.PoolWorkers {
		if w.GetPool() == pool {
			n++
		}
	}
	return n
}

// ListPools lists the pools in order of name, without their workers.
func (k *Control) ListPools(context.Context, *rotav1.ListPoolsRequest) (*rotav1.ListPoolsResponse, error) {
	out := &rotav1.ListPoolsResponse{}
	v := k.cfg.View
	v.Read(func() {
		for _, name := range slices.Sorted(maps.Keys(v.Pools)) {
			p := k.shown(name)
			p.Workers = nil
			out.Pools = append(out.Pools, p)
		}
	})
	return out, nil
}

// GetPool answers one pool and its workers.
func (k *Control) GetPool(_ context.Context, r *rotav1.GetPoolRequest) (out *rotav1.Pool, err error) {
	k.cfg.View.Read(func() { out = k.shown(r.GetName()) })
	if out == nil {
		return nil, noPool(r.GetName())
	}
	return out, nil
}

// ScalePool changes the size of a pool.
func (k *Control) ScalePool(ctx context.Context, r *rotav1.ScalePoolRequest) (*rotav1.Pool, error) {
	if r.GetSize() == nil {
		return nil, convert.FieldStatus("size", "want a size")
	}
	return k.update(ctx, r.GetName(), events.PoolScaled, func(m *storepb.Pool) error {
		if m.GetDeleted() {
			return status.Errorf(codes.FailedPrecondition, "pool %q: it is being deleted", m.GetName())
		}
		d := convert.PoolToProto(fromStore(m))
		d.Size = r.GetSize()
		p, err := convert.PoolFromProto(d)
		if err != nil {
			return convert.Error(err)
		}
		m.From, m.To = int64(p.Size.From), int64(p.Size.To)
		return nil
	})
}

// DeletePool has a pool end: it is gone when its workers are.
func (k *Control) DeletePool(ctx context.Context, r *rotav1.DeletePoolRequest) (*rotav1.Pool, error) {
	return k.update(ctx, r.GetName(), events.PoolDeleted, func(m *storepb.Pool) error {
		m.Deleted = true
		return nil
	})
}

// update changes a pool, tells of it, and answers it as it is then.
func (k *Control) update(ctx context.Context, name, kind string, f func(*storepb.Pool) error) (*rotav1.Pool, error) {
	v, key := k.cfg.View, store.PoolKey(name)
	if err := k.catchUp(ctx); err != nil {
		return nil, err
	}
	for range attempts {
		var next *storepb.Pool
		var shown *rotav1.Pool
		cond := store.Cond{Key: key, By: store.ByMod}
		same := false
		var err error
		v.Read(func() {
			have := v.Pools[name]
			if have == nil {
				err = noPool(name)
				return
			}
			next = proto.CloneOf(have)
			if err = f(next); err == nil {
				cond.Revision, same, shown = v.Mod(key), proto.Equal(have, next), k.shown(name)
			}
		})
		if err != nil || same {
			return shown, err
		}
		value, err := record.Encode(next)
		if err != nil {
			return nil, err
		}
		ok, err := k.txn(ctx, []store.Cond{cond}, []store.Op{{Key: key, Value: value}})
		if err != nil {
			return nil, err
		}
		if ok {
			k.asked(ctx, kind, name, brief(fromStore(next)))
			v.Read(func() {
				if now := k.shown(name); now != nil {
					shown = now
				}
			})
			return shown, nil
		}
	}
	return nil, errBusy
}

// shown is a pool as the API shows it, nil if there is none; the view stands still.
func (k *Control) shown(name string) *rotav1.Pool {
	v := k.cfg.View
	m, state := v.Pools[name], v.PoolStates[name]
	if m == nil {
		return nil
	}
	out := &rotav1.Pool{
		Definition: convert.PoolToProto(fromStore(m)), Desired: state.GetSize(), Error: state.GetError(), Failures: state.GetFailures(),
		ErrorTime: timeOf(state.GetErrorUnixMs()), RetryTime: timeOf(state.GetRetryUnixMs()), Notes: state.GetNotes(),
	}
	if m.GetDeleted() {
		out.Desired = 0
	}
	leaving := int64(0)
	for _, worker := range slices.Sorted(maps.Keys(v.PoolWorkers)) {
		w := v.PoolWorkers[worker]
		if w.GetPool() != name {
			continue
		}
		s := k.workerShown(w)
		out.Workers = append(out.Workers, s)
		switch s.GetState() {
		case workerRunning:
			out.Started++
			out.Joined++
		case workerAsked, workerStarted:
			out.Started++
		default:
			leaving++
		}
	}
	switch retry := state.GetRetryUnixMs(); {
	case m.GetDeleted():
		out.State = poolDeleting
	case state.GetFailures() > 0 && retry > time.Now().UnixMilli():
		out.State = poolFailing
	case out.GetJoined() < max(out.GetDesired(), m.GetFrom()):
		out.State = poolGrowing
	case leaving > 0 || out.GetStarted() > out.GetDesired():
		out.State = poolShrinking
	default:
		out.State = poolReady
	}
	return out
}

func (k *Control) workerShown(w *storepb.PoolWorker) *rotav1.PoolWorker {
	v := k.cfg.View
	out := &rotav1.PoolWorker{
		Name: w.GetName(), State: workerAsked, Handle: w.GetHandle(), Detail: w.GetDetail(), Asked: timeOf(w.GetAskedUnixMs()), Joined: timeOf(w.GetJoinedUnixMs()),
		Ends: timeOf(w.GetEndsUnixMs()), Scheduler: w.GetScheduler(), Why: w.GetWhy(),
	}
	if g := v.Grants[w.GetName()]; g != nil {
		out.Instances = int64(g.Len())
	}
	switch {
	case w.GetStoppingUnixMs() != 0:
		out.State = workerStopping
	case w.GetLeavingUnixMs() != 0:
		out.State = workerLeaving
	case v.Sessions[w.GetName()] != nil:
		out.State = workerRunning
	case w.GetHandle() != "":
		out.State = workerStarted
	}
	return out
}

func timeOf(unixMs int64) *timestamppb.Timestamp {
	if unixMs == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(unixMs))
}
