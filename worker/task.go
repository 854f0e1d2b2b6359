package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/ownership"
)

// TaskFunc runs one instance until ctx ends, which it does when the grant ends. If the pass
// that gave the grant is recorded, the first call under it finds that trace in ctx; a call
// after a failure does not. If it returns before that, with an error, with nil or by a
// panic, it is called again after a growing back-off; `rota task get` shows the text of the
// error. If the error has a method ExitCode() int, such as *exec.ExitError, the event of
// the failure has that exit status.
type TaskFunc func(ctx context.Context, a Assigned) error

// Assigned is an instance that this worker was granted.
type Assigned struct {
	// Task holds the task's ID, Kind, Group, Key, Weight, Priority, Payload and Mode as
	// declared when the function was called; see Current.
	Task rota.Task
	// Index distinguishes the instances of a task.
	Index int

	begin      begin
	generation *atomic.Uint64
	declared   *declared
	load       *load
	hurry      <-chan time.Time
	output     *output
}

// ID is the task's id.
func (a Assigned) ID() string { return a.Task.ID }

// Instance names the instance.
func (a Assigned) Instance() rota.Instance { return rota.Instance{Task: a.Task.ID, Index: a.Index} }

// Generation is the fencing token: pass it to every system that the task writes to, which
// must refuse a lower one than it has seen. It is constant during a call of an exclusive
// task; that of an available task may grow.
func (a Assigned) Generation() rota.Generation { return rota.Generation(a.generation.Load()) }

// LeaseEnds is for functions that take time to end: for an exclusive instance it delivers,
// once, the time by which the function must have returned because the worker can no longer
// trust its lease. The context has ended by then, or before.
func (a Assigned) LeaseEnds() <-chan time.Time { return a.hurry }

// ReportLoad reports the instance's current load, in the unit of the tasks' weights.
func (a Assigned) ReportLoad(v float64) { a.load.report(a.Instance(), v) }

// call is one instance's function, running or about to.
type call struct {
	assigned Assigned
	cancel   context.CancelCauseFunc
	hurry    chan<- time.Time // nil of an available instance, and of one that was told
	release  func()           // of the guard
}

// ErrRevoked is the cause of a task's context that ended because its grant ended.
var ErrRevoked = errors.New("worker: grant ended")

// end is how a call has ended.
type end struct {
	text string // the error's, or the panic's with its stack
	exit ownership.Exit
}

// invoke calls f and says how it ended, also where f ends its goroutine and invoke never
// returns.
func invoke(ctx context.Context, f TaskFunc, a Assigned, end *end) {
	said := &end.text
	defer func() {
		if p := recover(); p != nil {
			*said = fmt.Sprintf("panic: %v\n%s", p, debug.Stack())
		}
		*said = text.Clip(*said, maxErrorText)
	}()
	if f == nil {
		*said = fmt.Sprintf("no function for kind %q on this worker", a.Task.Kind)
		return
	}
	*said = "the function ended its goroutine" // by runtime.Goexit, if it stays at that
	if err := f(ctx, a); err != nil {
		*said = err.Error()
		// Of *exec.ExitError, and what wraps it.
		if of := (interface{ ExitCode() int })(nil); errors.As(err, &of) {
			end.exit = ownership.ExitOf(int64(of.ExitCode()))
		}
		return
	}
	*said = "returned before its grant ended"
}

// maxErrorText is the most of an error that is sent and kept.
const maxErrorText = 2 << 10

func assignedOf(g *rotav1.GrantItem) (Assigned, ownership.Order) {
	t := g.GetTask()
	a := Assigned{
		Task: rota.Task{
			ID: t.GetId(), Kind: t.GetKind(), Group: t.GetGroup(), Key: t.GetKey(), Weight: t.GetWeight(),
			Priority: t.GetPriority(), Payload: t.GetPayload(), Mode: rota.Mode(t.GetMode()),
		},
		Index:      int(g.GetIndex()),
		generation: new(atomic.Uint64),
	}
	if p := g.GetTraceparent(); p != "" {
		a.begin = begin{parent: p, at: time.Now()}
	}
	a.declared = &declared{task: a.Task, changed: make(chan struct{})}
	a.generation.Store(g.GetGeneration())
	return a, ownership.Order{
		Instance: a.Instance(), Generation: rota.Generation(g.GetGeneration()),
		Mode: a.Task.Mode, Priority: a.Task.Priority,
	}
}
