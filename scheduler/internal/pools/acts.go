package pools

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/fleet"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// acts carry out what was decided about one pool.
type acts struct {
	*loop
	picture *picture
	pool    *pool
	copies  map[string][]engine.Copy
	now     time.Time
	memory  fleet.Memory
}

// suffix is the last part of a worker's name, which no other has.
func suffix() string { return strings.ToLower(rand.Text()[:10]) }

func (a *acts) do(ctx context.Context, act fleet.Action) error {
	w := a.picture.workers[act.Member]
	log := a.k.cfg.Logger.With("pool", a.pool.Name, "engine", a.name, "worker", act.Member)
	switch act.Kind {
	case fleet.Start:
		return a.start(ctx)
	case fleet.Adopt:
		return a.change(ctx, w, func(m *storepb.PoolWorker) { m.Handle = act.Handle })
	case fleet.Drain:
		log.Info("drain a worker of a pool", "why", act.Why)
		return a.change(ctx, w, func(m *storepb.PoolWorker) { m.LeavingUnixMs, m.Why = a.now.UnixMilli(), act.Why })
	case fleet.Stop:
		log.Info("stop a worker of a pool", "handle", act.Handle, "why", act.Why)
		err := a.change(ctx, w, func(m *storepb.PoolWorker) {
			m.StoppingUnixMs = a.now.UnixMilli()
			if m.GetWhy() == "" {
				m.Why = act.Why
			}
		})
		if err != nil || act.Handle == "" || engine.Here(a.name) && w.GetScheduler() != a.k.cfg.Scheduler {
			return err
		}
		return a.stop(ctx, act.Handle)
	case fleet.Kill:
		log.Warn("stop a copy of a worker", "handle", act.Handle, "why", act.Why)
		return a.stop(ctx, act.Handle)
	case fleet.Forget:
		log.Info("worker of a pool gone", "why", act.Why)
		ok, err := a.k.txn(ctx, []store.Cond{
			term(a.picture.epoch), {Key: store.PoolWorkerKey(act.Member), By: store.ByMod, Revision: w.mod}, {Key: store.SessionKey(act.Member), By: store.ByCreate},
		}, []store.Op{{Key: store.PoolWorkerKey(act.Member), Delete: true}, {Key: store.NodeKey(act.Member), Delete: true}})
		if ok {
			a.k.tell(events.PoolEnded, a.pool.Name, act.Member, ending(w, act.Why))
		}
		return err
	}
	return fmt.Errorf("no such action: %v", act.Kind)
}

// follow carries on what takes several steps: drains that have not begun, and how the
// engine has each worker.
func (a *acts) follow(ctx context.Context) {
	for name, w := range a.picture.workers {
		if w.GetPool() != a.pool.Name {
			continue
		}
		if w.GetLeavingUnixMs() != 0 && w.alive && !w.draining {
			if err := a.k.cfg.Drain(ctx, name); err != nil && status.Code(err) != codes.NotFound && ctx.Err() == nil {
				a.k.cfg.Logger.Warn("worker not drained", "worker", name, "error", err)
			}
		}
		list := a.copies[name]
		at := slices.IndexFunc(list, func(c engine.Copy) bool { return c.Handle == w.GetHandle() && c.Cluster == a.picture.cluster })
		if at < 0 {
			continue
		}
		c := list[at]
		ends := int64(0)
		if !c.Ends.IsZero() {
			ends = c.Ends.UnixMilli()
		}
		if w.GetState() == string(c.State) && w.GetDetail() == c.Detail && w.GetEndsUnixMs() == ends {
			continue
		}
		// For people: one that has changed meanwhile is told of next time.
		_ = a.write(ctx, w, func(m *storepb.PoolWorker) { m.State, m.Detail, m.EndsUnixMs = string(c.State), c.Detail, ends })
	}
}

// errOvertaken says that somebody else wrote the same record.
var errOvertaken = errors.New("another writer changed it; trying again")

// change writes the record of a worker.
func (a *acts) change(ctx context.Context, w *worker, f func(*storepb.PoolWorker)) error {
	return a.write(ctx, w, f)
}

func (a *acts) write(ctx context.Context, w *worker, f func(*storepb.PoolWorker)) error {
	next := proto.CloneOf(w.PoolWorker)
	f(next)
	value, err := record.Encode(next)
	if err != nil {
		return err
	}
	ok, err := a.k.txn(ctx, []store.Cond{term(a.picture.epoch), {Key: store.PoolWorkerKey(w.GetName()), By: store.ByMod, Revision: w.mod}},
		[]store.Op{{Key: store.PoolWorkerKey(w.GetName()), Value: value}})
	if err == nil && !ok {
		err = fmt.Errorf("worker %s: %w", w.GetName(), errOvertaken)
	}
	if err != nil {
		return err
	}
	v := a.k.cfg.View
	v.Read(func() { w.PoolWorker, w.mod = next, v.Mod(store.PoolWorkerKey(w.GetName())) })
	return nil
}

// start writes down that a worker is to start, and has the engine start it.
func (a *acts) start(ctx context.Context) error {
	if a.memory.RetryAt > moment(a.now) {
		return nil // one of the same step has failed
	}
	ca := ""
	if a.k.cfg.CA != nil {
		pem, err := a.k.cfg.CA()
		if err != nil {
			return err
		}
		ca = string(pem)
	}
	name := engine.WorkerName(a.pool.Name, suffix())
	token := auth.NewJoinToken(name, ca)
	if n := len(token.Text()); n > auth.MaxJoinToken {
		a.failed(fmt.Sprintf("the certificates in --tls-ca make a join token of %d bytes, more than the limit of %d: use a file that holds only the schedulers' authority", n, auth.MaxJoinToken))
		return nil
	}
	hash := token.Hash()
	w := &worker{PoolWorker: &storepb.PoolWorker{
		Version: record.Version, Name: name, Pool: a.pool.Name, Engine: a.name, Template: a.pool.record.GetTemplate(),
		AskedUnixMs: a.now.UnixMilli(), TokenHash: hash[:], TokenEndsUnixMs: a.now.Add(a.pool.StartTimeout).UnixMilli(),
	}}
	if engine.Here(a.name) {
		w.Scheduler = a.k.cfg.Scheduler
	}
	value, err := record.Encode(w.PoolWorker)
	if err != nil {
		return err
	}
	key := store.PoolWorkerKey(name)
	ok, err := a.k.txn(ctx, []store.Cond{
		term(a.picture.epoch), {Key: store.PoolKey(a.pool.Name), By: store.ByMod, Revision: a.pool.mod}, {Key: key, By: store.ByCreate},
	}, []store.Op{{Key: key, Value: value}})
	if err != nil || !ok {
		return err
	}
	a.k.cfg.View.Read(func() { w.mod = a.k.cfg.View.Mod(key) })
	one, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	handle, err := a.engine.Start(one, engine.Order{
		Cluster: a.picture.cluster, Pool: a.pool.Name, Worker: name, Argv: a.pool.Template.Command, Options: a.pool.Options,
		Token: token.Text().Reveal(), Env: a.environ(name),
	})
	log := a.k.cfg.Logger.With("pool", a.pool.Name, "engine", a.name, "worker", name)
	switch {
	case err == nil:
		log.Info("worker of a pool started", "handle", handle)
		a.k.tell(events.PoolStarted, a.pool.Name, name, fmt.Sprintf("the engine %s calls it %s", a.name, handle))
		a.picture.workers[name] = w
		if err := a.write(ctx, w, func(m *storepb.PoolWorker) { m.Handle = handle }); !errors.Is(err, errOvertaken) {
			return err
		}
		return nil // it has joined already; the engine's list has its handle
	case errors.Is(err, engine.ErrUnsure), one.Err() != nil:
		log.Warn("the start of a worker is not confirmed", "error", err)
		a.failed(fmt.Sprintf("it is unknown whether the engine %s has started %s: %v", a.name, name, err))
		return nil
	}
	log.Warn("worker of a pool not started", "error", err)
	a.failed(err.Error())
	_, err = a.k.txn(ctx, []store.Cond{{Key: key, By: store.ByMod, Revision: w.mod}}, []store.Op{{Key: key, Delete: true}})
	return err
}

// failed remembers that a start has failed, and tells of it.
func (a *acts) failed(text string) {
	a.memory = a.memory.Failed(moment(a.now), text)
	a.k.tell(events.PoolFailed, a.pool.Name, "", text)
}

// ending says how a worker came to its end: why it was to go, if it was, and what is
// seen of it.
func ending(w *worker, seen string) string {
	if w.GetWhy() == "" {
		return seen
	}
	return w.GetWhy() + "; " + seen
}

// environ are the variables of a worker: those by which it is what the template says, and
// before them what the scheduler gives to all.
func (a *acts) environ(name string) map[string]string {
	env := map[string]string{}
	if a.k.cfg.Environ != nil {
		maps.Copy(env, a.k.cfg.Environ(a.name))
	}
	maps.Copy(env, environ(name, a.picture.schedulers, a.pool.Template))
	return env
}

// environ are the variables by which a worker is what the template says.
func environ(name string, schedulers []string, t engine.Template) map[string]string {
	env := map[string]string{"ROTA_NAME": name, "ROTA_SCHEDULERS": strings.Join(schedulers, ",")}
	set := func(name, value string) {
		if value != "" {
			env[name] = value
		}
	}
	set("ROTA_ZONE", t.Zone)
	set("ROTA_LABELS", pairs(t.Labels, func(s string) string { return s }))
	set("ROTA_KINDS", strings.Join(t.Kinds, ","))
	set("ROTA_CAPACITY", pairs(t.Capacity, decimal))
	if t.MaxTasks > 0 {
		env["ROTA_MAX_TASKS"] = strconv.Itoa(t.MaxTasks)
	}
	if t.Strength > 0 {
		env["ROTA_STRENGTH"] = decimal(t.Strength)
	}
	return env
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func pairs[V any](m map[string]V, text func(V) string) string {
	list := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+text(m[k]))
	}
	return strings.Join(list, ",")
}
