package program

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/rota-project/rota/internal/program/flow"
	"github.com/rota-project/rota/internal/program/link"
)

// secret is what the addresses of a program's ends are made from: who does not
// know it can reach none of them.
type secret [32]byte

// addr derives the address of an end.
func (s secret) addr(what string, generation uint64) flow.Addr {
	h := sha256.New()
	h.Write(s[:])
	var g [8]byte
	binary.BigEndian.PutUint64(g[:], generation)
	h.Write(g[:])
	h.Write([]byte(what))
	var sum [32]byte
	h.Sum(sum[:0])
	return flow.Addr(sum[:16])
}

// The ends beside the tasks, whose names always have an index.
const (
	schedEnd   = "scheduler function"
	controlEnd = "control"
)

// order tells a worker process to run a task. It is JSON on the wire.
type order struct {
	Function   string            `json:"function"`
	Task       string            `json:"task"`
	Generation uint64            `json:"generation"`
	Args       []string          `json:"args,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	Secret     []byte            `json:"secret"`
	Window     int               `json:"window"`
	Relays     []string          `json:"relays,omitempty"` // where the scheduler function is
	Traces     bool              `json:"traces,omitempty"` // messages carry trace contexts
}

func (p *peer) order(key secret, r *run) order {
	return order{
		Function: p.spec.Name, Task: p.name, Generation: p.generation,
		Args: p.spec.Args, Env: p.spec.Env, Secret: key[:], Window: r.window,
		Traces: r.p.cfg.Traces,
	}
}

// lastWords is how long a task that was told to exit at once may take to say
// how it ended.
const lastWords = 5 * time.Second

func (o *order) check() error {
	if len(o.Secret) != len(secret{}) {
		return fmt.Errorf("an order for task %q without its secret", o.Task)
	}
	return nil
}

// serveOrder runs one task in a worker process, to its end and until the
// scheduler function has read all that it sent. Ctx is the worker's.
func serveOrder(ctx context.Context, node *link.Node, fs *Functions, o order) error {
	if err := o.check(); err != nil {
		return err
	}
	t, lane, end := bindOrder(ctx, node, o)
	defer end.Close()
	return t.serveLane(ctx, lane, fs, o)
}

// serveGranted runs one task on a worker of a cluster. Ctx is its grant: when it
// ends the task exits at once. The function begins when the program says so,
// which it does for a generation that it still wants.
func serveGranted(ctx context.Context, node *link.Node, fs *Functions, o order) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	t, lane, end := bindOrder(own, node, o)
	defer end.Close()
	defer context.AfterFunc(ctx, func() {
		t.withdrawn.Store(true) // first: what the function answers to it is no end of its own
		t.exitNow(context.Cause(ctx))
	})()
	select {
	case <-t.begin:
		_ = t.serveLane(ctx, lane, fs, o) // it fails if the end of the grant cut its last words short
	case <-ctx.Done():
	}
}

// bindOrder makes the task's end.
func bindOrder(ctx context.Context, node *link.Node, o order) (*taskConn, *link.Lane, *link.End) {
	key := secret(o.Secret)
	t := newTaskConn(ctx, o.Task, o.Args, o.Env, o.Window)
	t.traces = o.Traces
	end := node.Bind(key.addr(o.Task, o.Generation), t.inbox, t.reply)
	lane := end.Open(key.addr(schedEnd, 0), nil, o.Window)
	t.out = lane
	return t, lane, end
}

// serveLane runs the function and stays until all that it sent was read, or,
// if it was told to exit at once, for its last words.
func (t *taskConn) serveLane(ctx context.Context, lane *link.Lane, fs *Functions, o order) error {
	f := fs.get(o.Function)
	if f == nil {
		f = func(context.Context, Conn) error { return fmt.Errorf("%w: %s", errNoFunction, o.Function) }
	}
	t.serve(f)
	drain, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-t.hard:
			timer := time.NewTimer(lastWords)
			defer timer.Stop()
			select {
			case <-timer.C:
				cancel()
			case <-drain.Done():
			}
		case <-drain.Done():
		}
	}()
	return lane.Drain(drain)
}
