package jobs

import (
	"cmp"
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
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
)

const (
	// maxCommands bounds what a worker may say of itself.
	maxCommands = 1000
	// refusedWait is how long a job waits that a worker would not take, doubling
	// with each such attempt after another, and refusedMost the most of it.
	refusedWait = 200 * time.Millisecond
	refusedMost = 5 * time.Second
)

// stream is a worker's job stream.
type stream = kind.Stream[rotav1.ToJobWorker]

// host is what jobs do with their streams.
type host struct{ c *Control }

// Connect serves a worker's job stream.
func (c *Control) Connect(g grpc.BidiStreamingServer[rotav1.FromJobWorker, rotav1.ToJobWorker]) error {
	return c.streams.Serve(g, host{c})
}

// Hello checks what a worker says of itself.
func (host) Hello(ctx context.Context, m *rotav1.FromJobWorker) (kind.Hello, error) {
	h := m.GetHello()
	return kind.Hello{Name: h.GetName(), Incarnation: h.GetIncarnation(), Session: h.GetSession()}, checkHello(ctx, h)
}

// Open counts what a worker runs before it is announced as one that takes jobs: what was
// given up for lost and runs on takes of its capacity.
func (o host) Open(ctx context.Context, s *stream, m *rotav1.FromJobWorker) (view.Taker, error) {
	h := m.GetHello()
	s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Welcome{Welcome: &rotav1.JobWelcome{}}})
	var told []<-chan struct{}
	for _, r := range h.GetHeld() {
		if r.GetState() != string(job.Starting) { // how that ends will be told
			told = append(told, o.c.report(s, r))
		}
	}
	for _, done := range told {
		select {
		case <-done:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	return &storepb.JobWorker{
		Version: record.Version, Name: h.GetName(), Incarnation: h.GetIncarnation(), Any: h.GetAny(), Commands: h.GetCommands(),
		Slots: h.GetSlots(), Scheduler: o.c.cfg.Scheduler, Templates: templatesOf(h),
	}, nil
}

// Take takes what a worker says.
func (o host) Take(ctx context.Context, s *stream, m *rotav1.FromJobWorker) {
	switch b := m.GetBody().(type) {
	case *rotav1.FromJobWorker_Report:
		o.c.report(s, b.Report)
	case *rotav1.FromJobWorker_Leaving:
		go o.c.streams.Left(ctx, s, func() { s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Left{Left: &rotav1.JobLeft{}}}) })
	}
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

// Join makes s the worker's stream, tells it what it should have and does not say that
// it has, and what it should not.
func (o host) Join(s *stream, m *rotav1.FromJobWorker) error {
	c, held := o.c, m.GetHello().GetHeld()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.streams.Put(s); err != nil {
		return err
	}
	has := map[string]rota.Generation{}
	for _, r := range held {
		has[r.GetId()] = max(has[r.GetId()], rota.Generation(r.GetGeneration()))
	}
	for id := range c.p.active[s.Worker] {
		e := c.p.entries[id]
		if a, _ := e.job.Current(); has[id] != a.Generation {
			if a.State == job.Running || a.Session != s.Session {
				// It runs no more: its end comes with the reports. Or it was for
				// an earlier session, with which it is lost: begun now it would
				// run beside the next attempt.
				continue
			}
			start(s, e)
		}
		if e.job.StopAsked {
			stop(s, e)
		}
	}
	for id, e := range c.p.entries {
		// What was for an earlier session of this very process, and was not begun,
		// need not be lost: the process knows.
		a, ok := e.job.Current()
		if ok && e.specMod != 0 && a.Worker == s.Worker && a.Incarnation == s.Incarnation && a.Session != s.Session &&
			(e.job.State == job.Starting || e.job.State == job.Lost) && a.Unbegun() && has[id] != a.Generation {
			s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Ask{Ask: &rotav1.JobAsk{Id: id, Generation: uint64(a.Generation)}}})
		}
	}
	return nil
}

func start(s *stream, e *entry) {
	a, _ := e.job.Current()
	s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Start{Start: &rotav1.JobStart{
		Id: e.job.ID, Generation: uint64(a.Generation), Session: a.Session, Trace: e.job.Trace, Spec: &rotav1.JobWorkSpec{
			Argv: e.spec.Argv, Env: e.spec.Env, Dir: e.spec.Dir, Stdin: e.spec.Stdin, TimeoutMs: e.spec.Timeout.Milliseconds(),
			GraceMs: e.spec.Grace.Milliseconds(), Rerun: e.spec.Rerun, KeepMs: e.spec.Keep.Milliseconds(),
		},
	}}})
}

func stop(s *stream, e *entry) {
	s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Stop{Stop: &rotav1.JobStop{Id: e.job.ID, Generation: uint64(e.job.Generation())}}})
}

// drive tells the worker of a job what changed for it. c.mu is held.
func (c *Control) drive(id string, old, next *entry) {
	if next == nil {
		told := map[string]bool{}
		for _, a := range old.job.Attempts {
			if s, _ := c.streams.Of(a.Worker); s != nil && !told[a.Worker] {
				told[a.Worker] = true
				s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Forget{Forget: &rotav1.JobForget{Id: id}}})
			}
		}
		return
	}
	s, _ := c.streams.Of(next.job.Worker())
	if s == nil || !next.job.State.Active() {
		return
	}
	a, _ := next.job.Current()
	placed := old == nil || old.job.Generation() != a.Generation
	if placed && a.State == job.Starting && a.Session == s.Session {
		start(s, next)
	}
	if next.job.StopAsked && (placed || old == nil || !old.job.StopAsked) {
		stop(s, next)
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
	u := &update{id: r.GetId(), last: text.Clip(r.GetLastOutput(), maxLast)}
	mine := func(j job.Job) error {
		if j.Worker() != s.Worker {
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
			return j.Begin(s.Session, g, res.Started, now)
		case job.ReportRefused:
			return j.Unplace(g, "worker "+s.Worker+": "+res.Error, now, afterRefusals(j))
		case job.ReportFenced, string(job.Lost):
			if j.State == job.Lost {
				return j, nil
			}
			return j.Lose(g, spec, "worker "+s.Worker+": "+cmp.Or(res.Error, "it could not trust its lease"), now)
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
		s.Say(kept)
	case errors.Is(err, rota.ErrNotFound) && ended:
		s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Forget{Forget: &rotav1.JobForget{Id: r.GetId()}}})
	case errors.Is(err, rota.ErrNotFound), errors.Is(err, job.ErrStale), errors.Is(err, job.ErrState):
		// It runs what it should not.
		s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Stop{Stop: &rotav1.JobStop{
			Id: r.GetId(), Generation: r.GetGeneration(), Kill: true,
		}}})
	case err != nil:
		// It is said again with the next hello.
		c.cfg.Logger.Warn("report of a job not kept", "job", r.GetId(), "worker", s.Worker, "error", err)
		s.End()
	}
}

// outcome waits for what came of an update.
func (c *Control) outcome(u *update) error {
	select {
	case err := <-u.done:
		return err
	case <-c.ctx.Done():
		return errClosed
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
