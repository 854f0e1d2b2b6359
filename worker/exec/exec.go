// Package exec makes task functions of commands: each instance is a process of
// its own, started from the worker's own configuration, never from what a task
// says.
//
// The command is words and no shell. The first is literal: no task names the
// program. Others may have one parameter, {ID:TYPE}, as package process/words
// has them, or be a text/template of Fields, {{.ID}}. In a template the text of a
// task is held to the type word, so that it can be no option, no other directory
// and no code; a task with other text fails with the reason. The payload is on standard input, and the rest is in the environment too:
// ROTA_TASK, ROTA_INDEX, ROTA_KIND, ROTA_GROUP, ROTA_KEY, ROTA_GENERATION.
// When the grant ends the process and its descendants get SIGTERM, and SIGKILL
// after the grace; nothing of it is left behind. Where the grant ends because the
// worker was cut off, the grace is cut, so that all has ended before the lease has.
package exec

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota/process"
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
	// Output returns what takes the output of a process, and is closed at its
	// end; stream is "stdout" or "stderr". It must not block: a process whose
	// output is not taken stands still. Nil discards all output.
	Output func(f Fields, stream string) io.WriteCloser
	// Grace is how long a process has after SIGTERM. Zero means 10 s.
	Grace time.Duration
	// User runs the processes. Nil means the worker's own user.
	User *process.User
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
		f := Fields{
			ID: a.ID(), Kind: a.Task.Kind, Group: a.Task.Group, Key: a.Task.Key, Index: a.Index,
			Generation: uint64(a.Generation()), Weight: a.Task.Weight, Priority: a.Task.Priority,
		}
		if cmd.wantsFile {
			path, remove, err := payloadFile(a.Task.Payload, c.User)
			if err != nil {
				return err
			}
			defer remove()
			f.PayloadFile = path
		}
		argv, err := cmd.argv(f)
		if err != nil {
			return fmt.Errorf("exec.%s: %w", c.Kind, err)
		}
		return run(ctx, c, argv, f, a)
	}, nil
}

func (c Config) dir() string {
	if len(c.Dirs) == 0 {
		return ""
	}
	return c.Dirs[0]
}

// run is one process from start to end.
func run(ctx context.Context, c Config, argv []string, f Fields, a worker.Assigned) error {
	out, tail := &tailBuffer{}, &tailBuffer{}
	if c.Output != nil {
		out.next, tail.next = c.Output(f, "stdout"), c.Output(f, "stderr")
	}
	defer out.close()
	defer tail.close()
	p, err := process.Start(ctx, process.Spec{
		Argv: argv, Dir: c.dir(), Stdin: bytes.NewReader(a.Task.Payload), Stdout: out, Stderr: tail, Grace: c.Grace,
		User: c.User, NewPrivileges: c.NewPrivileges,
		Env: append(append([]string{}, c.Env...),
			"ROTA_TASK="+f.ID, "ROTA_INDEX="+strconv.Itoa(f.Index), "ROTA_KIND="+f.Kind, "ROTA_GROUP="+f.Group,
			"ROTA_KEY="+f.Key, "ROTA_GENERATION="+strconv.FormatUint(f.Generation, 10)),
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	select {
	case <-p.Done():
	case by := <-a.LeaseEnds():
		p.Stop(time.Until(by)) // the rest of its grace is cut
	}
	exit, err := p.Wait()
	if ctx.Err() != nil {
		return nil // it was asked to end, and has
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", argv[0], exit, err)
	}
	if len(tail.last) == 0 {
		tail.last = out.last // programs that say everything on standard output
	}
	return fmt.Errorf("%s: %s%s", argv[0], exit, tail)
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

// tailBuffer passes what it is given on and keeps its end, for the error text.
type tailBuffer struct {
	next io.WriteCloser // nil: nowhere
	last []byte
}

func (b *tailBuffer) close() {
	if b.next != nil {
		_ = b.next.Close() // nothing that it could fail at matters to the task
	}
}

const tailBytes = 512

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.last = append(b.last, p...)
	if len(b.last) > tailBytes {
		b.last = append(b.last[:0], b.last[len(b.last)-tailBytes:]...)
	}
	if b.next == nil {
		return len(p), nil
	}
	return b.next.Write(p)
}

func (b *tailBuffer) String() string {
	if s := strings.TrimSpace(string(b.last)); s != "" {
		return ": " + s
	}
	return ""
}
