// Package agent is the worker's side of jobs: it keeps a job stream to some
// scheduler (package line), runs what it is told to with a runner, reports what becomes of it,
// and serves output to whoever the scheduler says. The worker's role calls it,
// beside the worker's session.
//
// It decides nothing: the runner decides what may run, the scheduler what should.
// But what would be run again elsewhere is begun only while the worker may trust
// its lease, and dies with it.
// A connection that breaks changes nothing for what runs; on the next one the
// agent says what it holds and what ended unheard.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/worker/line"
)

// Config of an Agent. Name, Incarnation, Runner.Dir and Connect must be set.
type Config struct {
	// Name and Incarnation are those of the worker's session.
	Name, Incarnation string
	// Runner says what may run and how. Its Notify is the agent's.
	Runner runner.Config
	// Leased reports whether the worker may trust the lease of a session, see
	// worker.LeasedFor: else nothing begins that would be run again elsewhere. Nil means
	// that it always may.
	Leased func(session int64) bool
	// Session answers the worker's session, 0 while it has had none. Nil: it is not said.
	Session func() int64
	// Connect gives a connection to some scheduler, another one at each call
	// where there are several. The agent closes it.
	Connect func(ctx context.Context) (*grpc.ClientConn, error)
	// TracerProvider makes the spans of runs, of jobs that belong to a trace. Nil makes none.
	TracerProvider trace.TracerProvider
	// Logger gets what happens. Nil is silent.
	Logger *slog.Logger
}

// Agent runs jobs for schedulers.
type Agent struct {
	cfg    Config
	runner *runner.Runner
	pushes sync.WaitGroup // of output, over the link

	mu       sync.Mutex
	link     *link
	starting map[key]chan struct{} // closed when the start has come to something
	// unstarted are the orders that came to nothing, until a scheduler has that
	// in the store: one that does not know of it may give the order again.
	unstarted map[key]*rotav1.JobReport
	begun     map[key]*time.Timer // begins that have not been told yet
	spans     map[key]trace.Span  // of runs
	leaving   bool                // nothing begins any more
	left      bool                // and the scheduler has sent its last order
}

type key struct {
	id         string
	generation rota.Generation
}

// beginDelay is how long a begin waits for its end. Most commands are over by
// then: the end alone is told, and the store is spared a write. What runs longer
// is shown as running that much later; when it began is told all the same.
const beginDelay = 10 * time.Millisecond

// link is one connection. Its sender never blocks who reports.
type link = line.Link[rotav1.FromJobWorker]

// New opens the runner; jobs that an earlier start left running are ended.
func New(cfg Config) (*Agent, error) {
	if cfg.Name == "" || cfg.Incarnation == "" {
		return nil, &rota.FieldError{Field: "name", Value: cfg.Name, Want: "a worker's name and incarnation"}
	}
	if cfg.Connect == nil {
		return nil, &rota.FieldError{Field: "connect", Value: nil, Want: "a way to a scheduler"}
	}
	if cfg.Leased == nil {
		cfg.Leased = func(int64) bool { return true }
	}
	if cfg.Session == nil {
		cfg.Session = func() int64 { return 0 }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Agent{cfg: cfg, starting: map[key]chan struct{}{}, unstarted: map[key]*rotav1.JobReport{}, begun: map[key]*time.Timer{}, spans: map[key]trace.Span{}}
	cfg.Runner.Notify = a.notify
	r, err := runner.New(cfg.Runner)
	if err != nil {
		return nil, err
	}
	a.runner = r
	return a, nil
}

// Runner is what runs the jobs.
func (a *Agent) Runner() *runner.Runner { return a.runner }

// Fence kills what would be run again elsewhere; the worker calls it when it can
// no longer trust its lease. Orders that are on their way are of that lease: with
// the connection they go unread.
func (a *Agent) Fence() {
	a.mu.Lock()
	if a.link != nil {
		a.link.Cut()
	}
	a.mu.Unlock()
	a.runner.Fence()
}

// Die kills all jobs, as lost; the worker calls it when it has to end at once.
func (a *Agent) Die() { a.runner.Die() }

// Run serves until ctx ends, then stops all jobs in order: their ends are told
// if a scheduler is there, and by the next start if not. last bounds that.
func (a *Agent) Run(ctx context.Context, last time.Duration) {
	// The connection outlives ctx until the ends are told.
	linked, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var wg sync.WaitGroup
	wg.Go(func() { a.line().Run(linked) })
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), last)
	defer cancel()
	a.runner.Close(closing)
	a.mu.Lock()
	a.leaving = true
	if a.link != nil {
		a.link.Out.Put(leaving)
	}
	a.mu.Unlock()
	a.awaitTold(closing)
	cut()
	wg.Wait()
}

// How long a stopping worker waits until its last words are kept: with a
// connection, and for one.
const (
	toldWait    = 5 * time.Second
	connectWait = time.Second
)

// leaving is the word that nothing begins any more.
var leaving = &rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Leaving{Leaving: &rotav1.JobLeaving{}}}

// awaitTold waits until the ends of all that ran are kept, and the refusals of what
// was still on its way here.
func (a *Agent) awaitTold(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, toldWait)
	defer cancel()
	unheard := time.Now().Add(connectWait)
	for {
		a.mu.Lock()
		connected, all := a.link != nil, a.left && len(a.starting)+len(a.unstarted) == 0
		a.mu.Unlock()
		if all && len(a.runner.Untold()) == 0 || !connected && time.Now().After(unheard) {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// line is the job stream.
func (a *Agent) line() *line.Line[rotav1.FromJobWorker, rotav1.ToJobWorker] {
	return &line.Line[rotav1.FromJobWorker, rotav1.ToJobWorker]{
		Connect: a.cfg.Connect, Hello: a.hello, Take: a.take, Ended: a.unlink, Logger: a.cfg.Logger,
		Open: func(ctx context.Context, conn *grpc.ClientConn) (grpc.BidiStreamingClient[rotav1.FromJobWorker, rotav1.ToJobWorker], error) {
			return rotav1.NewJobWorkClient(conn).Connect(ctx)
		},
	}
}

// hello says what the agent runs, and what has become of what it ran. Reports from here
// on are queued behind it; it may say the same once more: that does no harm.
func (a *Agent) hello(k *link) *rotav1.FromJobWorker {
	whatever, words := a.runner.Commands()
	hello := &rotav1.JobHello{Name: a.cfg.Name, Incarnation: a.cfg.Incarnation, Session: a.cfg.Session(), Any: whatever, Commands: words, Slots: int64(a.runner.Slots())}
	for _, argv := range job.Templates(a.runner.Templates()) {
		hello.Templates = append(hello.Templates, &rotav1.JobTemplate{Argv: argv})
	}
	a.mu.Lock()
	a.link = k
	for _, r := range a.unstarted {
		r.NowUnixUs = time.Now().UnixMicro()
		hello.Held = append(hello.Held, r)
	}
	for s := range a.starting {
		hello.Held = append(hello.Held, &rotav1.JobReport{Id: s.id, Generation: uint64(s.generation), State: string(job.Starting)})
	}
	if a.leaving {
		k.Out.Put(leaving)
	}
	a.mu.Unlock()
	for _, st := range a.runner.Untold() {
		hello.Held = append(hello.Held, reportOf(st))
	}
	return &rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Hello{Hello: hello}}
}

// unlink notes that a link has ended, once nothing is pushed over its connection.
func (a *Agent) unlink(k *link) {
	a.pushes.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == k {
		a.link = nil
	}
}

// take takes what a scheduler says.
func (a *Agent) take(ctx context.Context, conn *grpc.ClientConn, m *rotav1.ToJobWorker) error {
	switch b := m.GetBody().(type) {
	case *rotav1.ToJobWorker_Welcome:
		whatever, words := a.runner.Commands()
		a.cfg.Logger.Info("takes jobs", "any", whatever, "commands", len(words))
	case *rotav1.ToJobWorker_Refused:
		return errors.New(b.Refused.GetText())
	case *rotav1.ToJobWorker_Start:
		a.start(b.Start)
	case *rotav1.ToJobWorker_Stop:
		a.stop(b.Stop)
	case *rotav1.ToJobWorker_Ask:
		a.asked(key{b.Ask.GetId(), rota.Generation(b.Ask.GetGeneration())})
	case *rotav1.ToJobWorker_Left:
		a.mu.Lock()
		a.left = true
		a.mu.Unlock()
	case *rotav1.ToJobWorker_Kept:
		a.kept(key{b.Kept.GetId(), rota.Generation(b.Kept.GetGeneration())})
	case *rotav1.ToJobWorker_Forget:
		_ = a.runner.Remove(b.Forget.GetId()) // an id that is none has no output
	case *rotav1.ToJobWorker_Read:
		a.pushes.Go(func() { a.push(ctx, rotav1.NewJobWorkClient(conn), b.Read) })
	}
	return nil
}

// notify passes on what the runner says. Without a connection it is said with
// the next hello.
func (a *Agent) notify(st runner.Status) {
	k := key{st.ID, st.Generation}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.traced(k, st)
	if st.State == job.Running {
		a.begun[k] = time.AfterFunc(beginDelay, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.begun[k] != nil { // it has not ended
				delete(a.begun, k)
				a.tell(reportOf(st))
			}
		})
		return
	}
	if begin := a.begun[k]; begin != nil {
		begin.Stop()
		delete(a.begun, k)
	}
	a.tell(reportOf(st))
}

// tell queues a report on the connection, if there is one. a.mu is held.
func (a *Agent) tell(r *rotav1.JobReport) {
	if a.link != nil {
		a.link.Out.Put(&rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Report{Report: r}})
	}
}

func reportOf(st runner.Status) *rotav1.JobReport {
	r := st.Result
	state := string(st.State)
	switch {
	case st.State == job.Lost:
		state = job.ReportFenced
	case st.Left:
		state = job.ReportLeft
	}
	m := &rotav1.JobReport{
		Id: st.ID, Generation: uint64(st.Generation), State: state, ExitCode: int64(r.ExitCode), Signal: r.Signal,
		Error: valid(r.Error), Permanent: r.Permanent, LastOutput: valid(st.Last), NowUnixUs: time.Now().UnixMicro(),
	}
	if !r.Started.IsZero() {
		m.StartedUnixUs = r.Started.UnixMicro()
	}
	if !r.Ended.IsZero() {
		m.EndedUnixUs = r.Ended.UnixMicro()
	}
	return m
}

var errLease = errors.New("the worker cannot trust its lease")

// start runs a job and reports why it does not, if so.
func (a *Agent) start(m *rotav1.JobStart) {
	k := key{m.GetId(), rota.Generation(m.GetGeneration())}
	launched := make(chan struct{})
	a.mu.Lock()
	if a.starting[k] != nil || a.unstarted[k] != nil {
		a.mu.Unlock()
		return
	}
	a.starting[k] = launched
	a.mu.Unlock()
	go func() {
		w := m.GetSpec()
		err := errLease
		may := func() bool { return !w.GetRerun() || a.cfg.Leased(m.GetSession()) }
		if may() {
			err = a.runner.Start(runner.Job{ID: k.id, Generation: k.generation, Trace: a.trace(k, m.GetTrace(), w.GetArgv()), Spec: job.Spec{
				Argv: w.GetArgv(), Env: w.GetEnv(), Dir: w.GetDir(), Stdin: w.GetStdin(), Timeout: time.Duration(w.GetTimeoutMs()) * time.Millisecond,
				Grace: time.Duration(w.GetGraceMs()) * time.Millisecond, Rerun: w.GetRerun(), Keep: time.Duration(w.GetKeepMs()) * time.Millisecond,
			}})
		}
		if err == nil && !may() {
			a.runner.Fence() // which has been called while it began
		}
		if err == nil {
			a.retrace(k)
			a.mu.Lock()
			delete(a.starting, k)
			a.mu.Unlock()
			close(launched)
			return
		}
		a.cfg.Logger.Info("job not started", "job", k.id, "error", err)
		a.untraced(k, err)
		r := unstarted(k, err)
		var field *rota.FieldError
		switch {
		case errors.Is(err, runner.ErrBusy), errors.Is(err, runner.ErrShort), errors.Is(err, runner.ErrClosed), errors.Is(err, errLease):
		default:
			r.State = string(job.Failed)
			r.Permanent = errors.Is(err, runner.ErrNotAllowed) || errors.As(err, &field)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.starting, k) // together with what follows: it is never in neither
		close(launched)
		a.unstarted[k] = r
		a.tell(r)
	}()
}

// unstarted is the report of an order that came to nothing and may go elsewhere.
func unstarted(k key, err error) *rotav1.JobReport {
	now := time.Now().UnixMicro()
	return &rotav1.JobReport{
		Id: k.id, Generation: uint64(k.generation), State: job.ReportRefused, Error: valid(err.Error()), EndedUnixUs: now, NowUnixUs: now, ExitCode: -1,
	}
}

var errNever = errors.New("it was never begun here")

// asked says what is of an attempt that a scheduler has heard nothing of. One that
// was never begun is not any more: an order that comes late is refused.
func (a *Agent) asked(k key) {
	a.mu.Lock()
	if a.starting[k] != nil {
		a.mu.Unlock()
		return // it will be told
	}
	r, known := a.unstarted[k]
	if !known {
		r = unstarted(k, errNever)
		a.unstarted[k] = r // before the runner is asked, so that no order slips in between
	}
	a.mu.Unlock()
	// The runner is not called with a.mu held: it calls notify with its own.
	st, ran := a.runner.Status(k.id, k.generation)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case !ran && a.runner.Whole():
		a.tell(r)
	case !known:
		delete(a.unstarted, k)
		if ran && st.State != job.Starting {
			a.tell(reportOf(st))
		}
	}
}

// kept takes note that a scheduler has the end of an attempt in the store.
func (a *Agent) kept(k key) {
	a.runner.Told(k.id, k.generation)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.unstarted, k)
}

func (a *Agent) stop(m *rotav1.JobStop) {
	grace := time.Duration(0)
	if m.GetKill() {
		grace = runner.AtOnce
	}
	go func() {
		a.launched(context.Background(), m.GetId(), rota.Generation(m.GetGeneration()))
		// One that has ended says so itself.
		_ = a.runner.Stop(m.GetId(), rota.Generation(m.GetGeneration()), grace)
	}()
}

// launched waits while an attempt is being started.
func (a *Agent) launched(ctx context.Context, id string, g rota.Generation) {
	a.mu.Lock()
	wait := a.starting[key{id, g}]
	a.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
}

// push sends an output to who asked for it, at that one's pace.
func (a *Agent) push(ctx context.Context, client rotav1.JobWorkClient, m *rotav1.JobRead) {
	a.launched(ctx, m.GetId(), rota.Generation(m.GetGeneration()))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := client.PushOutput(ctx)
	if err != nil {
		return
	}
	over := make(chan struct{})
	go func() { // who reads no more says so by the end of the stream
		defer close(over)
		defer cancel()
		_ = s.RecvMsg(&rotav1.PushOutputResponse{})
	}()
	if err := a.pushTo(ctx, s, m); err != nil {
		a.cfg.Logger.Debug("output not sent", "job", m.GetId(), "error", err)
	}
	_ = s.CloseSend()
	<-over
}

func (a *Agent) pushTo(ctx context.Context, s grpc.ClientStreamingClient[rotav1.OutputPiece, rotav1.PushOutputResponse], m *rotav1.JobRead) error {
	refuse := func(code string, err error) error {
		return s.Send(&rotav1.OutputPiece{Read: m.GetRead(), Error: code, ErrorText: valid(err.Error())})
	}
	log, err := a.runner.Output(m.GetId(), rota.Generation(m.GetGeneration()))
	if err != nil {
		return refuse(job.ReadNotFound, fmt.Errorf("the output is gone: %w", err))
	}
	r, err := log.Reader(m.GetOffset(), m.GetFollow())
	if err != nil {
		return refuse(job.ReadOffset, err)
	}
	defer func() { _ = r.Close() }()
	if err := s.Send(&rotav1.OutputPiece{Read: m.GetRead(), NowUnixUs: time.Now().UnixMicro()}); err != nil {
		return err
	}
	for {
		c, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read output: %w", err)
		}
		if err := s.Send(&rotav1.OutputPiece{
			Stream: uint32(c.Stream), Offset: c.Offset, Missed: c.Missed, UnixUs: c.Time.UnixMicro(), Data: c.Data,
		}); err != nil {
			return err
		}
	}
}
