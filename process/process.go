package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rota-project/rota"
)

// How long output may still come after the group was killed: first until what
// left the group is looked for, then until the pipes are closed.
const (
	escapeDelay = 250 * time.Millisecond
	drainDelay  = 10 * time.Second
)

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
	owner  string
	grace  time.Duration
	cgroup *cgroupChild

	mu      sync.Mutex
	reaped  bool // the pid means nothing any more
	stopped bool

	kill   *time.Timer // guarded by mu, as is killAt
	killAt time.Time

	done chan struct{}
	exit Exit
	err  error
}

var tokens atomic.Uint64

// live holds the tokens of processes that have not ended; Sweep leaves them alone.
var live sync.Map

// Start runs spec. When ctx ends the process is stopped as by Stop. An error is
// a *rota.FieldError if the spec is at fault, else the system's; then nothing
// runs.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("process: start %s: %w", clip(spec.Argv[0]), err)
	}
	p := &Process{token: tokens.Add(1), owner: spec.Owner, grace: spec.Grace, done: make(chan struct{})}
	if p.grace == 0 {
		p.grace = DefaultGrace
	}
	env := spec.environ(p.mark())
	path, err := spec.program(env)
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(spec.dir()); err != nil || !fi.IsDir() {
		return nil, &rota.FieldError{Field: "dir", Value: clip(spec.dir()), Want: "a directory that exists"}
	}
	p.cmd = &exec.Cmd{
		Path: path, Args: spec.Argv, Env: env, Dir: spec.dir(),
		Stdout: spec.Stdout, Stderr: spec.Stderr, WaitDelay: drainDelay,
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
	if spec.Cgroup != nil {
		if p.cgroup, err = spec.Cgroup.child(p.token, spec.Limits); err != nil {
			return nil, err
		}
	}
	live.Store(p.token, struct{}{})
	release, err := p.spawn(spec)
	if err != nil {
		live.Delete(p.token)
		p.cgroup.remove()
		if stdin != nil {
			_ = stdin.Close()
		}
		return nil, fmt.Errorf("process: start %s: %w", clip(spec.Argv[0]), err)
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
		release()
		close(p.done)
	}()
	return p, nil
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

// Stop asks the group to end and kills it after grace; zero kills at once. It
// returns before that has happened: wait with Wait. Stopping one that has ended
// does nothing; a second Stop can only bring the end forward.
func (p *Process) Stop(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return
	}
	if grace <= 0 {
		p.stopped = true
		p.killLocked()
		return
	}
	at := time.Now().Add(grace)
	switch {
	case !p.stopped:
		p.stopped = true
		_ = syscall.Kill(-p.pid, syscall.SIGTERM)
		_ = syscall.Kill(-p.pid, syscall.SIGCONT) // one that is stopped cannot hear it
		p.killAt = at
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

// Signal sends sig to the group; it does nothing when that has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return nil
	}
	if err := syscall.Kill(-p.pid, sig); err != nil {
		return fmt.Errorf("process: signal %v: %w", sig, err)
	}
	return nil
}

func (p *Process) killLocked() {
	if !p.reaped {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		p.cgroup.kill()
	}
}

// wait sees the process to its end.
func (p *Process) wait() {
	waitExit(p.pid)
	// The leader is a zombie now, so its pid, and the group's id with it,
	// cannot be taken by anybody else before it is reaped.
	p.mu.Lock()
	p.killLocked()
	stopped := p.stopped
	if p.kill != nil {
		p.kill.Stop()
	}
	p.reaped = true
	p.mu.Unlock()
	live.Delete(p.token)

	// Whatever left the group may still hold the output open.
	escaped := time.AfterFunc(escapeDelay, func() { _, _ = sweep(p.owner) })
	err := p.cmd.Wait()
	escaped.Stop()
	p.cgroup.remove()
	sweepSoon(p.owner)

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
