package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// open finds or makes the worker's session in the store. A refusal says why not.
func (c *session) open(ctx context.Context, hello *rotav1.Hello) (*rotav1.ToWorker, error) {
	if err := validate(c.info); err != nil {
		return refuse(rotav1.Refused_CODE_INVALID, err.Error(), 0), nil
	}
	ctx, cancel := timeout(ctx)
	defer cancel()
	v, lost := c.srv.cfg.View, false
	v.Read(func() { lost = c.srv.grantsLost(c.name) })
	if lost {
		return refuse(rotav1.Refused_CODE_UNAVAILABLE, fmt.Sprintf(
			"the store's grants of worker %s cannot be read; the worker gets a new session when its lease has ended", c.name), lostRetry), nil
	}
	c.renewed = time.Now()
	have, kv, at, err := readSession(ctx, c.srv.cfg.Store, c.name)
	if errors.Is(err, errUnread) {
		// Somebody else wrote there. What was there before is written again, if it is known.
		v.Read(func() {
			if s := v.Sessions[c.name]; s != nil && s.ID == kv.Create && s.GetLease() != 0 {
				have, err = s.Session, nil
			}
		})
	}
	if err != nil {
		return nil, err
	}
	for _, h := range hello.GetHeld() {
		if h.GetGeneration() > uint64(at)+1 { // a grant's is at most one more than its revision was
			c.srv.cfg.Logger.Error("the store went back: a worker holds a later grant than the store has given out", "worker", c.name,
				"task", h.GetTask(), "generation", h.GetGeneration(), "revision", at)
			return refuse(rotav1.Refused_CODE_UNAVAILABLE, fmt.Sprintf("%v: the store is at revision %d, and this worker holds generation %d of task %q",
				store.ErrWentBack, at, h.GetGeneration(), h.GetTask()), wentBackRetry), nil
		}
	}
	var rev int64
	switch {
	case have == nil && hello.GetSession() != 0:
		c.fenced()
		return refuse(rotav1.Refused_CODE_SESSION_LOST, "the lease has ended", 0), nil
	case have == nil:
		refusal, r, err := c.create(ctx)
		if refusal != nil || err != nil {
			return refusal, err
		}
		rev = r
		c.srv.cfg.Events.Record(events.Event{
			Kind: events.WorkerJoined, Subject: events.Subject{Worker: c.name},
			Text: fmt.Sprintf("process %d on %s, incarnation %s", c.info.GetPid(), c.info.GetHost(), c.info.GetIncarnation()),
		})
	case have.GetIncarnation() != c.info.GetIncarnation():
		return refuse(rotav1.Refused_CODE_NAME_ALIVE, fmt.Sprintf(
			"worker %s is alive as incarnation %s, process %d on %s; its lease ends at most %s after its death",
			c.name, have.GetIncarnation(), have.GetPid(), have.GetHost(), c.srv.cfg.Lease), nameRetry), nil
	default:
		leaving := have.GetLeaving() || hello.GetLeaving() // before what it says has stopped
		r, err := c.resume(ctx, have, kv, leaving)
		if errors.Is(err, store.ErrLeaseNotFound) {
			c.fenced()
			return refuse(rotav1.Refused_CODE_SESSION_LOST, "the lease has ended", 0), nil
		}
		if err != nil {
			return nil, err
		}
		rev = r
	}
	c.opened, c.mod = rev, rev
	// What this worker was told by another scheduler, and what it said there, must
	// be in the picture.
	if err := c.srv.cfg.View.Wait(ctx, rev); err != nil {
		return nil, err
	}
	c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Welcome{Welcome: &rotav1.Welcome{
		Session: c.id, Lease: int64(c.lease), TtlMs: c.ttl.Milliseconds(), Seq: hello.GetSeq(),
		Schedulers: c.srv.addresses(),
	}}})
	c.srv.acks.add(c, hello.GetHeld())
	return nil, nil
}

// lostRetry is when a worker should ask again whose grants cannot be read.
const lostRetry = 500 * time.Millisecond

// errUnread says that a session's value cannot be read.
var errUnread = errors.New("value cannot be read")

// wentBackRetry is when a worker should ask again whose grants the store does not know.
const wentBackRetry = 5 * time.Second

// nameRetry is when a worker whose name is taken should ask again.
const nameRetry = 500 * time.Millisecond

// roomRetry is when a worker for which there is no room should ask again.
const roomRetry = 500 * time.Millisecond

// create makes a lease and the session's key under it, and writes what is to be
// remembered of the worker should it die.
func (c *session) create(ctx context.Context) (*rotav1.ToWorker, int64, error) {
	st := c.srv.cfg.Store
	var conds []store.Cond
	var ops []store.Op
	if limit := c.srv.cfg.MaxWorkers; limit > 0 {
		// Joining is serialised by a key, so that two cannot be the last one.
		kv, _, _, err := st.Get(ctx, store.JoinKey)
		if err != nil {
			return nil, 0, fmt.Errorf("read %s: %w", store.JoinKey, err)
		}
		living, _, err := st.Range(ctx, store.SessionsPrefix)
		if err != nil {
			return nil, 0, fmt.Errorf("count workers: %w", err)
		}
		if len(living) >= limit {
			return refuse(rotav1.Refused_CODE_TOO_MANY_WORKERS, fmt.Sprintf("at most %d workers", limit), roomRetry), 0, nil
		}
		conds = append(conds, store.Cond{Key: store.JoinKey, By: store.ByMod, Revision: kv.Mod})
		ops = append(ops, store.Op{Key: store.JoinKey, Value: []byte{}})
	}
	lease, ttl, err := st.Grant(ctx, c.srv.cfg.Lease)
	if err != nil {
		return nil, 0, fmt.Errorf("make a lease: %w", err)
	}
	session := c.value(lease, ttl, false)
	value, err := record.Encode(session)
	if err != nil {
		return nil, 0, err
	}
	seen, remember, err := c.remember(session)
	if err != nil {
		return nil, 0, err
	}
	key := store.SessionKey(c.name)
	ok, rev, err := st.Txn(ctx,
		append(conds, store.Cond{Key: key, By: store.ByCreate, Revision: 0}, seen),
		append(append(ops, store.Op{Key: key, Value: value, Lease: lease}), remember...))
	if err == nil && ok {
		c.id, c.lease, c.ttl = rev, lease, ttl
		return nil, rev, nil
	}
	if err != nil {
		// It may have been done, now or later: then the worker finds its session at
		// the next hello. The lease must end by itself, for an end that came late
		// would end a session that the worker has taken up meanwhile.
		return nil, 0, fmt.Errorf("write session: %w", err)
	}
	last, cancel := timeout(context.WithoutCancel(ctx))
	defer cancel()
	_ = st.Revoke(last, lease) // nothing is bound to it
	return refuse(rotav1.Refused_CODE_UNAVAILABLE, "another worker joins", 20*time.Millisecond), 0, nil
}

// remember is what outlives the session: a worker whose tasks are to wait for
// its return is known to any later leader, and what was known of its life before
// is over.
func (c *session) remember(s *storepb.Session) (seen store.Cond, ops []store.Op, err error) {
	key, v := store.NodeKey(c.name), c.srv.cfg.View
	v.Read(func() {
		seen = store.Cond{Key: key, By: store.ByMod, Revision: v.Mod(key)}
		have := v.Nodes[c.name]
		n := &storepb.Node{Version: record.Version, Name: c.name, Cordoned: have.GetCordoned(), Draining: have.GetDraining()}
		if s.GetRestartGraceMs() > 0 {
			n.Last = s
		}
		if have.GetLast() == nil && have.GetLostUnixMs() == 0 && n.GetLast() == nil {
			return
		}
		op := store.Op{Key: key, Delete: n.GetLast() == nil && !n.GetCordoned() && !n.GetDraining()}
		if !op.Delete {
			op.Value, err = record.Encode(n)
		}
		ops = []store.Op{op}
	})
	return seen, ops, err
}

// resume takes the session over from the scheduler that had it; have may be the view's.
func (c *session) resume(ctx context.Context, have *storepb.Session, kv store.KV, leaving bool) (int64, error) {
	st := c.srv.cfg.Store
	lease := store.LeaseID(have.GetLease())
	ttl, err := st.KeepAlive(ctx, lease)
	if err != nil {
		return 0, err
	}
	value, err := record.Encode(c.value(lease, ttl, leaving))
	if err != nil {
		return 0, err
	}
	ok, rev, err := st.Txn(ctx,
		[]store.Cond{{Key: kv.Key, By: store.ByMod, Revision: kv.Mod}},
		[]store.Op{{Key: kv.Key, Value: value, Lease: lease}})
	switch {
	case err != nil:
		return 0, fmt.Errorf("take over session: %w", err)
	case !ok:
		return 0, errors.New("take over session: another writer changed it")
	}
	c.id, c.lease, c.ttl = kv.Create, lease, ttl
	return rev, nil
}

func (c *session) value(lease store.LeaseID, ttl time.Duration, leaving bool) *storepb.Session {
	i := c.info
	return &storepb.Session{
		Version: record.Version, Name: i.GetName(), Incarnation: i.GetIncarnation(), Pid: i.GetPid(), Host: i.GetHost(),
		Zone: i.GetZone(), Labels: i.GetLabels(), Kinds: i.GetKinds(), AnyKind: i.GetAnyKind(), Capacity: i.GetCapacity(),
		MaxTasks: i.GetMaxTasks(), Strength: i.GetStrength(), RestartGraceMs: i.GetRestartGraceMs(), Build: i.GetVersion(),
		Scheduler: c.srv.cfg.Scheduler, Lease: int64(lease), TtlMs: ttl.Milliseconds(), Leaving: leaving, Logs: i.GetLogs(),
	}
}

// readSession reads a worker's session, nil if there is none, and the store's revision.
// What nobody who holds sessions can have written is an error that is errUnread.
func readSession(ctx context.Context, st store.Store, worker string) (*storepb.Session, store.KV, int64, error) {
	kv, ok, rev, err := st.Get(ctx, store.SessionKey(worker))
	if err != nil {
		return nil, kv, 0, fmt.Errorf("read session: %w", err)
	}
	if !ok {
		return nil, kv, rev, nil
	}
	m := &storepb.Session{}
	if err := record.DecodeLeased(kv, m); err != nil {
		return nil, kv, rev, fmt.Errorf("key %s: %w: %w", kv.Key, errUnread, err)
	}
	return m, kv, rev, nil
}

// validate checks what a worker says of itself.
func validate(i *rotav1.WorkerInfo) error {
	if i.GetIncarnation() == "" || len(i.GetIncarnation()) > rota.MaxIDLen {
		return &rota.FieldError{Field: "incarnation", Value: i.GetIncarnation(), Want: "a name that is new at each start"}
	}
	if i.GetRestartGraceMs() < 0 {
		return &rota.FieldError{Field: "restart_grace_ms", Value: i.GetRestartGraceMs(), Want: "zero or more"}
	}
	return rota.Worker{
		Name: i.GetName(), Zone: i.GetZone(), Labels: i.GetLabels(), Kinds: i.GetKinds(), Capacity: i.GetCapacity(),
		MaxTasks: int(i.GetMaxTasks()), Strength: i.GetStrength(),
	}.Validate()
}
