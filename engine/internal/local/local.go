// Package local is the engine of processes on this machine: each worker is a child of
// this process. They end, handing over what they hold, when their pool does or this
// process ends in order; when it is killed the kernel kills them.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota/engine/internal/room"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/text"
)

const (
	// grace is how long a worker may take to hand over.
	grace = 2 * time.Minute
	// keepEnded is how long the end of a worker is told of.
	keepEnded = time.Minute
	// maxLast is how much of a worker's last line is told.
	maxLast = 300
)

// Config is what the engine needs.
type Config struct {
	// Self is the program that the word "rota" stands for.
	Self string
	// Dir is where workers have their directories, of mode 0700.
	Dir string
	// Output takes what a worker writes. Nil discards it.
	Output func(worker string) io.WriteCloser
	Logger *slog.Logger
}

// Engine is the engine.
type Engine struct {
	cfg Config

	mu     sync.Mutex
	copies map[string]*child // by pid
	closed bool
	waits  sync.WaitGroup
}

// child is a worker's process.
type child struct {
	room.Copy
	process *process.Process
	dir     string
	ended   time.Time
}

// New returns an engine.
func New(c Config) (*Engine, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{cfg: c, copies: map[string]*child{}}, nil
}

// errClosed is the answer to a start while this process ends.
var errClosed = errors.New("this scheduler is ending")

// Start starts a worker as a child.
func (e *Engine) Start(_ context.Context, o room.Order) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return "", errClosed
	}
	dir, err := os.MkdirTemp(e.cfg.Dir, "worker-")
	if err != nil {
		return "", fmt.Errorf("start %s: %w", o.Worker, err)
	}
	token := filepath.Join(dir, "join-token")
	if err := os.WriteFile(token, []byte(o.Token+"\n"), 0o600); err != nil {
		return "", errors.Join(fmt.Errorf("start %s: %w", o.Worker, err), os.RemoveAll(dir))
	}
	argv := slices.Clone(o.Argv)
	if argv[0] == "rota" {
		argv[0] = e.cfg.Self
	}
	last := &lastLine{}
	var out io.WriteCloser = last
	if e.cfg.Output != nil {
		out = both{last, e.cfg.Output(o.Worker)}
	}
	p, err := process.Start(context.Background(), process.Spec{
		Argv: argv, Dir: dir, Stdout: out, Stderr: out, Grace: grace,
		Env: append(o.Environ(), room.TokenFileEnv+"="+token, "PATH="+os.Getenv("PATH"), "HOME="+dir, "TMPDIR="+dir),
	})
	if err != nil {
		return "", errors.Join(err, out.Close(), os.RemoveAll(dir))
	}
	c := &child{
		Copy: room.Copy{
			Cluster: o.Cluster, Pool: o.Pool, Worker: o.Worker, Handle: strconv.Itoa(p.Pid()), State: room.Running, Began: time.Now(),
		},
		process: p, dir: dir,
	}
	for handle, old := range e.copies { // the number may come again
		if old.State == room.Ended && (handle == c.Handle || time.Since(old.ended) > keepEnded) {
			delete(e.copies, handle)
		}
	}
	e.copies[c.Handle] = c
	e.waits.Go(func() { e.wait(c, last, out) })
	return c.Handle, nil
}

// wait sees a child to its end.
func (e *Engine) wait(c *child, last *lastLine, out io.Closer) {
	exit, err := c.process.Wait()
	err = errors.Join(err, out.Close(), os.RemoveAll(c.dir))
	if err != nil {
		e.cfg.Logger.Warn("what a worker's process left", "worker", c.Worker, "error", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	c.State, c.ended, c.Detail = room.Ended, time.Now(), exit.String()
	if line := last.String(); line != "" && !exit.Success() {
		c.Detail += ": " + line
	}
}

// Stop asks a worker to hand over and end.
func (e *Engine) Stop(_ context.Context, handle string) error {
	e.mu.Lock()
	c := e.copies[handle]
	e.mu.Unlock()
	if c != nil {
		c.process.Stop(grace)
	}
	return nil
}

// List lists the children, and those that ended within the last minute.
func (e *Engine) List(context.Context) ([]room.Copy, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]room.Copy, 0, len(e.copies))
	for handle, c := range e.copies {
		if c.State == room.Ended && time.Since(c.ended) > keepEnded {
			delete(e.copies, handle)
			continue
		}
		out = append(out, c.Copy)
	}
	slices.SortFunc(out, func(a, b room.Copy) int { return strings.Compare(a.Worker+a.Handle, b.Worker+b.Handle) })
	return out, nil
}

// Close asks all to end, and kills what has not when ctx ends.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	children := make([]*child, 0, len(e.copies))
	for _, c := range e.copies {
		children = append(children, c)
	}
	e.mu.Unlock()
	for _, c := range children {
		c.process.Stop(grace)
	}
	kill := context.AfterFunc(ctx, func() {
		for _, c := range children {
			c.process.Stop(0)
		}
	})
	defer kill()
	e.waits.Wait()
	return nil
}

// lastLine keeps the last line of what is written.
type lastLine struct {
	mu   sync.Mutex
	line []byte
	next bool // the line is whole: what comes is another
}

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range p {
		switch {
		case b == '\n':
			l.next = true
			continue
		case l.next:
			l.line, l.next = l.line[:0], false
		}
		if len(l.line) < maxLast {
			l.line = append(l.line, b)
		}
	}
	return len(p), nil
}

func (*lastLine) Close() error { return nil }

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return text.Clip(strings.ToValidUTF8(string(l.line), "?"), maxLast)
}

// both writes to the first, and to the second.
type both struct {
	first  *lastLine
	second io.WriteCloser
}

func (b both) Write(p []byte) (int, error) {
	_, _ = b.first.Write(p)
	return b.second.Write(p)
}

func (b both) Close() error { return b.second.Close() }
