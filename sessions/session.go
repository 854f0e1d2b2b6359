package sessions

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/store/table"
	"github.com/rota-project/rota/view"
)

// session is one worker's connection and the lease behind it.
type session struct {
	srv    *Server
	info   *rotav1.WorkerInfo
	name   string
	id     int64 // the session's key's revision of creation
	lease  store.LeaseID
	ttl    time.Duration
	opened int64 // the revision that made this connection the worker's
	cancel context.CancelFunc

	ended   chan struct{}
	endOnce sync.Once

	rewriting chan struct{} // has room for one: who writes the session's key

	spoke atomic.Bool // the worker has said something on this connection since it was welcomed

	mu       sync.Mutex
	renewSeq uint64    // the latest asked for
	renewing bool      // a renewal is under way; it looks again when it is done
	mod      int64     // the revision that wrote the session's key last, on this connection
	writing  bool      // a write of that key is under way
	seen     int64     // the latest revision of it that was seen meanwhile
	renewed  time.Time // when the last confirmed renewal was asked of the store
	queue    []*rotav1.ToWorker
	signal   chan struct{}
}

// maxQueue is how many messages may wait for a worker that does not read; then
// its connection is cut, and it is sent everything anew when it comes back.
const maxQueue = 10_000

func newSession(s *Server, info *rotav1.WorkerInfo, cancel context.CancelFunc) *session {
	return &session{
		srv: s, info: info, name: info.GetName(), cancel: cancel,
		ended: make(chan struct{}), signal: make(chan struct{}, 1), rewriting: make(chan struct{}, 1),
	}
}

// end asks the connection to end after what is queued has been sent.
func (c *session) end() { c.endOnce.Do(func() { close(c.ended) }) }

// say queues a message. It never blocks.
func (c *session) say(m *rotav1.ToWorker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) >= maxQueue {
		c.cancel()
		return
	}
	c.queue = append(c.queue, m)
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// pump sends what is queued until the connection or the session ends.
func (c *session) pump(ctx context.Context, stream Stream) {
	for {
		select {
		case <-c.signal:
		case <-c.ended:
			c.drain(stream)
			return
		case <-ctx.Done():
			return
		}
		if !c.drain(stream) {
			return
		}
	}
}

func (c *session) drain(stream Stream) bool {
	c.mu.Lock()
	q := c.queue
	c.queue = nil
	c.mu.Unlock()
	for _, m := range q {
		if stream.Send(m) != nil {
			c.cancel()
			return false
		}
	}
	return true
}

// open finds or makes the worker's session in the store. A refusal says why not.
func (c *session) open(ctx context.Context, hello *rotav1.Hello) (*rotav1.ToWorker, error) {
	if err := validate(c.info); err != nil {
		return refuse(rotav1.Refused_CODE_INVALID, err.Error(), 0), nil
	}
	ctx, cancel := timeout(ctx)
	defer cancel()
	c.renewed = time.Now()
	have, kv, at, err := readSession(ctx, c.srv.cfg.Store, c.name)
	if err != nil {
		return nil, err
	}
	for _, h := range hello.GetHeld() {
		if h.GetGeneration() > uint64(at)+1 { // a grant's is at most one more than its revision was
			c.srv.cfg.Logger.Error("the store went back: a worker holds what it has not given out yet", "worker", c.name,
				"task", h.GetTask(), "generation", h.GetGeneration(), "revision", at)
			return refuse(rotav1.Refused_CODE_UNAVAILABLE, fmt.Sprintf("%v: it is at %d, and this worker holds generation %d of task %q",
				store.ErrWentBack, at, h.GetGeneration(), h.GetTask()), wentBackRetry), nil
		}
	}
	var rev int64
	switch {
	case have == nil && hello.GetSession() != 0:
		return refuse(rotav1.Refused_CODE_SESSION_LOST, "the lease has ended", 0), nil
	case have == nil:
		refusal, r, err := c.create(ctx)
		if refusal != nil || err != nil {
			return refusal, err
		}
		rev = r
	case have.GetIncarnation() != c.info.GetIncarnation():
		return refuse(rotav1.Refused_CODE_NAME_ALIVE, fmt.Sprintf(
			"worker %s is alive as incarnation %s, process %d on %s; its lease ends %s after its death at the latest",
			c.name, have.GetIncarnation(), have.GetPid(), have.GetHost(), c.srv.cfg.Lease), nameRetry), nil
	default:
		r, err := c.resume(ctx, have, kv)
		if errors.Is(err, store.ErrLeaseNotFound) {
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

// wentBackRetry is when a worker should ask again whose grants the store does not know.
const wentBackRetry = 5 * time.Second

// nameRetry is when a worker whose name is taken should ask again.
const nameRetry = 500 * time.Millisecond

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
			return refuse(rotav1.Refused_CODE_TOO_MANY_WORKERS, fmt.Sprintf("at most %d workers", limit), 0), 0, nil
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

// resume takes the session over from the scheduler that had it.
func (c *session) resume(ctx context.Context, have *storepb.Session, kv store.KV) (int64, error) {
	st := c.srv.cfg.Store
	lease := store.LeaseID(have.GetLease())
	ttl, err := st.KeepAlive(ctx, lease)
	if err != nil {
		return 0, err
	}
	value, err := record.Encode(c.value(lease, ttl, have.GetLeaving()))
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
		return 0, errors.New("take over session: somebody else writes it")
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
		Scheduler: c.srv.cfg.Scheduler, Lease: int64(lease), TtlMs: ttl.Milliseconds(), Leaving: leaving,
	}
}

// readSession reads a worker's session, nil if there is none, and the store's revision.
func readSession(ctx context.Context, st store.Store, worker string) (*storepb.Session, store.KV, int64, error) {
	kv, ok, rev, err := st.Get(ctx, store.SessionKey(worker))
	if err != nil {
		return nil, kv, 0, fmt.Errorf("read session: %w", err)
	}
	if !ok {
		return nil, kv, rev, nil
	}
	m := &storepb.Session{}
	if err := record.Decode(kv.Value, m); err != nil {
		return nil, kv, rev, fmt.Errorf("session of %s: %w", worker, err)
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

// receive handles what the worker says; done ends the connection.
func (c *session) receive(ctx context.Context, m *rotav1.FromWorker) (done bool) {
	c.spoke.Store(true)
	switch b := m.GetBody().(type) {
	case *rotav1.FromWorker_Renew:
		c.mu.Lock()
		c.renewSeq = max(c.renewSeq, b.Renew.GetSeq())
		begin := !c.renewing
		c.renewing = true
		c.mu.Unlock()
		if begin {
			// Beside the loop, so that nothing else the worker says waits for the store.
			c.srv.streams.Go(func() { c.renew(ctx) })
		}
	case *rotav1.FromWorker_Acks:
		c.srv.acks.add(c, b.Acks.GetAcks())
	case *rotav1.FromWorker_Load:
		c.srv.acks.load(c, b.Load.GetItems())
	case *rotav1.FromWorker_Leave:
		if b.Leave.GetDone() {
			return c.farewell(ctx)
		}
		if err := c.leave(ctx); err != nil {
			c.srv.cfg.Logger.Warn("leave not written", "worker", c.name, "error", err)
			return true // the worker asks again at its next connection
		}
	default:
		c.srv.cfg.Logger.Warn("unexpected message", "worker", c.name)
		return true
	}
	return false
}

// renew renews the lease for the latest renewal that was asked for, until none is
// left. One whose outcome is unknown is not tried again: the worker asks for more.
func (c *session) renew(ctx context.Context) {
	for tried := uint64(0); ; {
		c.mu.Lock()
		seq := c.renewSeq
		if seq <= tried || ctx.Err() != nil {
			c.renewing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		tried = seq
		one, cancel := context.WithTimeout(ctx, c.ttl)
		asked := time.Now()
		ttl, err := c.srv.cfg.Store.KeepAlive(one, c.lease)
		cancel()
		switch {
		case errors.Is(err, store.ErrLeaseNotFound):
			c.say(refuse(rotav1.Refused_CODE_SESSION_LOST, "the lease has ended", 0))
			c.end()
			return
		case err != nil:
			continue // not confirmed: the worker's trust runs on as it was
		}
		c.mu.Lock()
		c.renewed = asked // before the worker is told: bury counts from here
		c.mu.Unlock()
		c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Renewed{Renewed: &rotav1.Renewed{Seq: seq, TtlMs: ttl.Milliseconds()}}})
	}
}

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
	for {
		c.mu.Lock()
		left := time.Until(c.renewed.Add(c.ttl))
		c.mu.Unlock()
		if left <= 0 {
			break
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-c.srv.opening.Done():
			timer.Stop()
			return
		}
	}
	v, mine := c.srv.cfg.View, false
	v.Read(func() {
		now := v.Sessions[c.name]
		mine = now != nil && now.ID == c.id && now.Mod == c.written()
	})
	if !mine || !c.spoke.Load() || time.Since(v.AsOf()) > buryFresh {
		return
	}
	ctx, cancel := timeout(c.srv.opening)
	defer cancel()
	// Whoever has taken the session over wrote its key.
	ok, _, err := c.srv.cfg.Store.Txn(ctx,
		[]store.Cond{{Key: store.SessionKey(c.name), By: store.ByMod, Revision: c.written()}},
		[]store.Op{{Key: store.SessionKey(c.name), Delete: true}})
	if err != nil || !ok {
		return // the lease ends by itself
	}
	c.srv.cfg.Logger.Info("worker is not heard of any more", "worker", c.name, "incarnation", c.info.GetIncarnation(), "lease", c.ttl)
	_ = c.srv.cfg.Store.Revoke(ctx, c.lease) // what it said goes, too
}

// leave writes down that the worker wants to go.
func (c *session) leave(ctx context.Context) error {
	return c.rewrite(ctx, true)
}

// settle writes the session's key anew, after which no write of this connection
// that is still under way can land, and waits until the view has all that did.
func (c *session) settle(ctx context.Context) error {
	if err := c.rewrite(ctx, false); err != nil {
		return err
	}
	return c.srv.cfg.View.Wait(ctx, c.written())
}

// errOvertaken says that the session is another connection's now, or over.
var errOvertaken = errors.New("somebody else writes the session")

// rewrite writes the session's key anew, as leaving if the worker asked for it.
func (c *session) rewrite(ctx context.Context, leaving bool) error {
	ctx, cancel := timeout(ctx)
	defer cancel()
	select {
	case c.rewriting <- struct{}{}:
		defer func() { <-c.rewriting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	have, kv, _, err := readSession(ctx, c.srv.cfg.Store, c.name)
	switch {
	case err != nil:
		return err
	case have == nil || kv.Create != c.id:
		return errOvertaken
	case leaving && have.GetLeaving():
		return nil
	}
	have.Leaving = have.GetLeaving() || leaving
	value, err := record.Encode(have)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.writing = true
	c.mu.Unlock()
	ok, rev, err := c.srv.cfg.Store.Txn(ctx,
		[]store.Cond{{Key: kv.Key, By: store.ByMod, Revision: c.written()}},
		[]store.Op{{Key: kv.Key, Value: value, Lease: kv.Lease}})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	if err == nil && ok {
		c.mod = max(c.mod, rev)
	}
	if c.seen > c.mod {
		c.end() // overtaken, or this very write, of which nobody knows for sure
	}
	switch {
	case err != nil:
		return err
	case !ok:
		return errOvertaken
	}
	return nil
}

// overtaken reports whether another connection has taken the session over. The
// worker may not know of it: its hello of long ago was answered late. It is to
// connect anew, for what it says here is not written down any more. While this
// connection writes the session's key itself, rewrite finds it out.
func (c *session) overtaken(now *view.Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now == nil || now.ID != c.id || now.Mod <= c.mod {
		return false
	}
	if c.writing {
		c.seen = now.Mod
		return false
	}
	return true
}

// written is the revision at which this connection wrote the session's key last.
func (c *session) written() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mod
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

// sendAll sends everything that the worker holds; it runs inside View.Read.
func (c *session) sendAll(v *view.View) {
	g := &rotav1.Grants{Full: true}
	if t := v.Grants[c.name]; t != nil {
		for r := range t.All() {
			c.add(v, g, r)
		}
	}
	c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: g}})
	c.say(clusterState(v))
}

// sendChanges sends what changed; it runs while the view stands still.
func (c *session) sendChanges(v *view.View, changes []table.Change[record.Grant]) {
	g := &rotav1.Grants{}
	for _, ch := range changes {
		switch {
		case ch.New != nil:
			c.add(v, g, ch.New)
		case !ch.Old.Revoked:
			g.Revoke = append(g.Revoke, revoke(ch.Old))
		}
	}
	if len(g.GetGrant())+len(g.GetRevoke()) > 0 {
		c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: g}})
	}
}

// add puts one grant into a message. Grants of an earlier session are only
// good for tasks that go on without a lease.
func (c *session) add(v *view.View, g *rotav1.Grants, r *record.Grant) {
	t, ok := v.Tasks.Get(r.Instance.Task)
	switch {
	case r.Revoked, !ok, c.stopped(v, r):
		g.Revoke = append(g.Revoke, revoke(r))
	case r.Session != c.id && t.Mode != rota.Available, r.Spec != record.Spec(t):
		// The leader replaces it by one for this session and this spec.
	default:
		g.Grant = append(g.Grant, &rotav1.GrantItem{
			Task: &rotav1.TaskSpec{
				Id: t.ID, Kind: t.Kind, Group: t.Group, Key: t.Key, Weight: t.Weight, Priority: t.Priority,
				Payload: t.Payload, Mode: string(t.Mode),
			},
			Index: int64(r.Instance.Index), Generation: uint64(r.Generation),
		})
	}
}

// stopped reports whether the worker has said that it will not run r any more.
// It may have forgotten, and must not be asked to start it again: the leader is
// about to give it to somebody else.
func (c *session) stopped(v *view.View, r *record.Grant) bool {
	a, ok := v.Ack(c.name, r.Instance)
	return ok && a.Generation == r.Generation && a.State == ownership.Stopped
}

func revoke(r *record.Grant) *rotav1.RevokeItem {
	return &rotav1.RevokeItem{Task: r.Instance.Task, Index: int64(r.Instance.Index), Generation: uint64(r.Generation)}
}

func ackOf(a *rotav1.Ack) ownership.Ack {
	return ownership.Ack{
		Instance:   rota.Instance{Task: a.GetTask(), Index: int(a.GetIndex())},
		Generation: rota.Generation(a.GetGeneration()), State: ownership.State(a.GetState()),
		Error: a.GetError(), Restarts: a.GetRestarts(),
	}
}

// addresses are where all schedulers listen.
func (s *Server) addresses() []string {
	var out []string
	s.cfg.View.Read(func() {
		for _, sc := range s.cfg.View.Schedulers {
			if sc.GetGrpc() != "" {
				out = append(out, sc.GetGrpc())
			}
		}
	})
	return out
}
