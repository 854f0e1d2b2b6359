// Package supervise keeps a worker process as its child, so that its death is
// known the moment it happens and not at the end of its lease: when the process
// and everything that it started is gone, a scheduler is told.
//
// rota dev and rota worker --supervise call it. It never decides where work
// goes; it says that a worker is dead, and starts it again if it is to.
package supervise

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/rota-project/rota/process"
)

// IncarnationEnv tells a worker process which incarnation it is.
const IncarnationEnv = "ROTA_INCARNATION"

// Config says what to keep alive.
type Config struct {
	// Name is the worker's name.
	Name string
	// Argv and Env are the process; Env gets the incarnation added.
	Argv, Env []string
	// Output takes what it writes.
	Output io.Writer
	// Restart starts it again when it ends by itself, after a pause that grows.
	Restart bool
	// Exited is told that an incarnation is dead and all of its processes with
	// it. It is called again until it returns nil, or for ReportFor.
	Exited func(ctx context.Context, incarnation string) error
	// Grace is how long it may take to end when it is asked to. Zero means 30 s.
	Grace  time.Duration
	Logger *slog.Logger
}

const (
	// ReportFor is how long a death is reported for; the lease ends it anyhow.
	ReportFor   = 10 * time.Second
	firstPause  = 100 * time.Millisecond
	longestRest = 10 * time.Second
)

// Run keeps the process until ctx ends, then asks it to end and waits for it.
// Without Restart it returns when the process ends by itself.
func Run(ctx context.Context, c Config) error {
	if c.Grace == 0 {
		c.Grace = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	pause := firstPause
	for first := true; ; first = false {
		began := time.Now()
		exit, err := once(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // asked to end, and nothing runs
		case err != nil && (first || !c.Restart):
			return err
		case err != nil:
			// It could be started before: the machine is short of something.
			c.Logger.Error("worker process not started", "worker", c.Name, "error", err)
		default:
			c.Logger.Warn("worker process ended by itself", "worker", c.Name, "status", exit.String(), "restart", c.Restart)
			if !c.Restart {
				return fmt.Errorf("worker %s: %s", c.Name, exit)
			}
		}
		if time.Since(began) > longestRest {
			pause = firstPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, longestRest)
	}
}

func once(ctx context.Context, c Config) (process.Exit, error) {
	incarnation := strings.ToLower(rand.Text()[:12])
	p, err := process.Start(ctx, process.Spec{
		Argv: c.Argv, Env: append(append([]string{}, c.Env...), IncarnationEnv+"="+incarnation),
		Stdout: c.Output, Stderr: c.Output, Grace: c.Grace, Owner: "rota-supervise-" + incarnation,
	})
	if err != nil {
		return process.Exit{}, fmt.Errorf("worker %s: %w", c.Name, err)
	}
	c.Logger.Info("worker process started", "worker", c.Name, "incarnation", incarnation, "pid", p.Pid())
	exit, err := p.Wait()
	if err != nil {
		c.Logger.Warn("worker's output was cut off", "worker", c.Name, "error", err)
	}
	report(ctx, c, incarnation)
	return exit, nil
}

// report tells of a death, even while the supervisor itself is ending.
func report(ctx context.Context, c Config, incarnation string) {
	if c.Exited == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ReportFor)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := c.Exited(ctx, incarnation)
		if err == nil {
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			c.Logger.Warn("death of the worker not reported; its lease ends it", "worker", c.Name, "error", err)
			return
		}
	}
}
