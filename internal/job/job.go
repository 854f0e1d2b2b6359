package job

import (
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/backoff"
)

// State is where a job is.
type State string

// States of a job, and of an attempt (all but Queued).
const (
	Queued    State = "queued"    // waits for a worker, or for the end of a back-off
	Starting  State = "starting"  // given to a worker
	Running   State = "running"   // the worker says that it runs
	Succeeded State = "succeeded" // ended with status 0
	Failed    State = "failed"    // ended otherwise, or could not be started
	Stopped   State = "stopped"   // asked to stop before it ended
	TimedOut  State = "timed-out" // ran longer than its timeout
	Lost      State = "lost"      // its worker died or its lease ended
)

// Done reports whether nothing more happens to a job in this state by itself,
// but that a lost one may be found again.
func (s State) Done() bool {
	switch s {
	case Succeeded, Failed, Stopped, TimedOut, Lost:
		return true
	}
	return false
}

// Active reports whether a worker has the job.
func (s State) Active() bool { return s == Starting || s == Running }

// Known reports whether s is one of the states.
func (s State) Known() bool { return s == Queued || s.Active() || s.Done() }

// Errors that a caller can tell apart with errors.Is.
var (
	// ErrStale is the answer to news of another generation than the current one.
	ErrStale = errors.New("job: of another generation")
	// ErrState is the answer to what the job's state does not allow.
	ErrState = errors.New("job: not in this state")
)

// StateError says what was asked in which state. It is an ErrState.
type StateError struct {
	Asked string
	State State
}

func (e *StateError) Error() string { return fmt.Sprintf("job: cannot %s: it is %s", e.Asked, e.State) }

// Is makes it an ErrState.
func (e *StateError) Is(target error) bool { return target == ErrState }

// Result is how an attempt ended, as its worker says.
type Result struct {
	State    State  // Succeeded, Failed, Stopped or TimedOut
	ExitCode int    // -1 if a signal ended it or it was never started
	Signal   string // "killed", "terminated"; empty if none
	Error    string // why it could not be started, or what went wrong with its output
	// Permanent says that another attempt would end the same way: the command
	// is not allowed, its program is not there.
	Permanent bool
	Started   time.Time // by the clock of the scheduler that was told; zero if it never started
	Ended     time.Time // by the same
}

// from is r with times that are not before t, as clocks differ; how long it took
// stays.
func (r Result) from(t time.Time) Result {
	first := r.Started
	if first.IsZero() {
		first = r.Ended
	}
	if early := t.Sub(first); early > 0 {
		if !r.Started.IsZero() {
			r.Started = r.Started.Add(early)
		}
		if !r.Ended.IsZero() {
			r.Ended = r.Ended.Add(early)
		}
	}
	if r.Ended.Before(r.Started) && !r.Ended.IsZero() {
		r.Ended = r.Started
	}
	return r
}

// latest is the latest of some times.
func latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}

// Attempt is one placement of a job.
type Attempt struct {
	Number  int // from 1
	Worker  string
	Session int64 // the worker's session that it was placed on, or found on
	// Incarnation is the worker's process that it was placed on.
	Incarnation string
	Generation  rota.Generation
	State       State
	Placed      time.Time // by the scheduler's clock, as is Finished
	Finished    time.Time
	Result      Result
}

// maxKept is how many attempts a Job remembers: the first of all, and the last ones.
const maxKept = 16

// Job is one job as the store has it, its Spec apart.
type Job struct {
	ID        string
	State     State
	Created   time.Time
	Finished  time.Time // zero until it is done
	NotBefore time.Time // the end of a back-off; zero if there is none
	StopAsked bool      // somebody asked for its end
	Reason    string    // why it waits or was taken back, for people
	// Failures counts the attempts since it was declared, or retried by a
	// person, that used up a retry.
	Failures int
	// Count is the number of attempts ever; Attempts holds at most maxKept of them.
	Count    int
	Attempts []Attempt
	// Trace is the trace that the job belongs to, as a W3C traceparent; empty if it has none.
	Trace string
	// Schedule is the schedule that declared the job; empty if none did.
	Schedule string
}

// New declares a job.
func New(id string, now time.Time) Job { return Job{ID: id, State: Queued, Created: now} }

// Declared is the job as it was declared, without what has become of it.
func (j Job) Declared() Job {
	d := New(j.ID, j.Created)
	d.Trace, d.Schedule = j.Trace, j.Schedule
	return d
}

// Current is the last attempt; ok is false before the first.
func (j Job) Current() (a Attempt, ok bool) {
	if len(j.Attempts) == 0 {
		return Attempt{}, false
	}
	return j.Attempts[len(j.Attempts)-1], true
}

// Generation is that of the last attempt, or 0.
func (j Job) Generation() rota.Generation {
	a, _ := j.Current()
	return a.Generation
}

// Worker is the last attempt's, or empty.
func (j Job) Worker() string {
	a, _ := j.Current()
	return a.Worker
}

// Ready reports whether the job wants a worker now, and if not, but it will,
// when.
func (j Job) Ready(now time.Time) (ready bool, at time.Time) {
	if j.State != Queued {
		return false, time.Time{}
	}
	return !now.Before(j.NotBefore), j.NotBefore
}

// Place gives the job to a worker's process. The generation must be greater than
// every one before.
func (j Job) Place(worker, incarnation string, session int64, g rota.Generation, now time.Time) (Job, error) {
	if j.State != Queued {
		return j, &StateError{"place", j.State}
	}
	if g <= j.Generation() {
		return j, fmt.Errorf("%w: %d after %d", ErrStale, g, j.Generation())
	}
	last, _ := j.Current()
	now = latest(now, j.Created, last.Finished) // another scheduler's clock may be behind
	j.Count++
	j.Attempts = remember(j.Attempts, Attempt{
		Number: j.Count, Worker: worker, Incarnation: incarnation, Session: session, Generation: g, State: Starting, Placed: now,
	})
	j.State, j.NotBefore, j.Reason = Starting, time.Time{}, ""
	return j, nil
}

// remember appends to a copy and forgets from the middle.
func remember(attempts []Attempt, a Attempt) []Attempt {
	out := make([]Attempt, 0, min(len(attempts)+1, maxKept))
	for i, old := range attempts {
		if len(attempts) == maxKept && i == 1 {
			continue
		}
		out = append(out, old)
	}
	return append(out, a)
}

// Begin says that the worker, in this session, runs the command. Said again, or
// of a job that was given up for lost and has not been placed since, it is taken
// as well.
func (j Job) Begin(session int64, g rota.Generation, started, now time.Time) (Job, error) {
	if err := j.current("begin", g); err != nil {
		return j, err
	}
	if a, _ := j.Current(); j.State == Running && a.Session == session {
		return j, nil
	}
	return j.update(now, func(a *Attempt) {
		a.State, a.Session = Running, session
		a.Result = Result{Started: started}.from(a.Placed)
	}), nil
}

// End says how the attempt ended. The job is done, or queued again after a
// back-off if it failed and has retries left. Said again it changes nothing.
func (j Job) End(g rota.Generation, s Spec, r Result, now time.Time) (Job, error) {
	if a, ok := j.Current(); ok && a.Generation == g && a.State == r.State && a.State != Lost {
		return j, nil
	}
	if err := j.current("end", g); err != nil {
		return j, err
	}
	switch r.State {
	case Succeeded, Failed, Stopped, TimedOut:
	default:
		return j, &rota.FieldError{Field: "state", Value: string(r.State), Want: "succeeded, failed, stopped or timed-out"}
	}
	if j.StopAsked && r.State == Failed {
		r.State = Stopped // the signal reached it before the worker knew why
	}
	j = j.update(now, func(a *Attempt) {
		if r.Started.IsZero() {
			r.Started = a.Result.Started
		}
		a.State, a.Result, a.Finished = r.State, r.from(a.Placed), now
	})
	if r.State == Failed || r.State == TimedOut {
		j.Failures++
		s = s.Normalize()
		if !r.Permanent && !j.StopAsked && j.Failures <= s.Retries && j.Count < MaxAttempts {
			return j.requeue(now.Add(Backoff(s, j.ID, j.Failures)), fmt.Sprintf("attempt %d %s", j.Count, r.State)), nil
		}
	}
	return j, nil
}

// Unbegun reports whether nobody has said that the attempt began: its worker has
// not heard of it yet, or was given up for lost before it said so.
func (a Attempt) Unbegun() bool {
	return (a.State == Starting || a.State == Lost) && a.Result.Started.IsZero()
}

// Unplace takes the job back from a worker that would not have it now (it was
// full, or gone between choice and start) and will not begin it later. It uses up
// no retry.
func (j Job) Unplace(g rota.Generation, reason string, now time.Time, wait time.Duration) (Job, error) {
	if err := j.current("take back", g); err != nil {
		return j, err
	}
	if a, _ := j.Current(); !a.Unbegun() {
		return j, &StateError{"take back", j.State}
	}
	state := Lost
	if j.StopAsked {
		state = Stopped
	}
	j = j.update(now, func(a *Attempt) {
		a.State, a.Finished, a.Result.ExitCode, a.Result.Error = state, now, -1, reason
	})
	if j.StopAsked || j.Count >= MaxAttempts {
		return j, nil
	}
	return j.requeue(now.Add(wait), reason), nil
}

// leftReason is why an attempt was stopped whose worker left in order.
const leftReason = "worker left"

// Leave says that the worker stopped the attempt because it leaves, and that it
// has ended. The job is stopped, or queued again at once if its Spec says Rerun.
func (j Job) Leave(g rota.Generation, s Spec, r Result, now time.Time) (Job, error) {
	if a, ok := j.Current(); ok && a.Generation == g && a.State == Stopped {
		return j, nil
	}
	r.State = Stopped
	if r.Error == "" {
		r.Error = leftReason
	}
	asked := j.StopAsked
	j, err := j.End(g, s, r, now)
	if err != nil || !s.Rerun || asked || j.Count >= MaxAttempts {
		return j, err
	}
	return j.requeue(time.Time{}, leftReason), nil
}

// Lose says that the worker's lease has ended. The job is lost, or queued again
// at once if its Spec says Rerun.
func (j Job) Lose(g rota.Generation, s Spec, reason string, now time.Time) (Job, error) {
	if err := j.current("lose", g); err != nil {
		return j, err
	}
	if !j.State.Active() {
		return j, &StateError{"lose", j.State}
	}
	j = j.update(now, func(a *Attempt) {
		a.State, a.Finished, a.Result.ExitCode, a.Result.Error = Lost, now, -1, reason
	})
	if s.Rerun && !j.StopAsked && j.Count < MaxAttempts {
		return j.requeue(time.Time{}, reason), nil
	}
	return j, nil
}

// Stop asks for the end. A queued job is stopped by that; for an active one the
// worker has to be told, and says so with End. One that is done is an ErrState.
func (j Job) Stop(now time.Time) (Job, error) {
	switch {
	case j.State == Queued:
		j.State, j.Finished, j.StopAsked, j.NotBefore = Stopped, now, true, time.Time{}
	case j.State.Active():
		j.StopAsked = true
	default:
		return j, &StateError{"stop", j.State}
	}
	return j, nil
}

// Retry queues a job that is done once more, with all its retries.
func (j Job) Retry(now time.Time) (Job, error) {
	if !j.State.Done() {
		return j, &StateError{"retry", j.State}
	}
	if j.Count >= MaxAttempts {
		return j, &rota.FieldError{Field: "attempts", Value: j.Count, Want: fmt.Sprintf("fewer than %d", MaxAttempts)}
	}
	j.StopAsked, j.Failures = false, 0
	return j.requeue(time.Time{}, "asked for"), nil
}

// Expires is when the job and its output may be removed; ok is false while it
// is not done.
func (j Job) Expires(s Spec) (at time.Time, ok bool) {
	if !j.State.Done() {
		return time.Time{}, false
	}
	return j.Finished.Add(s.Normalize().Keep), true
}

// current checks that g is the attempt that counts, and that it has not ended
// in a way that the worker itself told.
func (j Job) current(asked string, g rota.Generation) error {
	a, ok := j.Current()
	switch {
	case !ok || g != a.Generation:
		return fmt.Errorf("%w: %d is not %d", ErrStale, g, a.Generation)
	case j.State.Active(), j.State == Lost:
		return nil
	case j.State == Queued:
		return fmt.Errorf("%w: %d was given up", ErrStale, g)
	}
	return &StateError{asked, j.State}
}

// update changes a copy of the current attempt and takes over its state.
func (j Job) update(now time.Time, change func(*Attempt)) Job {
	attempts := make([]Attempt, len(j.Attempts))
	copy(attempts, j.Attempts)
	a := &attempts[len(attempts)-1]
	change(a)
	j.Attempts, j.State, j.Finished = attempts, a.State, time.Time{}
	if j.State.Done() {
		a.Finished = latest(now, a.Placed, a.Result.Started, a.Result.Ended)
		j.Finished = a.Finished
	} else {
		a.Finished = time.Time{}
	}
	return j
}

func (j Job) requeue(notBefore time.Time, reason string) Job {
	j.State, j.Finished, j.NotBefore, j.Reason = Queued, time.Time{}, notBefore, reason
	return j
}

// Backoff is the wait after the n-th failure, n from 1: it doubles up to
// s.MaxBackoff, less up to a fifth by the job's id, so that jobs that failed
// together do not come back together.
func Backoff(s Spec, id string, n int) time.Duration {
	s = s.Normalize()
	d := backoff.After(n, s.Backoff, s.MaxBackoff)
	h := fnv.New32a()
	_, _ = fmt.Fprintf(h, "%s/%d", id, n)
	return d - time.Duration(float64(d)/5*float64(h.Sum32())/(1<<32))
}
