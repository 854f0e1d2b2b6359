package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/internal/tracing"
)

// Conn connects a function with the rest of its program. It is safe for concurrent use.
type Conn interface {
	// Name returns the task's name, "elevator-2"; empty for the scheduler function.
	Name() string
	// Args and Env return what the task was given.
	Args() []string
	Env() map[string]string
	// Send sends a message: from a task to the scheduler function, or from that to m.Task.
	// It waits while the reader is behind. Data is copied.
	Send(ctx context.Context, m Msg) error
	// Recv waits for the next message. It returns io.EOF when there will be no more and the
	// function has to exit.
	Recv(ctx context.Context) (Msg, error)
	// Request sends a message and waits for its Reply until ctx ends; an error from the
	// other side is a *RemoteError. Replies overtake messages that wait to be read.
	Request(ctx context.Context, m Msg) (Msg, error)
	// Broadcast sends data to all tasks of a name, or to all tasks for "". The error lists
	// the tasks that could not be reached; all others get the data.
	Broadcast(ctx context.Context, name string, data []byte) error
	// Events returns the channel of the program's events, which is closed at its end. It is
	// nil for a task.
	Events() <-chan Event
	// Kill tells one task to exit. It is not started again.
	Kill(task string) error
}

// endpoint is what both sides of a conversation have: an inbox that is read in
// batches, and requests that wait for answers.
type endpoint struct {
	inbox *link.Inbox
	// accept makes a message of a record; ok is false for what is not for the function.
	accept func(r *link.Record) (m Msg, ok bool)

	mu      sync.Mutex
	batch   [64]link.Record
	at, n   int
	reading bool
	waiting chan struct{} // closed when reading ends
	eof     bool
	taken   uint64 // how often something was
	pending map[uint64]*call
	lastID  uint64
}

// call is a request that waits.
type call struct {
	to     any // who may answer
	answer chan Msg
}

// Recv implements Conn.
func (e *endpoint) Recv(ctx context.Context) (Msg, error) {
	var one [1]Msg
	n, err := e.recv(ctx, one[:])
	if err != nil || n == 0 {
		return Msg{}, err
	}
	return one[0], nil
}

// recv waits for at least one message and returns as many as are at hand.
func (e *endpoint) recv(ctx context.Context, into []Msg) (int, error) {
	e.mu.Lock()
	for {
		n := 0
		for e.at < e.n && n < len(into) {
			r := &e.batch[e.at]
			e.at++
			if m, ok := e.accept(r); ok {
				into[n] = m
				n++
			}
		}
		if n > 0 {
			e.taken++
			e.mu.Unlock()
			return n, nil
		}
		if e.eof {
			e.mu.Unlock()
			return 0, io.EOF
		}
		if e.reading { // another goroutine waits at the inbox
			ch := e.waiting
			e.mu.Unlock()
			select {
			case <-ch:
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
			e.mu.Lock()
			continue
		}
		e.reading, e.waiting = true, make(chan struct{})
		e.mu.Unlock()
		k, err := e.inbox.Read(ctx, e.batch[:])
		e.mu.Lock()
		e.reading, e.at, e.n = false, 0, k
		close(e.waiting)
		if errors.Is(err, link.ErrClosed) {
			e.eof = true
		} else if err != nil {
			e.mu.Unlock()
			return 0, err
		}
	}
}

// request registers a call and returns the tag for its message.
func (e *endpoint) request(to any) (tag uint64, c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastID++
	if e.pending == nil {
		e.pending = map[uint64]*call{}
	}
	c = &call{to: to, answer: make(chan Msg, 1)}
	e.pending[e.lastID] = c
	return e.lastID<<kindBits | kindRequest, c
}

func (e *endpoint) forget(tag uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.pending, tag>>kindBits)
}

// answered hands a response to whoever waits for it. What comes too late, or
// from somebody who was not asked, is dropped.
func (e *endpoint) answered(from any, m Msg) {
	e.mu.Lock()
	c := e.pending[m.id()]
	if c == nil || (c.to != nil && c.to != from) {
		e.mu.Unlock()
		return
	}
	delete(e.pending, m.id())
	e.mu.Unlock()
	c.answer <- m
}

// onItsWay is how long an answer may still be on its way when it is known that who gave
// it has ended: the two come by different ways.
const onItsWay = 100 * time.Millisecond

// gone fails the calls that wait for to, which has ended, once no answer can come any more.
func (e *endpoint) gone(to any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.pending {
		if c.to != to {
			continue
		}
		time.AfterFunc(onItsWay, func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.pending[id] == c {
				delete(e.pending, id)
				c.answer <- Msg{err: ErrGone}
			}
		})
	}
}

// ask sends a request by send and waits for its answer.
func (e *endpoint) ask(ctx context.Context, to any, send func(tag uint64) error) (Msg, error) {
	tag, c := e.request(to)
	if err := send(tag); err != nil {
		e.forget(tag)
		return Msg{}, err
	}
	select {
	case m := <-c.answer:
		switch {
		case m.err != nil:
			return Msg{}, m.err
		case m.kind() == kindFailure:
			return Msg{}, &RemoteError{Task: m.Task, Text: string(m.Data)}
		}
		return Msg{Task: m.Task, Data: m.Data}, nil
	case <-ctx.Done():
		e.forget(tag)
		return Msg{}, context.Cause(ctx)
	}
}

// put sends a message on an outlet, an answer beside those that wait. With traces it goes
// behind the trace context that it is sent within, if there is one: releases that know
// nothing of that pass it over.
func put(ctx context.Context, o link.Outlet, m *Msg, traces bool) error {
	var err error
	switch kind := m.kind(); {
	case kind == kindResponse, kind == kindFailure:
		err = o.Reply(ctx, m.tag, m.Data)
	case !traces:
		err = o.Send(ctx, m.tag, m.Data)
	default:
		trace := tracing.Binary(ctx)
		if m.trace != nil {
			trace = *m.trace
		}
		if trace == "" {
			err = o.Send(ctx, m.tag, m.Data)
		} else {
			err = o.SendPair(ctx, kindStatus, []byte(trace), m.tag, m.Data)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, link.ErrTooLarge):
		return fmt.Errorf("%w: it has %d", ErrTooLarge, len(m.Data))
	case errors.Is(err, link.ErrClosed):
		return ErrGone
	}
	return err
}

// traceOf is a trace context that came before a message.
func traceOf(data []byte) *string {
	s := string(data)
	return &s
}

// taskConn is a task's end.
type taskConn struct {
	endpoint
	name      string
	args      []string
	env       map[string]string
	out       link.Outlet
	self      *link.Pipe    // for messages that come back
	said      atomic.Bool   // how it ended was told
	withdrawn atomic.Bool   // its grant has ended
	hard      chan struct{} // closed when it was told to exit at once
	once      sync.Once
	begin     chan struct{} // closed when the program wants it to begin
	beginOnce sync.Once
	traces    bool    // messages carry trace contexts
	next      *string // that of the next message; the endpoint's lock guards it
	ctx       context.Context
	kill      context.CancelCauseFunc
}

var errToldToExit = errors.New("program: the task was told to exit")

func newTaskConn(ctx context.Context, name string, args []string, env map[string]string, window int) *taskConn {
	t := &taskConn{name: name, args: args, env: maps.Clone(env)}
	t.inbox = link.NewInbox()
	t.accept = t.take
	t.self = link.NewPipe(t.inbox, nil, window, nil)
	t.ctx, t.kill = context.WithCancelCause(ctx)
	t.hard, t.begin = make(chan struct{}), make(chan struct{})
	return t
}

func (t *taskConn) Name() string           { return t.name }
func (t *taskConn) Args() []string         { return t.args }
func (t *taskConn) Env() map[string]string { return t.env }
func (t *taskConn) Events() <-chan Event   { return nil }
func (t *taskConn) Kill(string) error      { return ErrNotScheduler }

func (t *taskConn) Broadcast(context.Context, string, []byte) error { return ErrNotScheduler }

func (t *taskConn) Send(ctx context.Context, m Msg) error { return put(ctx, t.out, &m, t.traces) }

func (t *taskConn) Request(ctx context.Context, m Msg) (Msg, error) {
	return t.ask(ctx, nil, func(tag uint64) error {
		m.tag = tag
		return put(ctx, t.out, &m, t.traces)
	})
}

// take makes messages of records; the endpoint's lock is held.
func (t *taskConn) take(r *link.Record) (Msg, bool) {
	m := Msg{Task: t.name, Data: r.Data, tag: r.Tag}
	switch m.kind() {
	case kindMessage, kindRequest:
		m.trace, t.next = t.next, nil
		return m, !t.eof
	case kindStatus:
		t.next = traceOf(r.Data)
	case kindFailure:
		return Msg{Task: t.name, err: errors.New(string(r.Data))}, !t.eof
	case kindStop:
		t.eof = true
		acknowledge(t.out)
	}
	return Msg{}, false
}

// reply takes what comes beside the messages.
func (t *taskConn) reply(from any, tag uint64, data []byte) {
	m := Msg{Task: "scheduler function", Data: data, tag: tag}
	switch m.kind() {
	case kindResponse, kindFailure:
		t.answered(nil, m)
	case kindStatus:
		t.beginOnce.Do(func() { close(t.begin) })
	case kindHard:
		t.exitNow(errToldToExit)
	}
}

// exitNow closes in and ends the context.
func (t *taskConn) exitNow(cause error) {
	t.inbox.Close()
	t.kill(cause)
	t.once.Do(func() { close(t.hard) })
}

// bounce gives a message back that could not be sent.
func (t *taskConn) bounce(err error) {
	if t.self.Room() {
		_ = t.self.Send(t.ctx, kindFailure, []byte(err.Error())) // nobody is left to read it if that fails
	}
	_ = t.out.Reply(t.ctx, kindStatus, status{Note: err.Error()}.encode())
}

// acknowledge lets the other side know at once that all was read.
func acknowledge(o link.Outlet) {
	if l, ok := o.(*link.Lane); ok {
		l.AckNow()
	}
}
