package mesosgot

import "github.com/rota-project/rota/program"

// SchedEventType says what happened.
type SchedEventType int

// The types of event.
const (
	Registered SchedEventType = iota
	Reregistered
	Disconnected
	TaskLaunched
	TaskRunning
	TaskFinished
	TaskFailed
	TaskKilled
	TaskLost
	OfferRescinded
	SlaveLost
	ExecutorLost
	Shutdown
	Error
	NumSchedEventTypes
)

var eventTypeNames = [NumSchedEventTypes]string{
	"Registered", "Reregistered", "Disconnected", "TaskLaunched", "TaskRunning", "TaskFinished", "TaskFailed", "TaskKilled",
	"TaskLost", "OfferRescinded", "SlaveLost", "ExecutorLost", "Shutdown", "Error",
}

func (t SchedEventType) String() string {
	if t >= 0 && t < NumSchedEventTypes {
		return eventTypeNames[t]
	}
	return "UnknownEventType"
}

// SchedEvent is something that happened. EventData is the task's name, the worker's,
// or a text.
type SchedEvent struct {
	EventType SchedEventType
	EventData any
}

var eventTypes = map[program.Kind]SchedEventType{
	program.Registered: Registered, program.Reregistered: Reregistered, program.Disconnected: Disconnected,
	program.TaskLaunched: TaskLaunched, program.TaskRunning: TaskRunning, program.TaskFinished: TaskFinished,
	program.TaskFailed: TaskFailed, program.TaskKilled: TaskKilled, program.TaskLost: TaskLost, program.WorkerLost: SlaveLost,
	program.ResourcesWithdrawn: OfferRescinded, program.Shutdown: Shutdown, program.Error: Error, program.Stalled: Error, program.Waits: Error,
}

func fromEvent(e program.Event) SchedEvent {
	data := e.Task
	switch {
	case e.Kind == program.WorkerLost:
		data = e.Worker
	case e.Task == "" || eventTypes[e.Kind] == Error:
		data = e.String()
	}
	return SchedEvent{eventTypes[e.Kind], data}
}

// forward hands events on until over, and closes begun when the tasks have places, or
// will have none. Nobody reads before that: what is too much is dropped. The channel is
// not closed: old loops read it without asking.
func forward(events <-chan program.Event, to chan<- SchedEvent, begun chan<- struct{}, over <-chan struct{}) {
	early := true
	begin := func() {
		if early {
			early = false
			close(begun)
		}
	}
	defer begin()
	for e := range events {
		if e.Kind == program.TaskLaunched || e.Kind == program.Shutdown {
			begin()
		}
		if early {
			select {
			case to <- fromEvent(e):
			default:
			}
			continue
		}
		select {
		case to <- fromEvent(e):
		case <-over:
			return
		}
	}
}
