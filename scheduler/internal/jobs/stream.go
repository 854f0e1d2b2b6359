package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/mailbox"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

const (
	// helloTimeout is how long a connection may say nothing, and how long a
	// worker's session may take to be known here.
	helloTimeout = 10 * time.Second
	// maxCommands bounds what a worker may say of itself.
	maxCommands = 1000
	// refusedWait is how long a job waits that a worker would not take, doubling
	// with each such attempt after another, and refusedMost the most of it.
	refusedWait = 200 * time.Millisecond
	refusedMost = 5 * time.Second
)

// stream is a worker's job stream.
type stream struct {
	worker      string
	incarnation string
	session     int64
	cancel      context.CancelFunc
	gone        <-chan struct{} // closed when it has ended
	out         *mailbox.Box[*rotav1.ToJobWorker]
}

// say queues an order. It never blocks.
func (s *stream) say(m *rotav1.ToJobWorker) { s.out.Put(m) }

// Connect serves a worker's job stream.
func (c *Control) Connect(g grpc.BidiStreamingServer[rotav1.FromJobWorker, rotav1.ToJobWorker]) error {
	ctx, cancel := context.WithCancel(g.Context())
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	silent := time.AfterFunc(helloTimeout, cancel)
	m, err := g.Recv()
	silent.Stop()
	if err != nil {
		return status.Error(codes.DeadlineExceeded, "hello: want it within 10 s")
	}
	h := m.GetHello()
	if err := checkHello(ctx, h); err != nil {
		return err
	}
	s := &stream{
		worker: h.GetName(), incarnation: h.GetIncarnation(), cancel: cancel, gone: ctx.Done(), out: mailbox.Bounded[*rotav1.ToJobWorker](cancel),
	}
	lease, err := c.awaitSession(ctx, s, h)
	if err != nil {
		return err
	}
	s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Welcome{Welcome: &rotav1.JobWelcome{}}})
	// What it runs is counted before it is announced as one that takes jobs: what was
	// given up for lost and runs on takes of its capacity.
	var told []<-chan struct{}
	for _, r := range h.GetHeld() {
		if r.GetState() != string(job.Starting) { // how that ends will be told
			told = append(told, c.report(s, r))
		}
	}
	for _, done := range told {
		select {
		case <-done:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if err := c.announce(ctx, h, s, lease); err != nil {
		return convert.StoreError(err)
	}
	if err := c.attach(s, h.GetHeld()); err != nil {
		return err
	}
	defer c.detach(s)
	received := make(chan error, 1)
	go func() {
		for {
			m, err := g.Recv()
			if err != nil {
				received <- nil
				return
			}
			switch b := m.GetBody().(type) {
			case *rotav1.FromJobWorker_Report:
				c.report(s, b.Report)
			case *rotav1.FromJobWorker_Leaving:
				go c.leave(ctx, s)
			}
		}
	}()
	go func() {
		<-ctx.Done()
		received <- status.Error(codes.Unavailable, "ended here")
	}()
	go func() {
		if s.out.Pump(ctx, nil, g.Send) != nil {
			cancel()
		}
	}()
	return <-received
}

func checkHello(ctx context.Context, h *rotav1.JobHello) error {
	switch {
	case h == nil:
		return status.Error(codes.InvalidArgument, "hello: want it first")
	case h.GetName() == "" || h.GetIncarnation() == "":
		return status.Error(codes.InvalidArgument, "name, incarnation: want both")
	case h.GetSlots() < 0 || h.GetSlots() > 1_000_000 || len(h.GetCommands()) > maxCommands:
		return status.Errorf(codes.InvalidArgument, "slots, commands: want 0 to 1000000 and at most %d", maxCommands)
	}
	return auth.IsWorker(ctx, h.GetName())
}

// awaitSession waits until the worker's session is known here. A hello of an earlier one,
// which may have been on its way, or waiting here, for as long as a lease lasts, is none.
func (c *Control) awaitSession(ctx context.Context, s *stream, h *rotav1.JobHello) (store.LeaseID, error) {
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	for {
		c.mu.Lock()
		have, moved, closed := c.p.sessions[s.worker], c.moved, c.closed
		c.mu.Unlock()
		switch {
		case closed:
			return 0, status.Error(codes.Unavailable, ErrClosed.Error())
		case have != nil && have.GetIncarnation() == s.incarnation && h.GetSession() != 0 && h.GetSession() < have.ID:
			return 0, status.Errorf(codes.Unavailable, "worker %s has another session since it said hello", s.worker)
		case have != nil && have.GetIncarnation() == s.incarnation && h.GetSession() <= have.ID:
			s.session = have.ID
			return store.LeaseID(have.GetLease()), nil
		}
		select {
		case <-moved:
		case <-timer.C:
			return 0, status.Errorf(codes.FailedPrecondition, "worker %s has no session in this incarnation", s.worker)
		case <-ctx.Done():
			return 0, status.FromContextError(ctx.Err()).Err()
		}
	}
}

var errEnded = errors.New("the session has ended")

// announce tells all schedulers that the worker takes jobs. On its return the
// picture is as new as that: an older one could have the worker begin what
// another scheduler has taken back since.
func (c *Control) announce(ctx context.Context, h *rotav1.JobHello, s *stream, lease store.LeaseID) error {
	value, err := record.Encode(&storepb.JobWorker{
		Version: record.Version, Name: h.GetName(), Incarnation: h.GetIncarnation(), Any: h.GetAny(), Commands: h.GetCommands(),
		Slots: h.GetSlots(), Scheduler: c.cfg.Scheduler,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	ok, rev, err := c.cfg.Store.Txn(ctx,
		[]store.Cond{{Key: store.SessionKey(s.worker), By: store.ByCreate, Revision: s.session}},
		[]store.Op{{Key: store.JobWorkerKey(s.worker), Value: value, Lease: lease}})
	switch {
	case err != nil:
		return err
	case !ok:
		return errEnded
	}
	return c.cfg.View.Wait(ctx, rev)
}

// attach makes s the worker's stream, tells it what it should have and does not
// say that it has, and what it should not.
func (c *Control) attach(s *stream, held []*rotav1.JobReport) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return status.Error(codes.Unavailable, ErrClosed.Error())
	}
	if !c.alive(s) {
		return status.Error(codes.Unavailable, errEnded.Error())
	}
	if old := c.streams[s.worker]; old != nil {
		old.cancel()
	}
	c.streams[s.worker] = s
	c.stir()
	has := map[string]rota.Generation{}
	for _, r := range held {
		has[r.GetId()] = max(has[r.GetId()], rota.Generation(r.GetGeneration()))
	}
	for id := range c.p.active[s.worker] {
		e := c.p.entries[id]
		if a, _ := e.job.Current(); has[id] != a.Generation {
			if a.State == job.Running || a.Session != s.session {
				// It runs no more: its end comes with the reports. Or it was for
				// an earlier session, with which it is lost: begun now it would
				// run beside the next attempt.
				continue
			}
			s.start(e)
		}
		if e.job.StopAsked {
			s.stop(e)
		}
	}
	for id, e := range c.p.entries {
		// What was for an earlier session of this very process, and was not begun,
		// need not be lost: the process knows.
		a, ok := e.job.Current()
		if ok && e.specMod != 0 && a.Worker == s.worker && a.Incarnation == s.incarnation && a.Session != s.session &&
			(e.job.State == job.Starting || e.job.State == job.Lost) && a.Unbegun() && has[id] != a.Generation {
			s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Ask{Ask: &rotav1.JobAsk{Id: id, Generation: uint64(a.Generation)}}})
		}
	}
	return nil
}

// leaveWait is how long the word that a worker leaves may take to come here by way
// of the store.
const leaveWait = 3 * time.Second

// leave answers a worker that begins nothing any more, once it has been sent every
// order there will be: those that were placed before its session said that it
// leaves. No placement is good after that.
func (c *Control) leave(ctx context.Context, s *stream) {
	timer := time.NewTimer(leaveWait)
	defer timer.Stop()
	for {
		c.mu.Lock()
		session, moved := c.p.sessions[s.worker], c.moved
		c.mu.Unlock()
		if session == nil || session.ID != s.session || session.GetLeaving() {
			s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Left{Left: &rotav1.JobLeft{}}})
			return
		}
		select {
		case <-moved:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// alive reports whether the session that a stream belongs to still is. c.mu is held.
func (c *Control) alive(s *stream) bool {
	now := c.p.sessions[s.worker]
	return now != nil && now.ID == s.session
}

func (c *Control) detach(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.worker] == s {
		delete(c.streams, s.worker)
	}
	c.stir()
}

func (s *stream) start(e *entry) {
	a, _ := e.job.Current()
	s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Start{Start: &rotav1.JobStart{
		Id: e.job.ID, Generation: uint64(a.Generation), Session: a.Session, Trace: e.job.Trace, Spec: &rotav1.JobWorkSpec{
			Argv: e.spec.Argv, Env: e.spec.Env, Dir: e.spec.Dir, Stdin: e.spec.Stdin, TimeoutMs: e.spec.Timeout.Milliseconds(),
			GraceMs: e.spec.Grace.Milliseconds(), Rerun: e.spec.Rerun, KeepMs: e.spec.Keep.Milliseconds(),
		},
	}}})
}

func (s *stream) stop(e *entry) {
	s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Stop{Stop: &rotav1.JobStop{Id: e.job.ID, Generation: uint64(e.job.Generation())}}})
}

// drive tells the worker of a job what changed for it. c.mu is held.
func (c *Control) drive(id string, old, next *entry) {
	if next == nil {
		told := map[string]bool{}
		for _, a := range old.job.Attempts {
			if s := c.streams[a.Worker]; s != nil && !told[a.Worker] {
				told[a.Worker] = true
				s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Forget{Forget: &rotav1.JobForget{Id: id}}})
			}
		}
		return
	}
	s := c.streams[next.job.Worker()]
	if s == nil || !next.job.State.Active() {
		return
	}
	a, _ := next.job.Current()
	placed := old == nil || old.job.Generation() != a.Generation
	if placed && a.State == job.Starting && a.Session == s.session {
		s.start(next)
	}
	if next.job.StopAsked && (placed || old == nil || !old.job.StopAsked) {
		s.stop(next)
	}
}

// report takes what a worker says of an attempt. What it answers is closed when the
// picture has it and the worker was told.
func (c *Control) report(s *stream, r *rotav1.JobReport) <-chan struct{} {
	g := rota.Generation(r.GetGeneration())
	res := job.Result{
		State: job.State(r.GetState()), ExitCode: int(r.GetExitCode()), Signal: text.Clip(r.GetSignal(), maxErrorText), Error: text.Clip(r.GetError(), maxErrorText),
		Permanent: r.GetPermanent(), Started: here(r.GetStartedUnixUs(), r.GetNowUnixUs()), Ended: here(r.GetEndedUnixUs(), r.GetNowUnixUs()),
	}
	ended := true
	u := &update{id: r.GetId()}
	mine := func(j job.Job) error {
		if j.Worker() != s.worker {
			return fmt.Errorf("%w: it is another worker's", job.ErrStale)
		}
		return nil
	}
	u.change = func(j job.Job, spec job.Spec) (job.Job, error) {
		if err := mine(j); err != nil {
			return j, err
		}
		now := time.Now()
		switch r.GetState() {
		case string(job.Running):
			return j.Begin(s.session, g, res.Started, now)
		case job.ReportRefused:
			return j.Unplace(g, "worker "+s.worker+": "+res.Error, now, afterRefusals(j))
		case job.ReportFenced, string(job.Lost):
			if j.State == job.Lost {
				return j, nil
			}
			return j.Lose(g, spec, "worker "+s.worker+" could not trust its lease", now)
		case job.ReportLeft:
			return j.Leave(g, spec, res, now)
		}
		return j.End(g, spec, res, now)
	}
	if r.GetState() == string(job.Running) {
		ended = false
	}
	c.ask(u)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.settle(s, r, u, ended)
	}()
	return done
}

// afterRefusals is how long a job waits that was refused once more.
func afterRefusals(j job.Job) time.Duration {
	refused := 1 // the last attempt is the one that is refused now
	for n := len(j.Attempts) - 2; n >= 0; n-- {
		if a := j.Attempts[n]; a.State != job.Lost || !a.Result.Started.IsZero() {
			break
		}
		refused++
	}
	return backoff.After(refused, refusedWait, refusedMost)
}

// settle tells the worker what came of its report.
func (c *Control) settle(s *stream, r *rotav1.JobReport, u *update, ended bool) {
	err := c.outcome(u)
	if errors.Is(err, rota.ErrNotFound) || errors.Is(err, job.ErrStale) {
		// The worker may know of a placement that has not come here yet: before
		// it is told to forget the job, the store is asked.
		if err = c.look(c.ctx, u.id); err == nil {
			c.ask(u)
			err = c.outcome(u)
		}
	}
	if c.ctx.Err() != nil {
		return
	}
	kept := &rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Kept{Kept: &rotav1.JobKept{Id: r.GetId(), Generation: r.GetGeneration()}}}
	switch {
	case err == nil && ended, errors.Is(err, job.ErrState) && ended, errors.Is(err, job.ErrStale) && ended:
		s.say(kept)
	case errors.Is(err, rota.ErrNotFound) && ended:
		s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Forget{Forget: &rotav1.JobForget{Id: r.GetId()}}})
	case errors.Is(err, rota.ErrNotFound), errors.Is(err, job.ErrStale), errors.Is(err, job.ErrState):
		// It runs what it should not.
		s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Stop{Stop: &rotav1.JobStop{
			Id: r.GetId(), Generation: r.GetGeneration(), Kill: true,
		}}})
	case err != nil:
		// It is said again with the next hello.
		c.cfg.Logger.Warn("report of a job not kept", "job", r.GetId(), "worker", s.worker, "error", err)
		s.cancel()
	}
}

// outcome waits for what came of an update.
func (c *Control) outcome(u *update) error {
	select {
	case err := <-u.done:
		return err
	case <-c.ctx.Done():
		return ErrClosed
	}
}

// here is a worker's time by this scheduler's clock: as long ago as the worker says
// that it was, by its own. Zero stays zero.
func here(at, workerNow int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	if workerNow != 0 {
		ago := max(0, time.Duration(workerNow-at)*time.Microsecond)
		return time.Now().Add(-ago).Round(0).UTC()
	}
	return fromMicros(at)
}

// maxErrorText is the most of an error that is kept of an attempt.
const maxErrorText = 1000
