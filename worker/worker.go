package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/mailbox"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/worker/internal/tasklog"
)

// Status is the state of a worker's life cycle.
type Status string

// The states of a worker, in order.
const (
	StatusNew         Status = "new"          // not connected yet
	StatusRegistered  Status = "registered"   // it has a session
	StatusInBarrier   Status = "in_barrier"   // the cluster gathers before its first plan
	StatusLeftBarrier Status = "left_barrier" // it takes part
	StatusLeaving     Status = "leaving"      // it hands over what it holds
	StatusDead        Status = "dead"         // Run has returned
)

// Worker is one worker of the cluster. Its methods are safe for concurrent use.
type Worker struct {
	cfg   Config
	birth time.Time
	loads load

	// certificateEnds is when the certificate that schedulers are shown ends, in ms; 0: never.
	certificateEnds atomic.Int64
	leased          atomic.Bool  // the lease was trusted when the loop last looked
	session         atomic.Int64 // of that lease, see Session
	fresh           atomic.Int64 // until when what was said of the cluster is believed, an ownership.Time

	mu        sync.Mutex
	handlers  map[string]TaskFunc
	functions functions
	fallback  TaskFunc // for every kind: Watch
	events    *events
	ran       bool
	status    Status
	changed   chan struct{} // closed at each change of status, allRunning or tasks
	tasks     map[rota.Instance]Assigned
	held      int  // instances on the account, running or not
	all       bool // every task of the cluster runs, the scheduler on the other end says
	leave     chan struct{}
	ended     chan struct{}
	err       error // why it ended, or why it is not let in
	joined    bool  // it has had a session

	logs  *tasklog.Keeper
	reads atomic.Int64 // how many are sent output

	starts, failures atomic.Uint64 // of task functions

	programs *program.Host // nil without task functions of programs

	inbox *mailbox.Box[func()] // what others ask the loop to do
	known known
	loop  loop
}

// New returns a worker that is not started yet.
func New(c Config) (*Worker, error) {
	c, err := c.normalize()
	if err != nil {
		return nil, err
	}
	w := &Worker{
		cfg: c, birth: time.Now(), handlers: map[string]TaskFunc{}, status: StatusNew, changed: make(chan struct{}),
		tasks: map[rota.Instance]Assigned{}, leave: make(chan struct{}), ended: make(chan struct{}),
		logs: tasklog.New(c.Incarnation), inbox: mailbox.New[func()](),
	}
	w.loop.init(w)
	return w, nil
}

// HandleTask registers the function for a kind of task. Call it before Run. The worker
// offers the kinds that it has functions for. Kinds that belong to programs
// (rota.IsProgramKind) are refused: only RegisterTaskFunc and RegisterProgram offer them.
func (w *Worker) HandleTask(kind string, f TaskFunc) error {
	if kind == "" {
		kind = rota.DefaultKind
	}
	if rota.IsProgramKind(kind) {
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "kind", Value: kind, Want: "a kind that does not belong to programs (" + rota.ProgramKind + ", " + rota.ProgramSchedulerKind + ")"})
	}
	return w.handle(kind, f)
}

// handle registers the function of a kind of task.
func (w *Worker) handle(kind string, f TaskFunc) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ran:
		return errors.New("worker: HandleTask after Run")
	case f == nil:
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "function", Value: kind, Want: "not nil"})
	case w.fallback != nil:
		return errors.New("worker: HandleTask together with Watch")
	case w.handlers[kind] != nil:
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "kind", Value: kind, Want: "one function per kind; this kind has one"})
	}
	w.handlers[kind] = f
	return nil
}

// Run serves until ctx ends or Stop is called, then leaves in order: its instances are
// stopped and handed over. It then returns nil. It returns an error if the cluster refuses
// the worker (rota.ErrTooManyWorkers, rota.ErrNameAlive, a *rota.FieldError's text). It can
// be called once.
//
// Run returns only when every function has returned, because only then an instance is known
// to have stopped. The exception is ErrOutlived; see Config.Exit.
func (w *Worker) Run(ctx context.Context) error {
	w.mu.Lock()
	if w.ran {
		w.mu.Unlock()
		return errors.New("worker: Run was called before")
	}
	w.ran = true
	if len(w.handlers) == 0 && w.fallback == nil && !w.functions.any() {
		err := fmt.Errorf("worker: %w", &rota.FieldError{Field: "kinds", Value: "", Want: "at least one HandleTask, HandleFunction, or Watch"})
		w.end(err)
		w.mu.Unlock()
		return err
	}
	if w.functions.any() {
		stopCalls, err := w.functions.serve(w.cfg.Calls, w.cfg.CallsTLS, w.cfg.TracerProvider)
		if err != nil {
			w.end(err)
			w.mu.Unlock()
			return err
		}
		defer stopCalls()
	}
	w.mu.Unlock()
	stop := context.AfterFunc(ctx, w.askToLeave)
	defer stop()
	watching, ended := context.WithCancel(context.Background())
	go w.watchCertificate(watching)
	err := w.loop.run()
	ended()
	if w.programs != nil {
		w.programs.Close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(err)
	return err
}

// end notes that the worker runs no more and never will; w.mu is held.
func (w *Worker) end(err error) {
	w.err = err
	w.set(StatusDead)
	close(w.ended)
	if w.events != nil {
		w.events.close()
	}
}

// Err says why the worker does not take part. It is the error that Run has returned; the
// refusal (rota.ErrTooManyWorkers, rota.ErrNameAlive) while the worker waits to be
// admitted; or ErrLeaseEnded. It is nil before the first session, in normal operation, and
// after an orderly leave.
func (w *Worker) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.joined && w.status != StatusDead && !w.Leased() {
		return ErrLeaseEnded
	}
	return w.err
}

// Start calls Run in the background.
func (w *Worker) Start() { go func() { _ = w.Run(context.Background()) }() }

// Stop asks the worker to leave in order and waits for it, or for ctx. It may
// be called before Start, twice, and from several goroutines.
func (w *Worker) Stop(ctx context.Context) error {
	w.askToLeave()
	w.mu.Lock()
	if !w.ran {
		w.ran = true // it will never run
		w.end(nil)
	}
	w.mu.Unlock()
	select {
	case <-w.ended:
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.err
	case <-ctx.Done():
		return fmt.Errorf("worker: stop: %w", ctx.Err())
	}
}

func (w *Worker) askToLeave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.leave:
	default:
		close(w.leave)
	}
}

// Name is the worker's name.
func (w *Worker) Name() string { return w.cfg.Name }

// Leased reports whether the worker may trust its lease now, and so may begin work that
// another worker may do once the lease has ended. It is already false when LeaseEnded is
// called.
func (w *Worker) Leased() bool { return w.leased.Load() }

// LeasedFor reports whether the worker may trust the lease of a session, named by its
// revision; 0 means whichever it has. What was ordered for an earlier session was that
// lease's, and may run elsewhere by now.
func (w *Worker) LeasedFor(session int64) bool {
	return w.Leased() && (session == 0 || session == w.session.Load())
}

// Session is the worker's session, named by its revision, or the last one that it had; 0
// before the first.
func (w *Worker) Session() int64 { return w.session.Load() }

// Incarnation names this start of the worker.
func (w *Worker) Incarnation() string { return w.cfg.Incarnation }

// Status returns the state of the worker's life cycle.
func (w *Worker) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Tasks lists the instances that run here now, each with its Task as it is declared now.
func (w *Worker) Tasks() []Assigned {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]Assigned, 0, len(w.tasks))
	for _, a := range w.tasks {
		a.Task, _ = a.Current()
		out = append(out, a)
	}
	return out
}

// AllRunning reports whether every task of the cluster is known to run, on whichever
// worker; a rolling update can wait for it. It is false when that is not known: without a
// scheduler or a leader, if this worker's lease or the scheduler's view was last confirmed
// more than half a lease ago, and before a new leader has checked. A killed worker counts
// as running its tasks until its lease ends.
func (w *Worker) AllRunning() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.allRunning()
}

// allRunning is AllRunning; w.mu is held.
func (w *Worker) allRunning() bool { return w.all && w.upToDate() }

// upToDate reports whether what was last said of the cluster is still believed.
func (w *Worker) upToDate() bool {
	return w.Leased() && w.now() < ownership.Time(w.fresh.Load())
}

// TryLeaveBarrier waits at most d for AllRunning, and returns it.
func (w *Worker) TryLeaveBarrier(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		w.mu.Lock()
		all, changed := w.allRunning(), w.changed
		w.mu.Unlock()
		if all {
			return true
		}
		select {
		case <-changed:
		case <-w.ended:
			return false
		case <-timer.C:
			return false
		}
	}
}

// Joined waits until the worker has a session for the first time, and reports
// whether it has; it has not if ctx or the worker ends before.
func (w *Worker) Joined(ctx context.Context) bool {
	for {
		w.mu.Lock()
		status, changed := w.status, w.changed
		w.mu.Unlock()
		switch status {
		case StatusNew:
		case StatusDead:
			return false
		default:
			return true
		}
		select {
		case <-changed:
		case <-w.ended:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// set changes the status; w.mu is held.
func (w *Worker) set(s Status) {
	if w.status != s {
		w.status = s
		w.wake()
	}
}

// wake tells whoever waits for a change; w.mu is held.
func (w *Worker) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// now is the worker's monotonic clock.
func (w *Worker) now() ownership.Time { return time.Since(w.birth) }

// handler finds the function of a kind.
func (w *Worker) handler(kind string) TaskFunc {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.handlers[kind]; f != nil || rota.IsProgramKind(kind) {
		return f
	}
	return w.fallback
}

// known are the schedulers that a scheduler told of.
type known struct{ p atomic.Pointer[[]string] }

func (k *known) set(list []string) { k.p.Store(&list) }

func (k *known) get() []string {
	if p := k.p.Load(); p != nil {
		return *p
	}
	return nil
}

// load collects what functions report of their load.
type load struct {
	on atomic.Bool
	mu sync.Mutex
	m  map[rota.Instance]float64
}

func (l *load) report(i rota.Instance, v float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[rota.Instance]float64{}
	}
	l.m[i] = v
	l.on.Store(true)
}

// take answers what was reported since it was last asked.
func (l *load) take() []*rotav1.Load_Item {
	if !l.on.Swap(false) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*rotav1.Load_Item, 0, len(l.m))
	for i, v := range l.m {
		out = append(out, &rotav1.Load_Item{Task: i.Task, Index: int64(i.Index), Load: v})
	}
	clear(l.m)
	return out
}

func (w *Worker) log() *slog.Logger { return w.cfg.Logger }
