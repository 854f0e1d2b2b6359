package lifecycle

import (
	"fmt"
	"slices"
	"strings"
)

// Policy says what follows when a task fails or is lost.
type Policy string

// The failure policies.
const (
	// StopAll ends the whole program. It is the default.
	StopAll Policy = "stop-all"
	// RestartTask starts the task again: the same index, a higher generation.
	RestartTask Policy = "restart-task"
	// RestartAll stops all tasks and starts all of them again.
	RestartAll Policy = "restart-all"
)

// Phase is where a program is.
type Phase string

// The phases of a program.
const (
	Waiting    Phase = "waiting" // for room or for functions
	Running    Phase = "running"
	Restarting Phase = "restarting" // all end, then all start again
	Stopping   Phase = "stopping"
	Over       Phase = "over"
)

// State is where a task is.
type State string

// The states of a task.
const (
	Pending  State = "waiting" // for the gang, or for its turn after a failure
	Launched State = "launched"
	Started  State = "running"
	Stopped  State = "stopping" // told to exit
	Finished State = "finished"
	Failed   State = "failed"
	Killed   State = "killed"
	Lost     State = "lost"
)

// ended reports whether s is final for a generation.
func (s State) ended() bool {
	return s == Finished || s == Failed || s == Killed || s == Lost
}

// Ending is how one generation of a task ended.
type Ending struct {
	State State // Finished, Failed, Killed or Lost
	Text  string
	Stack string // of a panic
}

// Task is one task as the machine sees it.
type Task struct {
	Name       string // with its index
	State      State
	Generation uint64
	Worker     string
	Text       string // of its last failure
	Failures   int    // in a row
	told       bool   // told to exit, in this generation
	early      bool   // it said that it runs before it was known to be launched
	killed     bool   // asked for by name: not a failure, not started again
}

// Effect is something to do. Exactly one of the pointers is set, except that
// EndScheduler and Done may come alone.
type Effect struct {
	Tell  *Event
	Place []Start // all of them or none
	Stop  *Stop
	// EndScheduler closes what the scheduler function reads: nothing will come any more.
	EndScheduler bool
	// Done says that the program is over, and Err why if it failed.
	Done bool
	Err  error
}

// Start is a task to start. Failures says how often it failed in a row, to wait
// accordingly.
type Start struct {
	Task       int
	Generation uint64
	Failures   int
}

// Stop tells a task to exit; Hard does not wait for what it was sent before.
type Stop struct {
	Task       int
	Generation uint64
	Hard       bool
}

// Machine is the state of one program.
type Machine struct {
	policy   Policy
	tasks    []Task
	phase    Phase
	missing  string
	schedEnd bool  // the scheduler function returned
	told     bool  // EndScheduler was said
	err      error // why the program failed
	effects  []Effect
}

// New returns the machine of a program whose tasks have the given names.
func New(policy Policy, names []string) *Machine {
	m := &Machine{policy: policy, phase: Waiting}
	if m.policy == "" {
		m.policy = StopAll
	}
	for _, n := range names {
		m.tasks = append(m.tasks, Task{Name: n, State: Pending})
	}
	return m
}

// Effects returns what is to be done since it was last asked.
func (m *Machine) Effects() []Effect {
	e := m.effects
	m.effects = nil
	return e
}

// Phase is where the program is.
func (m *Machine) Phase() Phase { return m.phase }

// Missing is what is not there while the program waits.
func (m *Machine) Missing() string { return m.missing }

// Tasks are all tasks as they stand.
func (m *Machine) Tasks() []Task { return slices.Clone(m.tasks) }

func (m *Machine) tell(kind Kind, t *Task, text, stack string) {
	e := &Event{Kind: kind, Text: text, Stack: stack}
	if t != nil {
		e.Task, e.Generation, e.Worker = t.Name, t.Generation, t.Worker
	}
	m.effects = append(m.effects, Effect{Tell: e})
}

// Begin starts the program: it is registered, and its tasks wait for a place.
func (m *Machine) Begin() {
	m.tell(Registered, nil, "", "")
	m.placeAll()
}

func (m *Machine) placeAll() {
	m.phase = Waiting
	var all []Start
	for i := range m.tasks {
		all = append(all, m.start(i))
	}
	if len(all) == 0 {
		m.phase = Running
		return
	}
	m.effects = append(m.effects, Effect{Place: all})
}

func (m *Machine) start(i int) Start {
	t := &m.tasks[i]
	t.State, t.Worker, t.told, t.killed, t.early = Pending, "", false, false, false
	t.Generation++
	return Start{Task: i, Generation: t.Generation, Failures: t.Failures}
}

// Waits says what is missing while tasks have no place. The scheduler function
// hears of it when that changes.
func (m *Machine) Waits(missing string) {
	if m.phase == Stopping || m.phase == Over || missing == m.missing {
		return
	}
	m.missing = missing
	if missing != "" {
		m.tell(Waits, nil, missing, "")
	}
}

// current returns task i if generation is its present one and has not ended.
func (m *Machine) current(i int, generation uint64) *Task {
	if i < 0 || i >= len(m.tasks) {
		return nil
	}
	if t := &m.tasks[i]; t.Generation == generation && !t.State.ended() {
		return t
	}
	return nil
}

// Launched says that the task has a place on a worker. It answers false if
// nobody wants it any more: what was launched has to be stopped.
func (m *Machine) Launched(i int, generation uint64, worker string) bool {
	t := m.current(i, generation)
	if t == nil || t.State != Pending {
		return t != nil
	}
	t.State, t.Worker = Launched, worker
	m.tell(TaskLaunched, t, "", "")
	if t.early {
		m.Started(i, generation)
	}
	if m.phase == Waiting && !slices.ContainsFunc(m.tasks, func(t Task) bool { return t.State == Pending }) {
		m.phase, m.missing = Running, ""
	}
	return true
}

// Started says that the task's function runs.
func (m *Machine) Started(i int, generation uint64) {
	t := m.current(i, generation)
	if t == nil || t.State != Launched {
		if t != nil && t.State == Pending {
			t.early = true
		}
		return
	}
	t.State = Started
	m.tell(TaskRunning, t, "", "")
}

// Steady says that the task has run for long enough to forget its failures.
func (m *Machine) Steady(i int, generation uint64) {
	if t := m.current(i, generation); t != nil && t.State == Started {
		t.Failures = 0
	}
}

var finals = map[State]Kind{Finished: TaskFinished, Failed: TaskFailed, Killed: TaskKilled, Lost: TaskLost}

// Ended says how the task ended, and does what the policy says.
func (m *Machine) Ended(i int, generation uint64, e Ending) {
	m.finish(i, generation, e)
	m.settle()
}

// finish is Ended without what follows when it was the last.
func (m *Machine) finish(i int, generation uint64, e Ending) {
	t := m.current(i, generation)
	if t == nil || m.phase == Over {
		return
	}
	if t.told && (e.State == Finished || e.State == Failed) {
		e.State = Killed // it ended because it was told to
	}
	t.State, t.Text = e.State, e.Text
	m.tell(finals[e.State], t, e.Text, e.Stack)
	failed := (e.State == Failed || e.State == Lost || e.State == Killed) && !t.killed && !t.told
	if failed {
		t.Failures++
	}
	switch {
	case m.phase == Stopping:
	case m.phase == Restarting:
	case !failed:
	case m.policy == RestartTask:
		m.effects = append(m.effects, Effect{Place: []Start{m.start(i)}})
	case m.policy == RestartAll:
		m.phase = Restarting
		m.stopAll()
	default:
		m.fail(&TaskError{Task: t.Name, Generation: t.Generation, Worker: t.Worker, How: e.State, Text: e.Text, Stack: e.Stack})
	}
}

// WorkerLost says that a worker is gone, and all tasks on it.
func (m *Machine) WorkerLost(worker, text string) {
	if m.phase == Over {
		return
	}
	m.effects = append(m.effects, Effect{Tell: &Event{Kind: WorkerLost, Worker: worker, Text: text}})
	type lost struct {
		i   int
		gen uint64
	}
	var all []lost // first all that are lost, then what follows from it
	for i := range m.tasks {
		if t := &m.tasks[i]; t.Worker == worker && !t.State.ended() {
			all = append(all, lost{i, t.Generation})
		}
	}
	for _, l := range all {
		m.finish(l.i, l.gen, Ending{State: Lost, Text: "worker " + worker + " is gone: " + text})
	}
	m.settle()
}

// Withdrawn says that the task's worker gives it no more room, before it is said
// how the task ended.
func (m *Machine) Withdrawn(i int, generation uint64) {
	if t := m.current(i, generation); t != nil && m.phase != Over {
		m.tell(ResourcesWithdrawn, t, "", "")
	}
}

// Note tells the scheduler function something that changes nothing.
func (m *Machine) Note(e Event) {
	if m.phase != Over {
		m.effects = append(m.effects, Effect{Tell: &e})
	}
}

// Kill ends one task by name, because the scheduler function or a person wants it.
func (m *Machine) Kill(name string) error {
	i := slices.IndexFunc(m.tasks, func(t Task) bool { return t.Name == name })
	if i < 0 {
		return fmt.Errorf("no task %q in the program", name)
	}
	t := &m.tasks[i]
	if !t.State.ended() && !t.told {
		t.killed = true
		m.stop(i)
		m.settle()
	}
	return nil
}

// Overdue says that a task was told to exit and has not for too long.
func (m *Machine) Overdue(i int, generation uint64) {
	if t := m.current(i, generation); t != nil && t.told {
		m.effects = append(m.effects, Effect{Stop: &Stop{Task: i, Generation: generation, Hard: true}})
	}
}

// Return says that the scheduler function has returned, with an error or without.
func (m *Machine) Return(err error) {
	if m.schedEnd {
		return
	}
	m.schedEnd = true
	if err != nil && m.err == nil && m.phase != Stopping {
		m.err = err
	}
	m.end("the scheduler function has returned")
	m.settle()
}

// Stop ends the program from outside.
func (m *Machine) Stop(reason string, err error) {
	if m.phase == Stopping || m.phase == Over {
		return
	}
	if m.err == nil {
		m.err = err
	}
	m.end(reason)
	m.settle()
}

func (m *Machine) fail(err error) {
	if m.err == nil {
		m.err = err
	}
	m.end(err.Error())
}

func (m *Machine) end(reason string) {
	if m.phase == Stopping || m.phase == Over {
		return
	}
	m.phase, m.missing = Stopping, ""
	m.tell(Shutdown, nil, reason, "")
	m.stopAll()
}

// stopAll tells all tasks to exit. Those that have no place yet end at once.
func (m *Machine) stopAll() {
	for i := range m.tasks {
		if t := &m.tasks[i]; !t.State.ended() && !t.told {
			m.stop(i)
		}
	}
}

func (m *Machine) stop(i int) {
	t := &m.tasks[i]
	pending := t.State == Pending
	t.State, t.told = Stopped, true
	if t.Generation == 0 {
		t.State = Killed // it never was
		return
	}
	m.effects = append(m.effects, Effect{Stop: &Stop{Task: i, Generation: t.Generation}})
	if pending {
		m.finish(i, t.Generation, Ending{State: Killed, Text: "it had no place yet"})
	}
}

// settle does what follows when all tasks have ended.
func (m *Machine) settle() {
	if m.phase != Stopping && m.phase != Restarting {
		return
	}
	if slices.ContainsFunc(m.tasks, func(t Task) bool { return !t.State.ended() }) {
		return
	}
	if m.phase == Restarting {
		m.placeAll()
		return
	}
	if !m.told {
		m.told = true
		m.effects = append(m.effects, Effect{EndScheduler: true})
	}
	if m.schedEnd {
		m.phase = Over
		m.effects = append(m.effects, Effect{Done: true, Err: m.err})
	}
}

// TaskError is why a program failed: one of its tasks did.
type TaskError struct {
	Task       string
	Generation uint64
	Worker     string
	How        State // Failed, Lost or Killed
	Text       string
	Stack      string // of a panic
}

func (e *TaskError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "task %s", e.Task)
	if e.Worker != "" {
		fmt.Fprintf(&b, " on %s", e.Worker)
	}
	fmt.Fprintf(&b, " %s", e.How)
	if e.Text != "" {
		fmt.Fprintf(&b, ": %s", e.Text)
	}
	return b.String()
}
