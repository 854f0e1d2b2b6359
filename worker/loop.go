package worker

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/internal/version"
	"github.com/rota-project/rota/ownership"
)

const (
	// helloTimeout is how long a connection may take until the scheduler's answer.
	helloTimeout = 2 * time.Second
	// loadEvery is how often measured load is sent.
	loadEvery = 5 * time.Second
	// successorTimeout is how long a leaving worker goes on with available
	// tasks while nobody has taken them over.
	successorTimeout = 10 * time.Second
	// farewellTimeout is how long it waits for the scheduler's goodbye.
	farewellTimeout = 2 * time.Second
	// defaultTTL is assumed of a lease before the first Welcome.
	defaultTTL = 5 * time.Second
)

// loop owns the Holder: only its goroutine touches the fields.
type loop struct {
	w      *Worker
	holder *ownership.Holder
	calls  map[rota.Instance]*call
	orders map[rota.Instance]Assigned // the last grant of each instance held

	doubtful []rota.Instance // may not be held any more
	sweep    bool            // any may not be held any more

	link       *link // the connection, nil while there is none
	session    int64
	lease      int64
	ttl        time.Duration
	seq        uint64
	nextRenew  ownership.Time
	nextLoad   ownership.Time
	heard      ownership.Time // when the scheduler last said anything
	guarded    ownership.Time // what the guard was told of the lease
	aliveSince ownership.Time // since when another of our name is said to be alive
	fullSince  ownership.Time // since when the cluster is said to have its most workers
	leaving    bool
	leaveAfter <-chan struct{} // nil when nothing else runs under the session
	left       bool
	fuse       fuse
	failing    failing
	exclusive  int            // calls of exclusive instances
	leaveBy    ownership.Time // when to stop waiting: for successors, then for the farewell
	fatal      error
	abandoned  bool // what still runs is not waited for
}

func (l *loop) init(w *Worker) {
	l.w, l.fuse.w = w, w
	l.failing = newFailing(w.cfg.Logger)
	l.holder = ownership.NewHolder(ownership.DefaultTrust(defaultTTL))
	l.calls = map[rota.Instance]*call{}
	l.orders = map[rota.Instance]Assigned{}
	l.ttl = defaultTTL
	l.aliveSince, l.fullSince = -1, -1
	l.leaveAfter = w.cfg.LeaveAfter
}

// run is the worker's life.
func (l *loop) run() error {
	w := l.w
	ctx, cancel := context.WithCancel(context.Background())
	connected := make(chan struct{})
	go func() {
		defer close(connected)
		w.connect(ctx)
	}()
	defer func() {
		cancel()
		<-connected
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer l.fuse.stop()
	leave := w.leave
	for {
		l.fuse.at("taking in what happened")
		for _, f := range w.inbox.take() {
			f()
		}
		l.settle()
		l.fuse.at("telling the scheduler")
		l.flush()
		l.watchLease()
		if l.done() {
			return l.fatal
		}
		l.arm(timer)
		l.fuse.at("waiting")
		select {
		case <-w.inbox.signal:
		case <-timer.C:
			l.fuse.at("acting by the clock")
			now := w.now()
			if l.leaving && now >= l.leaveBy && !l.holder.Empty() {
				l.leaveBy = now + farewellTimeout
				l.act(l.holder.Only(nil, now))
			}
			l.act(l.holder.Tick(now))
		case <-leave:
			l.fuse.at("leaving")
			leave = nil
			l.startLeaving()
		case <-l.leaveAfter:
			l.leaveAfter = nil
		}
	}
}

// settle forgets orders of what is no longer held, and says how much is.
func (l *loop) settle() {
	for _, i := range l.doubtful {
		if !l.holder.Holds(i) {
			delete(l.orders, i)
			l.w.logs.Leave(i)
		}
	}
	l.doubtful = l.doubtful[:0]
	if l.sweep {
		l.sweep = false
		maps.DeleteFunc(l.orders, func(i rota.Instance, _ Assigned) bool {
			gone := !l.holder.Holds(i)
			if gone {
				l.w.logs.Leave(i)
			}
			return gone
		})
	}
	l.w.mu.Lock()
	l.w.held = len(l.orders)
	l.w.mu.Unlock()
}

// done reports whether the worker holds nothing and is to end.
func (l *loop) done() bool {
	if l.abandoned {
		return true
	}
	if len(l.calls) > 0 || !l.leaving && l.fatal == nil {
		return false
	}
	// Without a session, and with none being asked for, there is nobody to say
	// farewell to, and without an answer the lease ends by itself.
	return l.fatal != nil || l.left || l.session == 0 && l.link == nil ||
		l.holder.Empty() && l.leaveAfter == nil && l.w.now() >= l.leaveBy
}

// watchLease says once when the lease can no longer be trusted.
func (l *loop) watchLease() {
	l.sayUntil()
	now := l.w.now()
	fenced, _ := l.holder.Fenced(now)
	was, is := l.w.upToDate(), l.holder.Until()-l.ttl*2/5 // trust lasts 9/10 of a lease
	l.w.fresh.Store(int64(is))
	held := l.w.leased.Swap(!fenced)
	if !was && l.w.upToDate() {
		l.w.mu.Lock()
		l.w.wake()
		l.w.mu.Unlock()
	}
	if !held || !fenced {
		return
	}
	l.hurry()
	if l.w.cfg.LeaseEnded != nil {
		l.w.log().Warn("the lease cannot be trusted any more")
		go l.w.cfg.LeaseEnded()
	}
}

// sayUntil tells the guard how long the lease is trusted. It is told before
// anything begins under a lease.
func (l *loop) sayUntil() {
	if until := l.holder.Until(); until != l.guarded {
		l.guarded = until
		l.w.cfg.Guard.Until(l.w.birth.Add(until))
	}
}

// hurry tells the exclusive calls by when they must have returned. What is left
// of the trust is for that to be known here.
func (l *loop) hurry() {
	until := l.holder.Until()
	by := l.w.birth.Add(until - (until-l.w.now())/4)
	for _, c := range l.calls {
		if c.hurry != nil {
			c.hurry <- by
			c.hurry = nil // it has been told
		}
	}
}

// arm sets the timer to the next moment that matters.
func (l *loop) arm(timer *time.Timer) {
	now := l.w.now()
	next := now + time.Hour
	if l.leaving && (!l.holder.Empty() || l.leaveAfter == nil) {
		next = min(next, max(l.leaveBy, now))
	}
	if at, ok := l.holder.Next(now); ok {
		next = min(next, at)
	}
	if l.link != nil && l.link.welcomed {
		next = min(next, l.nextRenew)
	}
	if l.w.leased.Load() {
		_, until := l.holder.Fenced(now)
		next = min(next, until)
	}
	timer.Reset(max(next-now, 0))
	l.fuse.set(l.exclusive, l.holder.Trusted(), l.ttl, now)
}

// flush sends what is due.
func (l *loop) flush() {
	if l.link == nil || !l.link.welcomed {
		return
	}
	now := l.w.now()
	if now >= l.nextRenew {
		if now-l.heard > l.ttl/2 {
			// Nothing came back for long: another scheduler may hear us.
			l.w.log().Warn("scheduler does not answer", "for", now-l.heard)
			l.link.cancel()
			l.detach(l.link)
			return
		}
		l.nextRenew = now + l.ttl/5
		l.seq++
		l.holder.Sent(l.seq, now)
		l.link.send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Renew{Renew: &rotav1.Renew{Seq: l.seq, Machine: l.w.machine()}}})
	}
	if now >= l.nextLoad {
		for items := range slices.Chunk(l.w.loads.take(), chunk) {
			l.nextLoad = now + loadEvery
			l.link.send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Load{Load: &rotav1.Load{Items: items}}})
		}
	}
	sendAcks(l.link, l.holder.Acks())
	if l.leaving && l.holder.Empty() && l.leaveAfter == nil && !l.link.farewell {
		l.link.farewell = true
		l.leaveBy = now + farewellTimeout
		l.link.send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Leave{Leave: &rotav1.Leave{Done: true}}})
	}
}

// chunk bounds the entries of one message: acknowledgements with ids and errors as
// long as they may be take 2.5 MB.
const chunk = 1000

func sendAcks(k *link, all []ownership.Ack) {
	for acks := range slices.Chunk(all, chunk) {
		k.send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Acks{Acks: &rotav1.Acks{Acks: wire(acks)}}})
	}
}

func wire(acks []ownership.Ack) []*rotav1.Ack {
	now := time.Now().UnixMilli()
	out := make([]*rotav1.Ack, len(acks))
	for n, a := range acks {
		out[n] = &rotav1.Ack{
			Task: a.Instance.Task, Index: int64(a.Instance.Index), Generation: uint64(a.Generation),
			State: string(a.State), Error: a.Error, Restarts: a.Restarts, SinceUnixMs: now,
		}
		if a.Exit.Known {
			code := int64(a.Exit.Status)
			out[n].ExitCode = &code
		}
	}
	return out
}

func (l *loop) startLeaving() {
	now := l.w.now()
	l.leaving, l.leaveBy = true, now+successorTimeout
	if l.w.cfg.RestartGrace > 0 {
		l.leaveBy = now // nobody takes anything over: it is to come back
	}
	l.w.mu.Lock()
	l.w.set(StatusLeaving)
	l.w.mu.Unlock()
	l.w.log().Info("leaving", "instances", len(l.calls))
	if l.link != nil && l.link.welcomed {
		l.link.send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Leave{Leave: &rotav1.Leave{}}})
	}
	l.act(l.holder.Leave(now))
	l.sweep = true
}

// attach takes a new connection and says hello on it, and what the worker holds:
// the newest with the hello, by which a scheduler sees that its store went back.
func (l *loop) attach(k *link) {
	now := l.w.now()
	l.link = k
	l.heard = now
	l.seq++
	l.holder.Disconnected()
	l.holder.Sent(l.seq, now)
	held := l.holder.Held(now)
	slices.SortFunc(held, func(a, b ownership.Ack) int { return cmp.Compare(b.Generation, a.Generation) })
	first := min(len(held), chunk)
	k.send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{
		Info: l.info(k), Session: l.session, Lease: l.lease, Held: wire(held[:first]), Seq: l.seq, Machine: l.w.machine(),
	}}})
	sendAcks(k, held[first:])
}

func (l *loop) detach(k *link) {
	if l.link == k {
		l.link = nil
		l.holder.Disconnected()
		l.w.mu.Lock()
		l.w.all = false // nobody would say when it is over
		l.w.mu.Unlock()
	}
}

func (l *loop) info(k *link) *rotav1.WorkerInfo {
	w := l.w
	host, _ := os.Hostname()
	w.mu.Lock()
	defer w.mu.Unlock()
	return &rotav1.WorkerInfo{
		Name: w.cfg.Name, Incarnation: w.cfg.Incarnation, Pid: int64(os.Getpid()), Host: host, Zone: w.cfg.Zone,
		Labels: w.labels(), Kinds: slices.Sorted(maps.Keys(w.handlers)), AnyKind: w.fallback != nil,
		Capacity: w.cfg.Capacity, MaxTasks: int64(w.cfg.MaxTasks), Strength: w.cfg.Strength,
		RestartGraceMs: w.cfg.RestartGrace.Milliseconds(), Version: version.String(), Logs: k.pusher != nil,
	}
}

// receive is told everything that the scheduler says on k.
func (l *loop) receive(k *link, m *rotav1.ToWorker) {
	if l.link != k {
		return // said on a connection that was given up
	}
	now := l.w.now()
	l.heard = now
	switch b := m.GetBody().(type) {
	case *rotav1.ToWorker_Welcome:
		l.welcome(k, b.Welcome, now)
	case *rotav1.ToWorker_Refused:
		l.refused(k, b.Refused, now)
	case *rotav1.ToWorker_Renewed:
		l.act(l.holder.Renewed(b.Renewed.GetSeq(), time.Duration(b.Renewed.GetTtlMs())*time.Millisecond, now))
	case *rotav1.ToWorker_Grants:
		l.grants(b.Grants, now)
	case *rotav1.ToWorker_Cluster:
		l.cluster(b.Cluster)
	case *rotav1.ToWorker_Goodbye:
		l.left = l.left || b.Goodbye.GetLeft()
		l.detach(k)
		k.cancel()
	}
}

func (l *loop) welcome(k *link, m *rotav1.Welcome, now ownership.Time) {
	ttl := time.Duration(m.GetTtlMs()) * time.Millisecond
	if l.session != 0 && l.session != m.GetSession() {
		l.act(l.holder.SessionLost(now))
		l.watchLease() // before there is another
		l.hurry()
		l.sweep = true
	}
	if ttl != l.ttl {
		l.ttl = ttl
		l.holder.SetTrust(ownership.DefaultTrust(ttl))
	}
	if l.session != m.GetSession() {
		l.w.log().Info("session opened", "session", m.GetSession(), "lease", ttl)
	}
	l.session, l.lease = m.GetSession(), m.GetLease()
	l.w.session.Store(l.session)
	l.w.known.set(m.GetSchedulers())
	l.aliveSince, l.fullSince = -1, -1
	l.nextRenew = now + ttl/5
	k.welcomed = true
	k.timeout.Stop()
	l.act(l.holder.Renewed(m.GetSeq(), ttl, now))
	if l.leaving {
		k.send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Leave{Leave: &rotav1.Leave{}}})
	}
	l.w.mu.Lock()
	l.w.err, l.w.joined = nil, true
	if l.w.status == StatusNew {
		l.w.set(StatusRegistered)
	}
	l.w.mu.Unlock()
}

func (l *loop) refused(k *link, m *rotav1.Refused, now ownership.Time) {
	k.pause = time.Duration(m.GetRetryAfterMs()) * time.Millisecond
	switch m.GetCode() {
	case rotav1.Refused_CODE_SESSION_LOST:
		l.w.log().Warn("session lost", "reason", m.GetText())
		l.session, l.lease = 0, 0
		l.act(l.holder.SessionLost(now))
		l.hurry()
		l.sweep = true
		l.w.mu.Lock()
		if l.w.status != StatusLeaving {
			l.w.set(StatusNew)
		}
		l.w.mu.Unlock()
	case rotav1.Refused_CODE_NAME_ALIVE:
		l.wait(&l.aliveSince, l.w.cfg.NameWait, "the name", fmt.Errorf("worker %s: %w: %s", l.w.cfg.Name, rota.ErrNameAlive, m.GetText()), now)
	case rotav1.Refused_CODE_TOO_MANY_WORKERS:
		l.wait(&l.fullSince, l.w.cfg.RoomWait, "room", fmt.Errorf("worker %s: %w: %s", l.w.cfg.Name, rota.ErrTooManyWorkers, m.GetText()), now)
	case rotav1.Refused_CODE_INVALID:
		l.die(fmt.Errorf("worker %s: refused: %s", l.w.cfg.Name, m.GetText()), now)
	default:
		l.w.log().Warn("refused", "reason", m.GetText())
	}
	k.cancel()
	l.detach(k)
}

// wait goes on asking to be let in, at most for so long, if that is not negative;
// meanwhile Err says why it is not.
func (l *loop) wait(since *ownership.Time, most time.Duration, what string, why error, now ownership.Time) {
	if *since < 0 {
		*since = now
		l.w.log().Warn("waiting for "+what, "reason", why, "at_most", most)
	}
	l.w.mu.Lock()
	l.w.err = why
	l.w.mu.Unlock()
	if most >= 0 && now-*since > most {
		l.die(why, now)
	}
}

// die ends the worker with err as soon as nothing runs any more.
func (l *loop) die(err error, now ownership.Time) {
	if l.fatal == nil {
		l.fatal = err
		l.act(l.holder.Only(nil, now))
	}
}

func (l *loop) grants(m *rotav1.Grants, now ownership.Time) {
	orders := make([]ownership.Order, 0, len(m.GetGrant()))
	keep := make(map[rota.Instance]bool, len(m.GetGrant()))
	for _, r := range m.GetRevoke() {
		i := rota.Instance{Task: r.GetTask(), Index: int(r.GetIndex())}
		keep[i] = true // Take says it with the generation
		l.act(l.holder.Take(i, rota.Generation(r.GetGeneration()), now))
		l.doubtful = append(l.doubtful, i)
	}
	for _, g := range m.GetGrant() {
		a, o := assignedOf(g)
		if old, ok := l.orders[o.Instance]; ok && old.Generation() >= o.Generation && l.holder.Holds(o.Instance) {
			keep[o.Instance] = true
			l.update(o.Instance, o.Generation, a.Task, now)
			continue
		}
		o.Anew = l.changes(o.Instance, a)
		a.load = &l.w.loads
		l.orders[o.Instance] = a
		keep[o.Instance] = true
		orders = append(orders, o)
	}
	if m.GetFull() {
		l.act(l.holder.Only(keep, now))
		l.sweep = true
	}
	l.act(l.holder.Give(orders, now))
	for _, u := range m.GetUpdate() {
		l.update(rota.Instance{Task: u.GetTask(), Index: int(u.GetIndex())}, rota.Generation(u.GetGeneration()), rota.Task{
			Group: u.GetGroup(), Key: u.GetKey(), Weight: u.GetWeight(), Priority: u.GetPriority(),
		}, now)
	}
	if l.leaving {
		l.sweep = true // nothing new was taken
	}
}

// changes reports whether a tells an instance that is held to run something else.
func (l *loop) changes(i rota.Instance, a Assigned) bool {
	old, ok := l.orders[i]
	return ok && (old.Task.Kind != a.Task.Kind || !bytes.Equal(old.Task.Payload, a.Task.Payload))
}

func (l *loop) cluster(m *rotav1.ClusterState) {
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all != m.GetAllRunning() {
		w.all = m.GetAllRunning()
		w.wake()
	}
	if w.status != StatusLeaving {
		if m.GetBarrier() {
			w.set(StatusInBarrier)
		} else {
			w.set(StatusLeftBarrier)
		}
	}
}

// act carries out what the holder decided.
func (l *loop) act(actions []ownership.Action) {
	for _, a := range actions {
		switch a.Do {
		case ownership.Start:
			l.start(a.Instance, a.Generation)
		case ownership.Stop:
			if c := l.calls[a.Instance]; c != nil {
				c.cancel(ErrRevoked)
			}
		case ownership.Adopt:
			if c, o := l.calls[a.Instance], l.orders[a.Instance]; c != nil {
				c.assigned.generation.Store(uint64(a.Generation))
				c.assigned.declared.update(o.Task)
				o.generation, o.declared = c.assigned.generation, c.assigned.declared
				l.orders[a.Instance] = o // of later updates the call hears, too
			}
		case ownership.Die:
			l.w.log().Error("task outlives its lease; "+l.w.cfg.exits, "task", a.Instance.String(), "generation", a.Generation)
			// The logger may be nobody's.
			logs.Last("rota: worker %s: task %s outlives its lease; %s", l.w.cfg.Name, a.Instance, l.w.cfg.exits)
			l.w.cfg.Exit(ExitFenced)
			l.abandon(fmt.Errorf("worker %s: %w: %s", l.w.cfg.Name, ErrOutlived, a.Instance))
		}
	}
}

// abandon ends the worker though something still runs: whoever set Exit answers for it.
func (l *loop) abandon(err error) {
	if l.abandoned {
		return
	}
	l.abandoned, l.fatal = true, err
	for _, c := range l.calls {
		c.cancel(ErrRevoked)
	}
}

// start calls the function of an instance in a goroutine of its own.
func (l *loop) start(i rota.Instance, gen rota.Generation) {
	w := l.w
	a := l.orders[i]
	a.Task, _ = a.Current()
	a.generation.Store(uint64(gen))
	ctx, cancel := context.WithCancelCause(w.began(context.Background(), &a))
	if a.begin != (begin{}) {
		o := l.orders[i]
		o.begin = begin{} // the next call under this grant comes after a failure
		l.orders[i] = o
	}
	c := &call{cancel: cancel, release: func() {}}
	if a.Task.Mode != rota.Available {
		l.exclusive++
		hurry := make(chan time.Time, 1)
		a.hurry, c.hurry = hurry, hurry
		l.sayUntil()
		c.release = w.cfg.Guard.Hold()
	}
	run := w.logs.Begin(i, gen)
	a.output = &output{run: run, log: w.cfg.Logger.With("task", i.String(), "generation", uint64(gen))}
	c.assigned = a
	l.calls[i] = c
	w.mu.Lock()
	w.tasks[i] = a
	w.mu.Unlock()
	w.starts.Add(1)
	f := w.handler(a.Task.Kind)
	l.holder.Called(i, w.now())
	go func() {
		var end end
		defer func() { w.inbox.do(func() { l.returned(i, end) }) }()
		defer func() {
			if ctx.Err() == nil {
				end.text = withLast(end.text, run.Last(maxLast))
			}
			run.End()
		}()
		invoke(ctx, f, a, &end)
	}()
}

func (l *loop) returned(i rota.Instance, end end) {
	w := l.w
	c := l.calls[i]
	c.cancel(nil)
	c.release()
	delete(l.calls, i)
	if c.assigned.Task.Mode != rota.Available {
		l.exclusive--
	}
	w.mu.Lock()
	delete(w.tasks, i)
	w.mu.Unlock()
	now := w.now()
	actions := l.holder.Returned(i, end.text, end.exit, now)
	if n, again := l.holder.Failures(i); n > 0 {
		w.failures.Add(1)
		l.failing.note(time.Now(), i, end.text, n, again)
	}
	l.doubtful = append(l.doubtful, i)
	l.act(actions)
}
