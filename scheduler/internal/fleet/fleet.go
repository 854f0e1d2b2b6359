package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Time is a moment, as the time since the Unix epoch. Zero is never.
type Time = time.Duration

const (
	// GrowAfter is how long something waits before a pool grows for it.
	GrowAfter = 10 * time.Second
	// Settles is how long a worker that has joined counts as on its way: what waits for it
	// is not placed at once, and is not to be waited for twice.
	Settles = 10 * time.Second
	// Headroom is the part of its workers that a pool leaves free when it shrinks.
	Headroom = 0.2
	// unsureFor is how long a start may be on its way of which nobody knows whether the
	// engine took it.
	unsureFor = time.Minute
	// listedWithin is how long after its start an engine may not list a worker.
	listedWithin = 15 * time.Second
	// briefly is how long a worker lives at least that is no failure of its pool.
	briefly = time.Minute
	// stopAgain is how long a stop may take before it is asked for once more.
	stopAgain = 30 * time.Second
	// drainFor is how long what a worker holds may take to run elsewhere. After it a worker
	// of a pool that is deleted is stopped with what it has left; any other goes on.
	drainFor = time.Minute
	// atOnce is how many workers are started in one step.
	atOnce = 10
	// The back-off after failures: from the first, doubled, to the most.
	backoffFirst, backoffMost = 5 * time.Second, 5 * time.Minute
	// lead is how long before the end of its allocation a worker is replaced, but no
	// more than a quarter of the allocation.
	lead = 5 * time.Minute
)

// Copy is what the engine knows of a worker.
type Copy struct {
	Handle  string
	Waiting bool // it was accepted, and has not begun
	Ended   bool
	Detail  string
	Began   Time
	Ends    Time // when the engine will end it
}

// Member is a worker of the pool.
type Member struct {
	Name   string
	Asked  Time   // its start was decided
	Handle string // the engine's; empty while that is not known
	Joined Time   // it has used its token
	Alive  bool   // its session lives
	Lost   Time   // when its last session ended; zero while it lives, and before it has joined
	Left   bool   // its last session ended in order: it was asked to leave
	Load   int    // what it holds
	// Leaving is when it was drained, Stopping when the engine was last told to stop it.
	Leaving, Stopping Time
	Outdated          bool // of another template
	// Elsewhere says that only another scheduler can list and stop it.
	Elsewhere bool
	Copies    []Copy
}

// Memory is what is remembered of a pool between steps.
type Memory struct {
	Size         int    // how many workers there should be
	Failures     int    // in a row
	Error        string // the last
	ErrorAt      Time
	RetryAt      Time
	WaitingSince Time // something has waited for this pool
	SpareSince   Time // workers could have gone
}

// Picture is a pool as it is desired and observed.
type Picture struct {
	Now                     Time
	Engine                  string // its name, for people
	From, To                int
	IdleAfter, StartTimeout time.Duration
	Deleted                 bool
	// Want is how many workers what waits would take.
	Want int
	// Spare is how many workers less would hold all that the pool's hold.
	Spare   int
	Members []Member
	// Listed says that the engine has answered, so that Copies are all that there are.
	Listed bool
	Memory Memory
}

// Kind is what to do.
type Kind int

// The kinds of action.
const (
	Start  Kind = iota // a new worker
	Adopt              // note the handle of a member
	Drain              // have a member give up what it holds
	Stop               // have the engine stop a copy, which is the member's own
	Kill               // have the engine stop a copy that is one too many
	Forget             // a member that is gone
)

func (k Kind) String() string {
	return [...]string{"start", "adopt", "drain", "stop", "kill", "forget"}[k]
}

// Action is something to do.
type Action struct {
	Kind   Kind
	Member string
	Handle string
	Why    string
}

// Plan is what Decide answers.
type Plan struct {
	Actions []Action
	// Memory is to be kept.
	Memory Memory
	// Notes are what people should know, as long as it lasts.
	Notes []string
}

// Failed notes a failure: the next try comes later and later.
func (m Memory) Failed(now Time, text string) Memory {
	m.Failures++
	wait := backoffMost
	if m.Failures < 10 {
		wait = min(backoffFirst<<(m.Failures-1), backoffMost)
	}
	m.Error, m.ErrorAt, m.RetryAt = text, now, now+wait
	return m
}

// Decide says what to do next.
func Decide(p Picture) Plan {
	s := &step{Picture: p, plan: Plan{Memory: p.Memory}}
	slices.SortFunc(s.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	for n := range s.Members {
		s.look(&s.Members[n])
	}
	if s.failure != "" {
		s.plan.Memory = s.plan.Memory.Failed(p.Now, s.failure)
	}
	s.resize()
	s.shape()
	return s.plan
}

// step is one call of Decide.
type step struct {
	Picture
	plan     Plan
	failure  string
	counted  []*Member // that are to stay
	expiring []*Member // whose allocations end soon
	leaving  int
	pending  int // counted, and not joined, or not long ago
}

func (s *step) do(kind Kind, m *Member, handle, why string) {
	s.plan.Actions = append(s.plan.Actions, Action{Kind: kind, Member: m.Name, Handle: handle, Why: why})
}

func (s *step) note(format string, args ...any) {
	s.plan.Notes = append(s.plan.Notes, fmt.Sprintf(format, args...))
}

// look sees to one member, and counts it if it is to stay.
func (s *step) look(m *Member) {
	live, ended := s.copies(m)
	switch {
	case m.Elsewhere:
		if !m.Alive && (m.Joined != 0 || m.Stopping != 0 || s.Now-m.Asked > s.StartTimeout) {
			s.do(Forget, m, "", "it is gone")
			return
		}
	case s.Listed && live == nil && !m.Alive && s.gone(m, ended):
		return
	case s.Listed && live == nil && m.Alive && ended == nil && s.Now-m.Asked > listedWithin:
		s.note("the engine %s no longer knows %s, which still runs: it keeps running and is not started again; end its process by hand", s.Engine, m.Name)
	}
	switch {
	case m.Stopping != 0:
		switch {
		case s.Now-m.Stopping <= stopAgain:
		case live != nil:
			s.do(Stop, m, live.Handle, "it was already asked to end")
		case ended != nil && m.Alive:
			s.note("the engine %s says that %s has ended, but it still runs: end its process by hand", s.Engine, m.Name)
		}
	case m.Leaving != 0:
		s.leaving++
		switch over := s.Now-m.Leaving > drainFor; {
		case !m.Alive && m.Joined == 0 || m.Load == 0:
			s.stop(m, live, "it is empty")
		case over && s.Deleted:
			s.stop(m, live, "no other worker can take what it runs")
		case over:
			s.note("%s should stop, but keeps running: no other worker can take what it runs (%d in all)", m.Name, m.Load)
		}
	case m.Joined == 0 && !m.Alive && s.Now-m.Asked > s.StartTimeout:
		s.failed("%s", s.late(m, live))
		s.stop(m, live, "it did not join in time")
	case m.Joined != 0 && !m.Alive && live != nil && live.Waiting && s.Now-m.Joined > briefly: // what is listed may be of before it joined
		s.note("the engine %s is about to start %s again, which was lost: it is stopped and replaced by another worker", s.Engine, m.Name)
		s.stop(m, live, "it was lost, and no copy of it can join")
	case m.Lost != 0 && !m.Alive && live != nil && s.Now-m.Lost > s.StartTimeout: // it hangs, or cannot get here
		s.failed("%s runs, but no scheduler has heard from it for %v", m.Name, s.StartTimeout)
		s.stop(m, live, "it was lost, and did not come back in time")
	case live != nil && s.expires(live):
		s.expiring = append(s.expiring, m)
	default:
		s.counted = append(s.counted, m)
		if !m.Alive || s.Now-m.Joined < Settles {
			s.pending++
		}
	}
}

// copies answers the copy that is the member's, if one lives, and one that has ended.
// Any other that lives is killed.
func (s *step) copies(m *Member) (live, ended *Copy) {
	for n := range m.Copies {
		c := &m.Copies[n]
		switch {
		case c.Ended:
			ended = c
		case live == nil || c.Handle == m.Handle:
			live = c
		}
	}
	for n := range m.Copies {
		if c := &m.Copies[n]; !c.Ended && c != live {
			s.do(Kill, m, c.Handle, "the engine started it twice")
			s.note("the engine %s started %s twice: its copy %s, which cannot join, is stopped", s.Engine, m.Name, c.Handle)
		}
	}
	if live != nil && m.Handle == "" {
		s.do(Adopt, m, live.Handle, "the engine lists it")
	}
	return live, ended
}

// gone sees to a member of which nothing lives, and reports whether that is sure.
func (s *step) gone(m *Member, ended *Copy) bool {
	age := s.Now - m.Asked
	how := ""
	if ended != nil && ended.Detail != "" {
		how = ": " + ended.Detail
	}
	switch {
	case m.Stopping != 0, m.Leaving != 0 && ended != nil:
	case ended == nil && m.Handle == "" && age <= unsureFor, ended == nil && age <= listedWithin:
		return false
	case m.Handle == "" && ended == nil:
		s.failed("the engine %s was asked to start %s, and it is unknown whether it did: the worker is given up and can no longer join", s.Engine, m.Name)
	case m.Joined == 0:
		s.failed("%s ended before it joined%s", m.Name, how)
	case s.Now-m.Joined < briefly && m.Left: // somebody has asked it to; one that is asked again and again does not begin at once
		s.plan.Memory.RetryAt = max(s.plan.Memory.RetryAt, s.Now+backoffFirst)
	case s.Now-m.Joined < briefly:
		s.failed("%s ended soon after it had joined%s", m.Name, how)
	}
	s.do(Forget, m, "", "it is gone"+how)
	return true
}

// late says what a member has not done in time.
func (s *step) late(m *Member, live *Copy) string {
	switch {
	case live == nil:
		return fmt.Sprintf("%s did not join within %v of its start", m.Name, s.StartTimeout)
	case live.Waiting:
		why := ""
		if live.Detail != "" {
			why = ": " + live.Detail
		}
		return fmt.Sprintf("the engine %s accepted %s and did not start it within %v%s", s.Engine, m.Name, s.StartTimeout, why)
	}
	return fmt.Sprintf("%s runs and did not join within %v of its start", m.Name, s.StartTimeout)
}

// failed notes a failure; several in one step are one.
func (s *step) failed(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf(format, args...)
	}
}

func (s *step) stop(m *Member, live *Copy, why string) {
	handle := m.Handle
	if live != nil {
		handle = live.Handle
	}
	s.do(Stop, m, handle, why)
}

// leadOf is how long before its end a copy is replaced.
func leadOf(c *Copy) time.Duration { return min(lead, (c.Ends-c.Began)/4) }

func (s *step) expires(c *Copy) bool {
	return c.Ends != 0 && c.Began != 0 && s.Now >= c.Ends-leadOf(c)
}

// resize decides how many workers there should be.
func (s *step) resize() {
	m := &s.plan.Memory
	if s.Deleted {
		m.Size, m.WaitingSince, m.SpareSince = 0, 0, 0
		return
	}
	m.Size = min(max(m.Size, s.From), s.To)
	have := len(s.counted)
	if s.From == s.To {
		m.WaitingSince, m.SpareSince = 0, 0
	} else {
		since(&m.WaitingSince, s.Want > 0, s.Now)
		since(&m.SpareSince, s.Want == 0 && s.Spare > 0 && s.pending == 0 && have > s.From, s.Now)
		switch {
		case m.WaitingSince != 0 && s.Now-m.WaitingSince >= GrowAfter:
			m.Size = min(max(m.Size, have+max(0, s.Want-s.pending)), s.To)
		case m.SpareSince != 0 && s.Now-m.SpareSince >= s.IdleAfter:
			m.Size = max(have-min(s.Spare, max(1, have/10)), s.From)
			m.SpareSince = s.Now
		case s.Want == 0 && have < m.Size && m.RetryAt > s.Now:
			m.Size = max(have, s.From) // what it was for is done, or another pool has helped
		}
	}
	if m.Failures > 0 && s.Now >= m.RetryAt && s.pending == 0 && have >= m.Size {
		m.Failures, m.Error, m.ErrorAt, m.RetryAt = 0, "", 0, 0
	}
}

// since keeps the moment from which on something has been so.
func since(t *Time, so bool, now Time) {
	switch {
	case !so:
		*t = 0
	case *t == 0:
		*t = now
	}
}

// shape starts what is missing, and drains what is too much.
func (s *step) shape() {
	m := s.plan.Memory
	have := len(s.counted)
	for _, e := range s.expiring {
		c, _ := s.liveOf(e)
		if have-s.pending >= m.Size || s.Now >= c.Ends-leadOf(c)/2 {
			s.do(Drain, e, "", "its allocation ends")
		}
	}
	ready := s.Listed && s.Now >= m.RetryAt && !s.Deleted
	outdated := slices.ContainsFunc(s.counted, func(m *Member) bool { return m.Outdated })
	switch {
	case have < m.Size && ready:
		for range min(m.Size-have, atOnce) {
			s.plan.Actions = append(s.plan.Actions, Action{Kind: Start})
		}
	case have > m.Size:
		s.shrink(have - m.Size)
	case outdated && ready && s.pending == 0 && s.leaving == 0:
		s.plan.Actions = append(s.plan.Actions, Action{Kind: Start, Why: "the template has changed"})
	}
}

// liveOf is copies without its actions.
func (s *step) liveOf(m *Member) (live, ended *Copy) {
	quiet := step{Picture: s.Picture}
	return quiet.copies(m)
}

// shrink drains members that are too many: those of an older template before others,
// then those that have not joined, then the emptiest, then the newest.
func (s *step) shrink(excess int) {
	budget := max(1, len(s.counted)/10)
	if s.Deleted {
		budget = excess + s.leaving
	}
	first := slices.Clone(s.counted)
	slices.SortStableFunc(first, func(a, b *Member) int {
		return cmp.Or(-yes(a.Outdated)+yes(b.Outdated), yes(a.Alive)-yes(b.Alive), cmp.Compare(a.Load, b.Load), cmp.Compare(b.Asked, a.Asked))
	})
	outdated := slices.ContainsFunc(first, func(m *Member) bool { return m.Outdated })
	if outdated && s.pending > 0 && !s.Deleted {
		first = slices.DeleteFunc(first, func(m *Member) bool { return !m.Outdated })
		if excess -= s.pending; excess <= 0 {
			return // what replaces them is on its way
		}
	}
	for _, m := range first[:min(excess, len(first), max(0, budget-s.leaving))] {
		why := "the pool is smaller"
		switch {
		case s.Deleted:
			why = "the pool is deleted"
		case m.Outdated:
			why = "the template has changed"
		}
		s.do(Drain, m, "", why)
	}
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}
