package runner

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/output"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/tracing"
)

// Defaults of a Config.
const (
	defaultMaxRunning = 256
	defaultMaxEnded   = 20_000
)

// Errors that a caller can tell apart with errors.Is.
var (
	// ErrBusy is the answer to a job that would be one too many.
	ErrBusy = errors.New("the worker runs its maximum number of jobs")
	// ErrClosed is the answer of a runner that is being closed.
	ErrClosed = errors.New("the worker is stopping")
	// ErrShort is the answer when this machine, or what its worker may take of it,
	// has no room for one more: descriptors, processes, memory. Another may have.
	ErrShort = errors.New("the worker's machine is short of a resource")
	// ErrNotRunning is the answer to a stop of what does not run.
	ErrNotRunning = errors.New("does not run")
)

// Config of a Runner. Dir must be set.
type Config struct {
	// Dir is where outputs and results are kept; it is made. No other runner
	// may use it.
	Dir string
	// Allow says what may run. The zero value allows nothing.
	Allow Allow
	// Env is the environment that every job gets, beside PATH.
	Env map[string]string
	// MaxRunning bounds the jobs that run at once. Zero means defaultMaxRunning.
	MaxRunning int
	// MaxEnded bounds the ended attempts whose output is kept, whatever time
	// they may be kept. Zero means defaultMaxEnded.
	MaxEnded int
	// Output bounds each attempt's output; its Total is the runner's own.
	Output output.Options
	// MaxOutput bounds the bytes of all outputs in Dir together, what earlier
	// runners left included: see output.Total. Zero means output.DefaultMaxTotal.
	MaxOutput int64
	// Cgroup, if not nil, keeps the limits of jobs.
	Cgroup *process.Cgroup
	// NewPrivileges lets jobs gain privileges by sudo and the like.
	NewPrivileges bool
	// Hold, if not nil, is called before an attempt begins whose job would be run
	// again elsewhere; what it answers is called when that has ended.
	Hold func() (release func())
	// Notify is told of each begin and each end, in order for one attempt. It
	// must neither block nor call the runner. Nil means nobody asks.
	Notify func(Status)
}

// Job is what to run: one attempt of a job.
type Job struct {
	ID         string
	Generation rota.Generation
	Spec       job.Spec
	// Trace is the trace that the attempt belongs to, as a W3C traceparent, which the command
	// finds in TRACEPARENT unless Spec.Env has another. Empty is none.
	Trace string
}

// Status is what a runner says of an attempt.
type Status struct {
	ID         string
	Generation rota.Generation
	State      job.State // Starting, Running, or how it ended; Lost if it was fenced
	Result     job.Result
	// Last is the end of what it wrote, if it failed or took too long: at most 512 bytes.
	Last string
	// Left says that it was stopped because the runner was closed.
	Left bool
}

type key struct {
	id         string
	generation rota.Generation
}

// attempt is a running or ended attempt.
type attempt struct {
	key
	spec    job.Spec
	trace   string
	log     *output.Log
	process *process.Process
	release func()
	stopped bool
	fenced  string // why, if it was
	timeout bool
	left    bool  // stopped by Close
	written int64 // bytes of output, where the disk has refused some
	state   job.State
	result  job.Result
	last    string
	told    bool
	keep    time.Duration
	done    chan struct{}
	// unwritten, if not nil, is when an end that nobody was told of is written.
	unwritten *time.Timer
}

func (a *attempt) status() Status {
	return Status{ID: a.id, Generation: a.generation, State: a.state, Result: a.result, Last: a.last, Left: a.left && a.state == job.Stopped}
}

// Runner runs jobs. Its methods may be called from anywhere, at any time.
type Runner struct {
	cfg    Config
	policy *policy
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	closed   bool
	running  int
	attempts map[key]*attempt
	ended    []key      // oldest first
	spilled  []*attempt // of those, the ones with a log in memory
	forgot   bool       // one was dropped whose end no scheduler had heard of
	sweeper  *time.Timer
	wg       sync.WaitGroup
}

// New opens Dir, ends what workers that died left running on this machine, and
// takes over what the last one in Dir left to tell.
func New(cfg Config) (*Runner, error) {
	if cfg.Dir == "" {
		return nil, &rota.FieldError{Field: "jobs.dir", Value: "", Want: "a directory; it is missing"}
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	cfg.Dir = dir
	if cfg.MaxRunning == 0 {
		cfg.MaxRunning = defaultMaxRunning
	}
	if cfg.MaxEnded == 0 {
		cfg.MaxEnded = defaultMaxEnded
	}
	if cfg.MaxRunning < 0 || cfg.MaxEnded < 0 {
		return nil, &rota.FieldError{Field: "jobs.max_running", Value: min(cfg.MaxRunning, cfg.MaxEnded), Want: "one or more"}
	}
	if cfg.Notify == nil {
		cfg.Notify = func(Status) {}
	}
	if cfg.Hold == nil {
		cfg.Hold = func() func() { return func() {} }
	}
	if cfg.Output.Total, err = output.NewTotal(cfg.MaxOutput); err != nil {
		return nil, err
	}
	p, err := cfg.Allow.compile(cfg.Cgroup)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // jobs of other users pass through
		return nil, fmt.Errorf("runner: %w", err)
	}
	r := &Runner{cfg: cfg, policy: p, attempts: map[key]*attempt{}}
	if err := r.makeWork(); err != nil {
		return nil, err
	}
	process.Sweep()
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if err := r.load(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.expire(time.Now())
	r.mu.Unlock()
	return r, nil
}

// Check reports whether the job would be allowed: nil or a *notAllowedError.
func (r *Runner) Check(s job.Spec) error {
	_, err := r.policy.decide(s)
	return err
}

// Start runs j. It returns when the command runs, or with why it does not: a
// *notAllowedError, a *rota.FieldError, ErrBusy, ErrClosed, or the system's
// error, which is an ErrShort where it may pass; then nobody is notified. Starting the same attempt again does nothing.
func (r *Runner) Start(j Job) error {
	if err := validID(j.ID); err != nil {
		return err
	}
	if err := j.Spec.Validate(); err != nil {
		return err
	}
	d, err := r.policy.decide(j.Spec)
	if err != nil {
		return err
	}
	spec := j.Spec.Normalize()
	a := &attempt{key: key{j.ID, j.Generation}, spec: spec, trace: j.Trace, keep: spec.Keep, state: job.Starting, done: make(chan struct{})}
	r.mu.Lock()
	switch _, known := r.attempts[a.key]; {
	case r.closed:
		err = ErrClosed
	case known:
		r.mu.Unlock()
		return nil
	case r.running >= r.cfg.MaxRunning:
		err = fmt.Errorf("%w: %d", ErrBusy, r.running)
	}
	if err != nil {
		r.mu.Unlock()
		return err
	}
	r.running++
	a.release = func() {}
	if spec.Rerun {
		a.release = r.cfg.Hold()
	}
	r.attempts[a.key] = a
	r.wg.Add(1)
	r.mu.Unlock()

	if err := r.launch(a, d); err != nil {
		_ = r.cfg.Output.Total.Remove(r.path(a.key))
		_ = os.Remove(filepath.Dir(r.path(a.key))) // if it was the only attempt
		r.mu.Lock()
		delete(r.attempts, a.key)
		r.running--
		r.mu.Unlock()
		a.release()
		close(a.done)
		r.wg.Done()
		if errors.Is(err, process.ErrClosed) || r.ctx.Err() != nil {
			return ErrClosed // the worker ends: nothing of the job has begun, and it may elsewhere
		}
		if slices.ContainsFunc(shortages, func(s error) bool { return errors.Is(err, s) }) {
			return fmt.Errorf("%w: %w", ErrShort, err)
		}
		return err
	}
	return nil
}

// shortages are errors of the system by no fault of the job.
var shortages = []error{syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.ENOMEM}

func (r *Runner) launch(a *attempt, d decision) error {
	path := r.path(a.key)
	log, err := output.Create(path, r.cfg.Output)
	if err != nil {
		return err
	}
	dir := d.dir
	if dir == "" {
		dir = filepath.Join(r.cfg.Dir, workDir)
	}
	var stdin io.Reader // nil is an empty one, and costs no pipe
	if len(a.spec.Stdin) > 0 {
		stdin = bytes.NewReader(a.spec.Stdin)
	}
	p, err := process.Start(r.ctx, process.Spec{
		Argv: d.argv, Env: r.environ(a), Dir: dir, Stdin: stdin,
		Stdout: log.Writer(output.Stdout), Stderr: log.Writer(output.Stderr),
		Limits: d.limits, User: d.user, Grace: a.spec.Grace, Cgroup: r.cfg.Cgroup,
		NewPrivileges: r.cfg.NewPrivileges,
	})
	if err != nil {
		_ = log.Close()
		return err
	}
	started := time.Now()
	r.mu.Lock()
	a.log, a.process, a.state, a.result.Started = log, p, job.Running, started
	if a.stopped {
		p.Stop(0)
	}
	st := a.status()
	r.cfg.Notify(st)
	r.mu.Unlock()
	var timer *time.Timer
	grace := a.spec.Grace
	if d.timeout > 0 {
		timer = time.AfterFunc(d.timeout, func() {
			r.mu.Lock()
			a.timeout = !a.stopped
			r.mu.Unlock()
			p.Stop(grace)
		})
	}
	go func() {
		defer r.wg.Done()
		exit, err := p.Wait()
		if timer != nil {
			timer.Stop()
		}
		r.finish(a, exit, err)
	}()
	return nil
}

// environ is what the command sees: the configuration's, the job's, and who it is.
func (r *Runner) environ(a *attempt) []string {
	all := maps.Clone(r.cfg.Env)
	if all == nil {
		all = map[string]string{}
	}
	if a.trace != "" {
		all[tracing.ParentEnv] = a.trace
	}
	maps.Copy(all, a.spec.Env)
	all["ROTA_JOB_ID"] = a.id
	all["ROTA_JOB_GENERATION"] = strconv.FormatUint(uint64(a.generation), 10)
	env := make([]string, 0, len(all))
	for _, k := range slices.Sorted(maps.Keys(all)) {
		env = append(env, k+"="+all[k])
	}
	return env
}

func (r *Runner) finish(a *attempt, exit process.Exit, err error) {
	last := ""
	if !exit.Success() {
		last = lastOf(a.log)
	}
	logErr := a.log.Close()
	disk, spilled, lost, log := a.log.Disk(), a.log.Spilled(), a.log.Lost(), a.log
	switch {
	case lost > 0:
		logErr = fmt.Errorf("%d bytes of output are lost: %w", lost, logErr)
	case spilled > 0:
		logErr = fmt.Errorf("output is in the worker's memory only: %w", logErr)
	}
	res := job.Result{ExitCode: exit.Code, Ended: time.Now()}
	if exit.Signal != 0 {
		res.Signal = exit.Signal.String()
	}
	if err := errors.Join(err, logErr); err != nil {
		res.Error = err.Error()
	}
	a.release()
	r.mu.Lock()
	defer r.mu.Unlock()
	res.Started, res.Error = a.result.Started, cmp.Or(a.fenced, res.Error)
	switch {
	case a.fenced != "", exit.Stopped && !a.stopped && !a.timeout: // or it was ended with the whole process
		res.State = job.Lost
	case a.timeout:
		res.State = job.TimedOut
	case exit.Stopped:
		res.State = job.Stopped
	case exit.Success():
		res.State = job.Succeeded
	default:
		res.State = job.Failed
	}
	if res.State == job.Failed || res.State == job.TimedOut {
		a.last = last
	}
	a.state, a.result, a.process, a.log, a.spec = res.State, res, nil, nil, job.Spec{}
	if spilled > 0 {
		a.written = log.Size()
		r.spill(a, log)
	}
	r.running--
	if disk == 0 {
		// Nothing of it is on disk. If a scheduler keeps its end soon, as is
		// usual, nothing has to be.
		a.unwritten = time.AfterFunc(untoldTime, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.writeUntold(a)
		})
	} else if err := r.writeResult(a); err != nil && a.result.Error == "" {
		a.result.Error = err.Error()
	}
	r.ended = append(r.ended, a.key)
	r.expire(res.Ended)
	close(a.done)
	r.cfg.Notify(a.status())
}

// maxSpilled bounds what the outputs of all ended attempts take of memory, as the
// disk has refused them.
const maxSpilled = 8 << 20

// spill keeps the log of an ended attempt that is not on the disk as a whole, and
// lets go of the oldest of those that are too many.
func (r *Runner) spill(a *attempt, log *output.Log) {
	a.log = log
	r.spilled = append(r.spilled, a)
	for total := int64(0); ; total = 0 {
		for _, s := range r.spilled {
			total += s.log.Spilled()
		}
		if total <= maxSpilled {
			return
		}
		r.spilled[0].log = nil
		r.spilled = r.spilled[1:]
	}
}

// AtOnce is the grace of a Stop that kills without asking first.
const AtOnce time.Duration = -1

// Stop asks the attempt to end; after grace it is killed. Zero means the job's
// own grace. It is rota.ErrNotFound if the runner never had it, ErrNotRunning
// if it has ended.
func (r *Runner) Stop(id string, g rota.Generation, grace time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempts[key{id, g}]
	switch {
	case a == nil:
		return fmt.Errorf("job %s: %w", text.Clip(id, text.Short), rota.ErrNotFound)
	case a.state.Done():
		return fmt.Errorf("job %s: %w", text.Clip(id, text.Short), ErrNotRunning)
	}
	if grace == 0 {
		grace = a.spec.Grace
	}
	a.stopped = true
	if a.process != nil {
		a.process.Stop(grace)
	}
	return nil
}

// Fence kills every attempt whose job would be run again elsewhere, and returns
// when they are dead: they are lost. The worker calls it at the end of its lease.
func (r *Runner) Fence() {
	r.kill(func(a *attempt) bool { return a.spec.Rerun }, "it could not trust its lease")
}

// Die kills every attempt and returns when they are dead: they are lost. Nothing
// begins any more: a job that is given back here, as the scheduler has heard of its
// end, is refused. The worker calls it when it has to end at once.
func (r *Runner) Die() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.kill(func(*attempt) bool { return true }, "it had to end at once")
}

// kill kills attempts and returns when they are dead. With a reason they are lost.
func (r *Runner) kill(which func(*attempt) bool, fenced string) {
	r.mu.Lock()
	var dying []*attempt
	for _, a := range r.attempts {
		if a.state.Done() || !which(a) {
			continue
		}
		a.stopped, a.fenced = true, cmp.Or(a.fenced, fenced)
		if a.process != nil {
			a.process.Stop(0)
		}
		dying = append(dying, a)
	}
	r.mu.Unlock()
	for _, a := range dying {
		<-a.done
	}
}

// Status says where an attempt is; ok is false if the runner has none such.
func (r *Runner) Status(id string, g rota.Generation) (s Status, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.attempts[key{id, g}]
	if a == nil {
		return Status{}, false
	}
	return a.status(), true
}

// Whole reports whether the runner knows of every attempt that it has begun and
// that a scheduler may not have heard of: then it has never begun any other.
func (r *Runner) Whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.forgot
}

// Untold lists what runs and what ended without a scheduler knowing: what a new
// session begins with.
func (r *Runner) Untold() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Status
	for _, a := range r.attempts {
		if !a.told && a.state != job.Starting {
			out = append(out, a.status())
		}
	}
	return out
}

// Commands says what the runner allows: every command, or those that begin with
// one of the words.
func (r *Runner) Commands() (all bool, programs []string) {
	for _, c := range r.policy.commands {
		if p := c.Argv[0]; !slices.Contains(programs, p) {
			programs = append(programs, p)
		}
	}
	return r.policy.any != nil, programs
}

// Templates are the command lines that the runner allows, without what else is configured of
// them.
func (r *Runner) Templates() [][]string {
	out := make([][]string, len(r.policy.commands))
	for n, c := range r.policy.commands {
		out[n] = c.Argv
	}
	return out
}

// Slots is how many jobs run at once at most.
func (r *Runner) Slots() int { return r.cfg.MaxRunning }

// Running is the number of attempts that have not ended.
func (r *Runner) Running() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// Output is the log of an attempt. It is rota.ErrNotFound if there is none.
func (r *Runner) Output(id string, g rota.Generation) (*output.Log, error) {
	r.mu.Lock()
	a := r.attempts[key{id, g}]
	var log *output.Log
	if a != nil {
		log = a.log
	}
	r.mu.Unlock()
	if log != nil {
		return log, nil // it runs, or has output that the disk has refused
	}
	if a == nil || !a.state.Done() {
		return nil, fmt.Errorf("output of job %s: %w", text.Clip(id, text.Short), rota.ErrNotFound)
	}
	log, err := r.cfg.Output.Total.Open(r.path(a.key))
	if errors.Is(err, os.ErrNotExist) {
		return output.Empty(a.written), nil // most often it wrote nothing
	}
	if err == nil {
		log.Written(a.written)
	}
	return log, err
}

// Close stops all jobs in order and waits for their ends. When ctx ends first,
// they are killed. Ends that nobody was told of are told by the next runner.
func (r *Runner) Close(ctx context.Context) {
	r.mu.Lock()
	r.closed = true
	for _, a := range r.attempts {
		if !a.state.Done() {
			a.left = !a.stopped && !a.timeout
			a.stopped = true
			if a.process != nil {
				a.process.Stop(a.spec.Grace)
			}
		}
	}
	if r.sweeper != nil {
		r.sweeper.Stop()
		r.sweeper = nil
	}
	r.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		r.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		r.kill(func(*attempt) bool { return true }, "")
		<-ended
	}
	r.mu.Lock()
	for _, a := range r.attempts {
		r.writeUntold(a)
	}
	r.mu.Unlock()
	r.cancel()
}
