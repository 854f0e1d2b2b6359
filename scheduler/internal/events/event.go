package events

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota"
)

// Kinds of events. What stands before the dot is whom they are about.
const (
	WorkerJoined     = "worker.joined"
	WorkerLeaving    = "worker.leaving"
	WorkerLeft       = "worker.left"
	WorkerLost       = "worker.lost"
	WorkerFenced     = "worker.fenced"
	WorkerCordoned   = "worker.cordoned"
	WorkerDraining   = "worker.draining"
	WorkerUncordoned = "worker.uncordoned"
	WorkerForgotten  = "worker.forgotten"

	Pass      = "pass"
	PassAsked = "pass.asked"

	TaskDeclared  = "task.declared"
	TaskChanged   = "task.changed"
	TaskGone      = "task.gone"
	TaskGranted   = "task.granted"
	TaskMoved     = "task.moved"
	TaskStarted   = "task.started"
	TaskFailed    = "task.failed"
	TaskRestarted = "task.restarted"
	TaskStuck     = "task.stuck"
	TaskStopped   = "task.stopped"
	TaskSuspected = "task.suspected"
	TaskHeld      = "task.held"
	TaskReleased  = "task.released"
	TaskCleared   = "task.cleared"

	JobQueued    = "job.queued"
	JobStarting  = "job.starting"
	JobRunning   = "job.running"
	JobSucceeded = "job.succeeded"
	JobFailed    = "job.failed"
	JobStopping  = "job.stopping"
	JobStopped   = "job.stopped"
	JobTimedOut  = "job.timed-out"
	JobLost      = "job.lost"
	JobRetried   = "job.retried"
	JobDeleted   = "job.deleted"

	JobScheduleDeclared = "jobschedule.declared"
	JobScheduleChanged  = "jobschedule.changed"
	JobSchedulePaused   = "jobschedule.paused"
	JobScheduleResumed  = "jobschedule.resumed"
	JobScheduleDeleted  = "jobschedule.deleted"
	JobScheduleFired    = "jobschedule.fired"
	JobScheduleSkipped  = "jobschedule.skipped"
	JobScheduleMissed   = "jobschedule.missed"

	ProgramStarted  = "program.started"
	ProgramPhase    = "program.phase"
	ProgramTask     = "program.task"
	ProgramStopping = "program.stopping"
	ProgramEnded    = "program.ended"

	PoolDeclared = "pool.declared"
	PoolChanged  = "pool.changed"
	PoolScaled   = "pool.scaled"
	PoolDeleted  = "pool.deleted"
	PoolGone     = "pool.gone"
	PoolStarted  = "pool.started"
	PoolEnded    = "pool.ended"
	PoolFailed   = "pool.failed"
	PoolAway     = "pool.away"

	LeaderElected  = "leader.elected"
	LeaderResigned = "leader.resigned"

	SourceTaken     = "source.taken"
	SourceFailed    = "source.failed"
	SourceHeld      = "source.held"
	SourceConfirmed = "source.confirmed"

	// LeftOut says how many events of which kinds were over their budgets.
	LeftOut = "events.left-out"
)

// kinds are all of them.
var kinds = []string{
	WorkerJoined, WorkerLeaving, WorkerLeft, WorkerLost, WorkerFenced, WorkerCordoned, WorkerDraining, WorkerUncordoned, WorkerForgotten,
	Pass, PassAsked,
	TaskDeclared, TaskChanged, TaskGone, TaskGranted, TaskMoved, TaskStarted, TaskFailed, TaskRestarted, TaskStuck, TaskStopped,
	TaskSuspected, TaskHeld, TaskReleased, TaskCleared,
	JobQueued, JobStarting, JobRunning, JobSucceeded, JobFailed, JobStopping, JobStopped, JobTimedOut, JobLost, JobRetried, JobDeleted,
	JobScheduleDeclared, JobScheduleChanged, JobSchedulePaused, JobScheduleResumed, JobScheduleDeleted, JobScheduleFired, JobScheduleSkipped, JobScheduleMissed,
	ProgramStarted, ProgramPhase, ProgramTask, ProgramStopping, ProgramEnded,
	PoolDeclared, PoolChanged, PoolScaled, PoolDeleted, PoolGone, PoolStarted, PoolEnded, PoolFailed, PoolAway,
	LeaderElected, LeaderResigned, SourceTaken, SourceFailed, SourceHeld, SourceConfirmed, LeftOut,
}

// Known reports whether a filter may name a kind: it is one, or stands before the dot of some.
func Known(kind string) bool {
	return slices.ContainsFunc(kinds, func(k string) bool { return k == kind || strings.HasPrefix(k, kind+".") })
}

// Subject is what an event is about. What does not concern it is empty.
type Subject struct {
	Task       string
	Index      int
	Generation rota.Generation
	Worker     string
	Job        string
	Program    string
	Pool       string
}

// Of is the subject of an instance of a task, on a worker if that is not empty.
func Of(i rota.Instance, worker string, g rota.Generation) Subject {
	return Subject{Task: i.Task, Index: i.Index, Worker: worker, Generation: g}
}

// Event is something that happened.
type Event struct {
	Kind    string
	Time    time.Time // zero: when it is recorded
	Subject Subject
	// Text is the reason, or the error. Of it 1 KiB is kept.
	Text string
	// Who asked for it, as the credentials say; empty: nobody did.
	Who string
	// From is the worker that a task was on before.
	From string
	// Exit is the exit status of a process that ended by itself; nil: there is none.
	Exit *int
	// Moves are those of a pass. The first MaxMoves are kept.
	Moves []rota.Move
	// Count is how many events alike it stands for. Zero means one.
	Count int
	// LeftOut is how many moves, tasks or events are not told of one by one.
	LeftOut int
}

// Limits of an event.
const (
	// MaxMoves is how many moves of a pass are kept with their reasons.
	MaxMoves = 32
	maxText  = 1 << 10
	maxWord  = 256
)

// ID is the place of an event in the log: the revision at which it was written, and its
// place among those that were written at once. Greater is later, whoever recorded it.
type ID struct {
	Revision int64
	At       uint32
}

// String is the ID as the API shows it: as texts they have the same order.
func (i ID) String() string { return fmt.Sprintf("%016x.%04x", i.Revision, i.At) }

// Less reports whether i is the earlier.
func (i ID) Less(j ID) bool {
	return i.Revision < j.Revision || i.Revision == j.Revision && i.At < j.At
}

// ParseID reads what String has written.
func ParseID(s string) (ID, bool) {
	rev, at, ok := strings.Cut(s, ".")
	if !ok || len(rev) != 16 || len(at) < 4 || len(at) > 8 {
		return ID{}, false
	}
	r, err := strconv.ParseInt(rev, 16, 64)
	n, err2 := strconv.ParseUint(at, 16, 32)
	if err != nil || err2 != nil || r < 0 {
		return ID{}, false
	}
	return ID{r, uint32(n)}, true
}

// Kept is an event of the log.
type Kept struct {
	ID ID
	// Scheduler is who recorded it.
	Scheduler string
	Event
}
