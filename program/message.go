package program

import (
	"context"
	"errors"
	"fmt"

	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// MaxMessage is the maximum size of a message: 1 MiB.
const MaxMessage = link.MaxMessage

// Errors for errors.Is.
var (
	// ErrTooLarge means that a message has more than MaxMessage bytes.
	ErrTooLarge = fmt.Errorf("program: message over the limit of %d bytes", MaxMessage)
	// ErrGone means that the task has ended and will not be started again, or that it ended
	// before it answered.
	ErrGone = errors.New("program: the task is gone")
	// ErrUnknownTask means that the program has no task of that name.
	ErrUnknownTask = errors.New("program: no such task")
	// ErrRunning means that a program of this name is already running.
	ErrRunning = errors.New("program: a program of this name is running")
	// ErrNotScheduler means that only the scheduler function can do this.
	ErrNotScheduler = errors.New("program: only the scheduler function can do that")
	// ErrRefused means that a message was refused because its task does not read.
	ErrRefused = errors.New("program: the task does not read its messages")
)

// Msg is a message between the scheduler function and a task.
type Msg struct {
	// Task is the task at the other end of the scheduler function, "elevator-2": the sender
	// or the receiver. A task may leave it empty when it sends.
	Task string
	// Data is the content, at most MaxMessage bytes.
	Data []byte

	tag   uint64 // what kind it is, and which request it belongs to
	err   error
	trace *string // the trace context that it was sent within, as package tracing has it
}

// Messages carry a tag: the kind below, and above it the number of the request.
const (
	kindMessage  = iota
	kindRequest  // wants a response
	kindResponse // answers a request
	kindFailure  // answers it with an error, or comes back because it could not be sent
	kindEnd      // the task's last message was the one before
	kindStop     // the task is told to exit
	kindStatus   // the task says how it is; among the messages: the trace context of the next one
	kindHard     // the task is told to exit without reading on
)

const kindBits = 3

func (m Msg) kind() uint64 { return m.tag & (1<<kindBits - 1) }
func (m Msg) id() uint64   { return m.tag >> kindBits }

// IsRequest reports whether the sender waits for a Reply.
func (m Msg) IsRequest() bool { return m.kind() == kindRequest }

// Reply returns the answer to m, to be sent like any other message. If m is no request, it
// is an ordinary message to m's sender.
func (m Msg) Reply(data []byte) Msg {
	r := Msg{Task: m.Task, Data: data}
	if m.IsRequest() {
		r.tag = m.id()<<kindBits | kindResponse
	}
	return r
}

// ReplyError returns the answer to the request m with an error.
func (m Msg) ReplyError(err error) Msg {
	return Msg{Task: m.Task, Data: []byte(err.Error()), tag: m.id()<<kindBits | kindFailure}
}

// Within returns m as sent within the span of ctx, for programs with Config.Traces that use
// channels. Conn.Send and the other methods use the span of their own ctx. A span that is
// not recorded does not count. Replies carry no span: the sender of the request has its
// own.
func (m Msg) Within(ctx context.Context) Msg {
	m.trace = nil
	if t := tracing.Binary(ctx); t != "" {
		m.trace = &t
	}
	return m
}

// Context returns ctx with the span within which m was sent, possibly in another process:
// spans started with it become children of that span. If m has no span, it returns ctx.
func (m Msg) Context(ctx context.Context) context.Context {
	if m.trace == nil {
		return ctx
	}
	return tracing.Within(ctx, *m.trace)
}

// Err returns the error of a message that came back to a task in its channel in because it
// could not be sent. Such a message has no data.
func (m Msg) Err() error { return m.err }

// RemoteError is an error with which the other end answered a request.
type RemoteError struct {
	Task string
	Text string
}

func (e *RemoteError) Error() string { return e.Task + ": " + e.Text }

// Event is something that happened in a program; see Kind for the kinds.
type Event = lifecycle.Event

// Kind says what happened.
type Kind = lifecycle.Kind

// The kinds of events.
const (
	Registered         = lifecycle.Registered
	Reregistered       = lifecycle.Reregistered
	Disconnected       = lifecycle.Disconnected
	Waits              = lifecycle.Waits
	TaskLaunched       = lifecycle.TaskLaunched
	TaskRunning        = lifecycle.TaskRunning
	TaskFinished       = lifecycle.TaskFinished
	TaskFailed         = lifecycle.TaskFailed
	TaskKilled         = lifecycle.TaskKilled
	TaskLost           = lifecycle.TaskLost
	WorkerLost         = lifecycle.WorkerLost
	ResourcesWithdrawn = lifecycle.ResourcesWithdrawn
	Stalled            = lifecycle.Stalled
	Shutdown           = lifecycle.Shutdown
	Error              = lifecycle.Error
)

// Policy says what follows when a task fails or is lost.
type Policy = lifecycle.Policy

// The failure policies.
const (
	StopAll     = lifecycle.StopAll
	RestartTask = lifecycle.RestartTask
	RestartAll  = lifecycle.RestartAll
)

// TaskError is the error of a program that ended because of one of its tasks.
type TaskError = lifecycle.TaskError

// SchedError is the error of a program whose scheduler function panicked or did not return.
type SchedError struct {
	Text  string
	Stack string // of a panic
}

func (e *SchedError) Error() string { return "scheduler function: " + e.Text }
