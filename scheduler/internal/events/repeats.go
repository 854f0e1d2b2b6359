package events

import (
	"slices"
	"time"

	"github.com/rota-project/rota/internal/backoff"
)

// Repetitions are told of together: a task that fails again and again is told of three
// times, then every so often, with how often it was.
const (
	freeRepeats  = 3
	firstGap     = 15 * time.Second
	longestGap   = 10 * time.Minute
	mostRepeated = 1024 // who are watched for repetitions at once
)

// repeated are the kinds that come again and again.
var repeated = map[string]bool{
	TaskStarted: true, TaskFailed: true, TaskRestarted: true, TaskStuck: true,
	WorkerFenced: true, WorkerJoined: true, WorkerLost: true, PoolFailed: true, PoolAway: true,
}

// subject is who repeats what.
type subject struct {
	kind, task, worker, job, program, pool string
	index                                  int
}

// repeats is what is known of one of them.
type repeats struct {
	told int
	gaps backoff.Backoff
	due  time.Time
	held int   // since it was last told of
	last Event // of those
}

// repeater holds back what repeats.
type repeater struct{ by map[subject]*repeats }

// hold reports whether an event is held back: it is told of later, with others.
func (r *repeater) hold(e Event, now time.Time) bool {
	if !repeated[e.Kind] {
		return false
	}
	key := subject{e.Kind, e.Subject.Task, e.Subject.Worker, e.Subject.Job, e.Subject.Program, e.Subject.Pool, e.Subject.Index}
	if e.Subject.Task != "" {
		key.worker = "" // wherever it is
	}
	have := r.by[key]
	switch {
	case have == nil && len(r.by) >= mostRepeated:
		return false
	case have == nil:
		if r.by == nil {
			r.by = map[subject]*repeats{}
		}
		have = &repeats{told: 1, gaps: backoff.Backoff{First: firstGap, Most: longestGap}}
		have.due = now.Add(have.gaps.Next())
		r.by[key] = have
		return false
	case have.told < freeRepeats:
		have.told++
		return false
	}
	have.held++
	have.last = e
	return true
}

// due takes those that are to be told of now, and forgets who repeats nothing any more.
// With all, it takes those that are held back, whenever they are due. The earliest is first.
func (r *repeater) due(now time.Time, all bool) (out []Event) {
	for key, have := range r.by {
		switch {
		case now.Before(have.due) && !all:
		case have.held == 0:
			delete(r.by, key)
		default:
			have.last.Count = have.held
			out = append(out, have.last)
			have.told, have.held, have.last = freeRepeats, 0, Event{}
			have.due = now.Add(have.gaps.Next())
		}
	}
	slices.SortFunc(out, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return out
}

// next is when something is due; zero: nothing is.
func (r *repeater) next() (at time.Time) {
	for _, have := range r.by {
		if at.IsZero() || have.due.Before(at) {
			at = have.due
		}
	}
	return at
}
