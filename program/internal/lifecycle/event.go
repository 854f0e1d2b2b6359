package lifecycle

import (
	"fmt"
	"strings"
)

// Kind says what happened.
type Kind string

// The kinds of event, with what their fields say.
const (
	Registered         Kind = "registered"          // the program is known where it runs
	Reregistered       Kind = "re-registered"       // the connection is back
	Disconnected       Kind = "disconnected"        // the connection is lost; tasks go on, messages wait
	Waits              Kind = "waiting"             // Text: what is missing for all tasks to start
	TaskLaunched       Kind = "task launched"       // Worker: where
	TaskRunning        Kind = "task running"        // its function runs
	TaskFinished       Kind = "task finished"       // it returned without error
	TaskFailed         Kind = "task failed"         // Text: its error; Stack: if it panicked
	TaskKilled         Kind = "task killed"         // it ended because it was told to
	TaskLost           Kind = "task lost"           // its worker is gone
	WorkerLost         Kind = "worker lost"         // Worker: which
	ResourcesWithdrawn Kind = "resources withdrawn" // Worker: which one gives no more room
	Stalled            Kind = "stalled"             // Task does not read, or, without Task, the scheduler function
	Shutdown           Kind = "shutdown"            // Text: why the program ends
	Error              Kind = "error"               // Text: what went wrong; nothing ends because of it
)

// Event is something that happened, for the scheduler function.
type Event struct {
	Kind       Kind
	Task       string // "elevator-2", where it is about a task
	Generation uint64 // of that task
	Worker     string
	Text       string
	Stack      string
}

// Final reports whether the event is the last of its task's generation.
func (e Event) Final() bool {
	return e.Kind == TaskFinished || e.Kind == TaskFailed || e.Kind == TaskKilled || e.Kind == TaskLost
}

func (e Event) String() string {
	var b strings.Builder
	b.WriteString(string(e.Kind))
	if e.Task != "" {
		fmt.Fprintf(&b, " %s", e.Task)
	}
	if e.Worker != "" {
		fmt.Fprintf(&b, " on %s", e.Worker)
	}
	if e.Text != "" {
		fmt.Fprintf(&b, ": %s", e.Text)
	}
	return b.String()
}
