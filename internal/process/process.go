package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// drainDelay is how long output may still come when all processes have ended:
// something else may have been handed the pipe.
const drainDelay = 10 * time.Second

// Exit is how a process ended.
type Exit struct {
	// Code is the exit status, or -1 if a signal ended it.
	Code int
	// Signal is what ended it, else 0.
	Signal syscall.Signal
	// Stopped says that Stop was called, or ctx ended, before the process did.
	Stopped bool
	// CPU is the time that it and those of its children that it waited for used.
	CPU time.Duration
}

// Success reports whether the process ended by itself with status 0.
func (e Exit) Success() bool { return e.Code == 0 && e.Signal == 0 }

// String says it as a shell would: "exit status 3", "signal: killed".
func (e Exit) String() string {
	if e.Signal != 0 {
		return "signal: " + e.Signal.String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Process is a running group of processes. Its methods may be called from
// anywhere, at any time.
type Process struct {
	cmd    *exec.Cmd
	pid    int
	token  uint64
	grace  time.Duration
	cgroup *cgroupChild
	asked  map[int]bool // what left the group and was asked to end; the host's

	mu      sync.Mutex // guards these
	reaped  bool       // the pid means nothing any more
	stopped bool

	kill   *time.Timer
	killAt time.Time // zero is at once

	done chan struct{}
	exit Exit
	err  error
}

// ErrClosed is the answer to a Start after KillAll.
var ErrClosed = errors.New("process: everything is being ended")

// all are the processes that have not ended.
var all struct {
	sync.Mutex
	processes map[*Process]bool
	closed    bool
}

// Start runs spec. When ctx ends the process is stopped as by Stop. An error is
// a *rota.FieldError if the spec is at fault, else the system's; then nothing
// runs.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("process: start %s: %w", text.Clip(spec.Argv[0], text.Short), err)
	}
	p := &Process{grace: spec.Grace, done: make(chan struct{})}
	if p.grace == 0 {
		p.grace = defaultGrace
	}
	env := spec.environ()
	path, err := spec.program(env)
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(spec.dir()); err != nil || !fi.IsDir() { //nolint:gosec // where to run it is the caller's to say
		return nil, &rota.FieldError{Field: "dir", Value: text.Clip(spec.dir(), text.Short), Want: "a directory that exists"}
	}
	p.cmd = &exec.Cmd{
		Path: path, Args: spec.Argv, Env: env, Dir: spec.dir(),
		Stdout: spec.Stdout, Stderr: spec.Stderr, ExtraFiles: spec.Files, WaitDelay: drainDelay,
	}
	var stdin io.WriteCloser
	switch in := spec.Stdin.(type) {
	case nil:
	case *os.File:
		p.cmd.Stdin = in
	default:
		if stdin, err = p.cmd.StdinPipe(); err != nil {
			return nil, fmt.Errorf("process: %w", err)
		}
	}
	if err := p.launch(spec); err != nil {
		if stdin != nil {
			_ = stdin.Close()
		}
		return nil, err
	}
	if stdin != nil {
		go func() {
			// A process that does not read its input to the end is its own affair.
			_, _ = io.Copy(stdin, spec.Stdin)
			_ = stdin.Close()
		}()
	}
	unhook := context.AfterFunc(ctx, func() { p.Stop(p.grace) })
	go func() {
		p.wait()
		unhook()
		all.Lock()
		delete(all.processes, p)
		all.Unlock()
		close(p.done)
	}()
	return p, nil
}

// launch forks p and makes it known.
func (p *Process) launch(spec Spec) (err error) {
	all.Lock()
	defer all.Unlock()
	if all.closed {
		return ErrClosed
	}
	if err := theHost.enter(p); err != nil {
		return fmt.Errorf("process: %w", err)
	}
	defer func() {
		if err != nil {
			p.cgroup.remove()
			theHost.leave(p)
		}
	}()
	if spec.Cgroup != nil {
		if p.cgroup, err = spec.Cgroup.child(p.token, spec.Limits); err != nil {
			return err
		}
	}
	if err := p.spawn(spec); err != nil {
		return fmt.Errorf("process: start %s: %w", text.Clip(spec.Argv[0], text.Short), err)
	}
	if all.processes == nil {
		all.processes = map[*Process]bool{}
	}
	all.processes[p] = true
	return nil
}

// KillAll kills everything that this package has started and returns when it
// has ended; nothing can be started any more.
func KillAll() {
	all.Lock()
	all.closed = true
	living := slices.Collect(maps.Keys(all.processes))
	all.Unlock()
	for _, p := range living {
		p.Stop(0)
	}
	for _, p := range living {
		<-p.done
	}
}

// Pid is the id of the group and of its leader.
func (p *Process) Pid() int { return p.pid }

// Done is closed when Wait would return.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits until the whole group has ended and its output was taken. The
// error is of the plumbing (a writer that failed, output cut off), not of the
// process: how that ended is in Exit in any case.
func (p *Process) Wait() (Exit, error) {
	<-p.done
	return p.exit, p.err
}

// Stop asks the process and its descendants to end, and kills after grace what
// has not; zero kills at once. It returns before that has happened: wait with
// Wait. Stopping one that has ended does nothing; a second Stop can only bring
// the end forward.
func (p *Process) Stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	at := time.Now().Add(grace)
	switch {
	case grace <= 0:
		p.stopped, p.killAt = true, time.Time{}
		p.killLocked()
	case !p.stopped:
		p.stopped, p.killAt = true, at
		_ = signalGroup(p.pid, syscall.SIGTERM)
		resume(p.pid) // one that is stopped cannot hear it
		theHost.ask(p)
		p.kill = time.AfterFunc(grace, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.killLocked()
		})
	case p.kill != nil && at.Before(p.killAt):
		p.killAt = at
		p.kill.Reset(grace)
	}
}

// due reports whether what lives of p is to be killed, and not waited for.
func (p *Process) due(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.stopped || !now.Before(p.killAt)
}

// Signal sends sig to the group; it does nothing when that has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return nil
	}
	if err := signalGroup(p.pid, sig); err != nil {
		return fmt.Errorf("process: signal %v: %w", sig, err)
	}
	return nil
}

func (p *Process) killLocked() {
	if !p.reaped {
		_ = signalGroup(p.pid, syscall.SIGKILL)
		p.cgroup.kill()
	}
}

// wait sees the process to its end. Its first process is a zombie until the
// others have ended, so that its pid, and the group's id with it, cannot be
// taken by anybody else.
func (p *Process) wait() {
	waitExit(p.pid)
	p.mu.Lock()
	stopped := p.stopped
	if !stopped {
		p.killLocked() // what was asked to end has its grace
	}
	p.mu.Unlock()
	left := theHost.end(p)
	p.mu.Lock()
	p.killLocked() // where there is no host to look after them
	if p.kill != nil {
		p.kill.Stop()
	}
	p.reaped = true
	p.mu.Unlock()
	err := p.cmd.Wait()
	theHost.leave(p)
	p.cgroup.remove()

	p.exit = exitOf(p.cmd.ProcessState)
	p.exit.Stopped = stopped
	var status *exec.ExitError
	switch {
	case errors.As(err, &status):
	case errors.Is(err, exec.ErrWaitDelay):
		p.err = errors.New("process: output cut off: something held it open past the end")
	case err != nil:
		p.err = fmt.Errorf("process: %w", err)
	}
	if left > 0 {
		p.err = errors.Join(p.err, fmt.Errorf("process: %d of its processes were killed and do not end", left))
	}
}

func exitOf(st *os.ProcessState) Exit {
	if st == nil {
		return Exit{Code: -1}
	}
	e := Exit{Code: st.ExitCode(), CPU: st.UserTime() + st.SystemTime()}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}
