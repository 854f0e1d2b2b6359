// Package exec makes task functions of commands: each instance is a process of
// its own, started from the worker's own configuration, never from what a task
// says.
//
// The command is words and no shell. The first is literal: no task names the
// program. Others may have one parameter, {ID:TYPE}, as package process/words
// has them, or be a text/template of Fields, {{.ID}}. In a template the text of a
// task is held to the type word, so that it can be no option, no other directory
// and no code; a task with other text fails with the reason. The payload is on standard input, and the rest is in the environment too:
// ROTA_TASK, ROTA_INDEX, ROTA_KIND, ROTA_GROUP, ROTA_KEY, ROTA_GENERATION. The first process
// under a grant finds the span that began it in TRACEPARENT, unless the configuration has one.
// A process whose task is declared with another group, key, weight or priority goes
// on, unless its words or its environment would now be others: then it is stopped as
// below, and started anew under the same grant.
// When the grant ends the process and its descendants get SIGTERM, and SIGKILL
// after the grace; nothing of it is left behind. Where the grant ends because the
// worker was cut off, the grace is cut, so that all has ended before the lease has.
package exec

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/worker"
)

// Fields are what the words of a command can name, as {ID:TYPE} or {{.ID}}.
type Fields struct {
	ID, Kind, Group, Key string
	Index                int
	Generation           uint64
	Weight, Priority     float64
	// PayloadFile is the path of a file with the payload. It is only written
	// if the command names it.
	PayloadFile string
}

// Config says what a kind of task runs.
type Config struct {
	// Kind is the kind of task.
	Kind string
	// Command is the command line: words, quotes, no shell.
	Command string
	// Env is the environment beside the variables above. Nothing is inherited.
	Env []string
	// Dirs are the directories in and below which {NAME:path} names files; the first
	// is the working directory. Without any it is "/".
	Dirs []string
	// Output returns what takes the output of a process beside what the worker keeps of
	// it, and is closed at its end; stream is "stdout" or "stderr". It must not block: a
	// process whose output is not taken stands still. Nil is nothing.
	Output func(f Fields, stream string) io.WriteCloser
	// Grace is how long a process has after SIGTERM. Zero means 10 s.
	Grace time.Duration
	// User runs the processes. Nil means the worker's own user.
	User *process.User
	// Logger is told when a process is started anew for a change of its task. Nil
	// discards it.
	Logger *slog.Logger
	// NewPrivileges lets the processes gain privileges by sudo and the like.
	NewPrivileges bool
}

// New returns the task function of c, or a *rota.FieldError. A task whose values
// the command does not take fails with an error that says so.
func New(c Config) (worker.TaskFunc, error) {
	cmd, err := parse(c)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, a worker.Assigned) error {
		f := Fields{ID: a.ID(), Kind: a.Task.Kind, Index: a.Index}
		if cmd.wantsFile {
			path, remove, err := payloadFile(a.Task.Payload, c.User)
			if err != nil {
				return err
			}
			defer remove()
			f.PayloadFile = path
		}
		var begun []string
		if p := tracing.ParentOf(ctx); p != "" {
			begun = []string{tracing.ParentEnv + "=" + p}
		}
		for {
			t, _ := a.Current()
			f = f.of(t)
			f.Generation = uint64(a.Generation())
			argv, err := cmd.argv(f)
			if err != nil {
				return fmt.Errorf("exec.%s: %w", c.Kind, err)
			}
			changed, err := run(ctx, c, cmd, argv, begun, f, a)
			begun = nil // what comes is begun by the change
			if !changed || ctx.Err() != nil {
				return err
			}
			if c.Logger != nil {
				c.Logger.Info("restarting the process: its task has changed", "task", f.ID, "index", f.Index, "generation", f.Generation)
			}
		}
	}, nil
}

// of is f with what can be declared anew under a grant.
func (f Fields) of(t rota.Task) Fields {
	f.Group, f.Key, f.Weight, f.Priority = t.Group, t.Key, t.Weight, t.Priority
	return f
}

// environ are the variables that say what a process runs.
func (f Fields) environ() []string {
	return []string{
		"ROTA_TASK=" + f.ID, "ROTA_INDEX=" + strconv.Itoa(f.Index), "ROTA_KIND=" + f.Kind, "ROTA_GROUP=" + f.Group,
		"ROTA_KEY=" + f.Key, "ROTA_GENERATION=" + strconv.FormatUint(f.Generation, 10),
	}
}

func (c Config) dir() string {
	if len(c.Dirs) == 0 {
		return ""
	}
	return c.Dirs[0]
}

// run is one process from start to end. It reports whether the process ended because
// another one is to run.
func run(ctx context.Context, c Config, cmd *command, argv, begun []string, f Fields, a worker.Assigned) (changed bool, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out, errs := tee{a.Stdout()}, tee{a.Stderr()}
	if c.Output != nil {
		out, errs = append(out, c.Output(f, "stdout")), append(errs, c.Output(f, "stderr"))
	}
	defer out.close()
	defer errs.close()
	p, err := process.Start(ctx, process.Spec{
		Argv: argv, Dir: c.dir(), Stdin: bytes.NewReader(a.Task.Payload), Stdout: out, Stderr: errs, Grace: c.Grace,
		User: c.User, NewPrivileges: c.NewPrivileges,
		Env: slices.Concat(begun, c.Env, f.environ()),
	})
	if err != nil {
		return false, fmt.Errorf("start %s: %w", argv[0], err)
	}
	for running := true; running; {
		t, news := a.Current()
		if !changed && cmd.differ(f, f.of(t)) {
			changed = true
			stop()
		}
		select {
		case <-p.Done():
			running = false
		case <-news:
		case by := <-a.LeaseEnds():
			p.Stop(time.Until(by)) // the rest of its grace is cut
		}
	}
	exit, err := p.Wait()
	if ctx.Err() != nil {
		return changed, nil // it was asked to end, and has
	}
	if err != nil {
		return false, fmt.Errorf("%s: %s: %w", argv[0], exit, err)
	}
	return false, &endedError{argv[0], exit}
}

// endedError says how a process ended that was to go on.
type endedError struct {
	name string
	exit process.Exit
}

func (e *endedError) Error() string { return e.name + ": " + e.exit.String() }

// ExitCode is the exit status; -1 if a signal ended it.
func (e *endedError) ExitCode() int {
	if e.exit.Signal != 0 {
		return -1
	}
	return e.exit.Code
}

func payloadFile(payload []byte, reader *process.User) (path string, remove func(), err error) {
	file, err := os.CreateTemp("", "rota-payload-*")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.Remove(file.Name()) }
	_, err = file.Write(payload)
	if err == nil && reader != nil {
		err = file.Chown(int(reader.UID), int(reader.GID)) // nobody else can read it
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("payload: %w", err)
	}
	return file.Name(), remove, nil
}

// tee hands what is written to several.
type tee []io.WriteCloser

func (t tee) Write(p []byte) (int, error) {
	for _, w := range t {
		if n, err := w.Write(p); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

func (t tee) close() {
	for _, w := range t {
		_ = w.Close() // nothing that it could fail at matters to the task
	}
}
