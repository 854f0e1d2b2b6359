// Package supervise is the keeper of worker processes. A worker runs as the
// child of a keeper:
//
//	keeper ──started, heard── worker ──started── processes of tasks and jobs
//	  the worker has ended      all below it is ended, then the death is reported
//	  its lease has ended       if it has not said that what must end with the lease
//	                            has, it is killed, and all below it
//	  the keeper has ended      the worker ends all below it, then itself
//
// So the death of a worker is known the moment it happens and not at the end of
// its lease, and never before everything that it started is gone.
//
// rota dev and rota worker call it. It never decides where work goes; it says
// that a worker is dead, and starts it again if it is to.
package supervise

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/worker"
)

// Variables that tell a worker process which incarnation it is, and that it has a
// keeper: see Join.
const (
	IncarnationEnv = "ROTA_INCARNATION"
	KeptEnv        = "ROTA_KEPT"
)

// EndedError is the error of Run when the worker has ended other than well.
type EndedError struct {
	Name string
	Exit process.Exit
	// Fenced says that the keeper killed it because its lease had ended.
	Fenced bool
}

func (e *EndedError) Error() string {
	if e.Fenced {
		return fmt.Sprintf("worker %s stood still past its lease and was killed", e.Name)
	}
	return fmt.Sprintf("worker %s: %s", e.Name, e.Exit)
}

// Said reports whether the worker ended by itself, and so has said why.
func (e *EndedError) Said() bool { return !e.Fenced && e.Exit.Signal == 0 }

// ExitStatus is what a keeper ends with after this end of its worker.
func (e *EndedError) ExitStatus() int {
	switch {
	case e.Fenced:
		return worker.ExitFenced
	case e.Exit.Signal != 0:
		return 128 + int(e.Exit.Signal)
	}
	return e.Exit.Code
}

// Config says what to keep alive.
type Config struct {
	// Name is the worker's name.
	Name string
	// Argv and Env are the process; Env gets the incarnation added.
	Argv, Env []string
	// Stdout and Stderr take what it writes. An *os.File is handed over, so that
	// the worker can write to it without the keeper.
	Stdout, Stderr io.Writer
	// Signals are passed on to the worker. Nil is none.
	Signals <-chan os.Signal
	// Restart says when it is started again, after a pause that grows.
	Restart Restart
	// Exited is told that an incarnation is dead and all of its processes with
	// it. It is called again until it returns nil, or for reportFor.
	Exited func(ctx context.Context, incarnation string) error
	// Grace is how long it may take to end when it is asked to. Zero means 30 s.
	Grace  time.Duration
	Logger *slog.Logger
}

// Restart is when a process that ended is started again.
type Restart uint8

// The ways to restart.
const (
	Never  Restart = iota
	Ended          // if it ended by itself, not by a signal
	Always         // whatever ended it
)

const (
	// reportFor is how long a death is reported for; the lease ends it anyhow.
	reportFor   = 10 * time.Second
	firstPause  = 100 * time.Millisecond
	longestRest = 10 * time.Second
)

// Run keeps the process until ctx ends, then asks it to end and waits for it.
// Where Restart does not start it again it returns when the process has ended. An end
// that was not well is an *EndedError.
func Run(ctx context.Context, c Config) error {
	if c.Grace == 0 {
		c.Grace = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	pause := backoff.Backoff{First: firstPause, Most: longestRest}
	for first := true; first || pause.Wait(ctx) == nil; first = false {
		began := time.Now()
		err := once(ctx, c)
		ended := (*EndedError)(nil)
		switch died := errors.As(err, &ended); {
		case ctx.Err() != nil && !died:
			return nil // asked to end, and nothing runs
		case ctx.Err() != nil:
			return err
		case died || err == nil:
			status, signalled := "exit status 0", false
			if died {
				status, signalled = ended.Error(), ended.Exit.Signal != 0
			}
			if again := c.Restart == Always || c.Restart == Ended && !signalled; !again {
				return err // not told here: what the process said of its end is to be the last line
			}
			c.Logger.Warn("worker process ended", "worker", c.Name, "status", status, "again", true)
		case c.Restart == Never || first && wrong(err):
			return err
		default:
			// Nothing is wrong with the command: the machine is short of something.
			c.Logger.Error("worker process not started", "worker", c.Name, "error", err)
		}
		if time.Since(began) > longestRest {
			pause.Reset()
		}
	}
	return nil
}

// wrong reports whether a start failed by the command's own fault.
func wrong(err error) bool {
	return errors.As(err, new(*rota.FieldError)) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// once keeps one incarnation from start to end. The error is nil, an *EndedError, or
// why it was not started.
func once(ctx context.Context, c Config) error {
	incarnation := strings.ToLower(rand.Text()[:12])
	says, workerSays, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("worker %s: %w", c.Name, err)
	}
	defer func() { _ = says.Close() }()
	workerLost, alive, err := os.Pipe()
	if err != nil {
		_ = workerSays.Close()
		return fmt.Errorf("worker %s: %w", c.Name, err)
	}
	defer func() { _ = alive.Close() }()
	dir, _ := os.Getwd() // the worker's files may be named from here; "" is /
	p, err := process.Start(ctx, process.Spec{
		Argv: c.Argv, Dir: dir, Env: append(slices.Clone(c.Env), IncarnationEnv+"="+incarnation, KeptEnv+"=yes"),
		Stdout: c.Stdout, Stderr: c.Stderr, Grace: c.Grace, Files: []*os.File{workerSays, workerLost}, Host: true,
	})
	_ = errors.Join(workerSays.Close(), workerLost.Close())
	if err != nil {
		return fmt.Errorf("worker %s: %w", c.Name, err)
	}
	c.Logger.Info("worker process started", "worker", c.Name, "incarnation", incarnation, "pid", p.Pid())
	var fenced atomic.Bool
	leaseless := make(chan bool, 1)
	go func() {
		leaseless <- watch(says, func() {
			c.Logger.Error("worker stands still past its lease; it is killed", "worker", c.Name, "pid", p.Pid())
			fenced.Store(true)
			p.Stop(0)
		})
	}()
	go passOn(c.Signals, p)
	exit, err := p.Wait()
	if err != nil {
		c.Logger.Warn("what the worker left", "worker", c.Name, "error", err)
	}
	none := false
	select {
	case none = <-leaseless:
	case <-time.After(time.Second): // something else was handed its end of the pipe
	}
	if !none || exit.Signal != 0 { // else nobody knows of it, as when its configuration is wrong
		report(ctx, c, incarnation)
	}
	if exit.Success() || exit.Stopped && exit.Signal == syscall.SIGTERM { // asked to, before it had anything to hand over
		return nil
	}
	return &EndedError{Name: c.Name, Exit: exit, Fenced: fenced.Load()}
}

// passOn passes signals on to a process until it has ended.
func passOn(signals <-chan os.Signal, p *process.Process) {
	for {
		select {
		case s := <-signals:
			if s, ok := s.(syscall.Signal); ok {
				_ = p.Signal(s)
			}
		case <-p.Done():
			return
		}
	}
}

// report tells of a death, even while the supervisor itself is ending.
func report(ctx context.Context, c Config, incarnation string) {
	if c.Exited == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportFor)
	defer cancel()
	pause := backoff.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	for {
		err := c.Exited(ctx, incarnation)
		if err == nil {
			return
		}
		if pause.Wait(ctx) != nil {
			c.Logger.Warn("death of the worker not reported; its lease ends it", "worker", c.Name, "error", err)
			return
		}
	}
}
