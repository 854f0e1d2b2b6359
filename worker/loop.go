package worker

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/logs"
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
		for _, f := range w.inbox.Take() {
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
		case <-w.inbox.Signal():
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
		l.w.log().Warn("the lease can no longer be trusted")
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
		l.link.out.Put(&rotav1.FromWorker{Body: &rotav1.FromWorker_Leave{Leave: &rotav1.Leave{}}})
	}
	l.act(l.holder.Leave(now))
	l.sweep = true
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

// die ends the worker with err as soon as nothing runs any more.
func (l *loop) die(err error, now ownership.Time) {
	if l.fatal == nil {
		l.fatal = err
		l.act(l.holder.Only(nil, now))
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
		defer func() { w.inbox.Put(func() { l.returned(i, end) }) }()
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
