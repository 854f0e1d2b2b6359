package ownership

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/rota-project/rota"
)

// Time is a reading of the worker's monotonic clock: how long since any fixed
// moment. Wall clocks never count.
type Time = time.Duration

// Trust says how much of a lease a worker believes in.
type Trust struct {
	// Drift is the greatest difference in rate between the worker's clock and
	// the store's, as a part: 0.1 stands for clocks that run up to 10% apart.
	Drift float64
	// Stop is how long before the end of the trust exclusive instances are
	// told to stop, so that they have stopped by then.
	Stop time.Duration
	// StuckAfter is when an instance that was told to stop counts as stuck.
	StuckAfter time.Duration
	// Backoff is the pause before a function that returned is called again; it
	// doubles up to BackoffMax, and starts anew after a run longer than BackoffMax.
	Backoff, BackoffMax time.Duration
}

// DefaultTrust is what a worker uses for a lease of ttl.
func DefaultTrust(ttl time.Duration) Trust {
	return Trust{Drift: 0.1, Stop: ttl / 10, StuckAfter: 10 * time.Second, Backoff: 100 * time.Millisecond, BackoffMax: 30 * time.Second}
}

// Order is what the worker is told to hold.
type Order struct {
	Instance   rota.Instance
	Generation rota.Generation
	Mode       rota.Mode
	Priority   float64
	// Anew says that what is to be run is not what the grant before said: a call
	// of that does not go on under this generation.
	Anew bool
}

// Action is what the worker has to do now.
type Action struct {
	Do         Do
	Instance   rota.Instance
	Generation rota.Generation
}

// Do names an Action.
type Do uint8

const (
	// Start calls the function of the instance.
	Start Do = iota + 1
	// Stop ends the context of the call.
	Stop
	// Adopt tells a call that goes on its new generation.
	Adopt
	// Die ends the process at once: an exclusive instance has not stopped and
	// its lease can no longer be trusted.
	Die
)

// Ack is what the worker says of an instance.
type Ack struct {
	Instance   rota.Instance
	Generation rota.Generation
	State      State
	Error      string // the function's last error
	Exit       Exit   // of the process that it is about
	Restarts   uint32
}

// Exit is the exit status of a process that has ended by itself. The zero value is none.
type Exit struct {
	Known  bool
	Status int32
}

// ExitOf is the Exit of a status. One below zero is none: a signal has ended the process.
func ExitOf(status int64) Exit {
	if status < 0 || status > math.MaxInt32 {
		return Exit{}
	}
	return Exit{Known: true, Status: int32(status)}
}

// Holder is a worker's account of what it holds. It is not safe for concurrent
// use. An event costs what it touches; everything is looked at only when the
// lease begins or ends to be trusted, on Only, Leave and SessionLost.
type Holder struct {
	trust Trust

	sent    map[uint64]Time // renewals under way
	until   Time            // the lease is trusted to here
	trusted bool            // the lease was confirmed and has not been lost since
	leaving bool

	items map[rota.Instance]*item
	acks  map[rota.Instance]Ack

	timed queue[*item] // those that wait for a moment
	ended ending       // how far the lease had ended when everything was last looked at
}

type item struct {
	order    Order
	wanted   bool // granted and not revoked
	calling  bool // its function has been told to start and has not returned
	strict   bool // the call began as an exclusive one
	called   bool // it runs
	stopping bool // its context has ended
	stopAt   Time
	stuck    bool
	void     bool // the session of the call is over:
	dieAt    Time // its lease was trusted to here, whatever later ones are
	began    Time
	retryAt  Time // while in Backoff
	backoff  time.Duration
	err      string
	exit     Exit
	restarts uint32

	moment Time // when it is to be looked at
	pos    int  // in Holder.timed
}

func (it *item) exclusive() bool { return it.order.Mode != rota.Available }

// before and place make items members of a queue.
func (it *item) before(o *item) bool { return it.moment < o.moment }
func (it *item) place() *int         { return &it.pos }

// NewHolder returns the account of a worker that holds nothing.
func NewHolder(t Trust) *Holder {
	return &Holder{
		trust: t, sent: map[uint64]Time{},
		items: map[rota.Instance]*item{}, acks: map[rota.Instance]Ack{},
	}
}

// SetTrust changes how much of a lease is believed, when its length is known.
func (h *Holder) SetTrust(t Trust) { h.trust = t }

// Holds reports whether an instance is on the account, running or not.
func (h *Holder) Holds(i rota.Instance) bool { return h.items[i] != nil }

// SessionLost says that the store has ended the lease: every exclusive grant is
// void; others go on until the next session says more. The hello under way
// stays: its answer may be what said so, and is of the next session.
func (h *Holder) SessionLost(now Time) []Action {
	h.trusted = false
	h.until = min(h.until, now+h.trust.Stop)
	for _, it := range h.items {
		// A later session's lease is no reason to let these calls go on.
		if it.calling && it.strict && !it.void {
			it.void, it.dieAt = true, h.until
		}
	}
	return h.unwant(now, (*item).exclusive)
}

// Leave says that the worker is to end: exclusive instances stop now, others
// when they are revoked, and nothing new is taken.
func (h *Holder) Leave(now Time) []Action {
	h.leaving = true
	return h.unwant(now, (*item).exclusive)
}

// Only revokes everything that keep does not name.
func (h *Holder) Only(keep map[rota.Instance]bool, now Time) []Action {
	return h.unwant(now, func(it *item) bool { return !keep[it.order.Instance] })
}

func (h *Holder) unwant(now Time, which func(*item) bool) []Action {
	for _, it := range h.items {
		if which(it) {
			it.wanted = false
		}
	}
	return h.all(now)
}

// Give takes grants. One that is not of a greater generation than what is held
// of its instance says nothing new.
func (h *Holder) Give(orders []Order, now Time) []Action {
	var out []Action
	for _, o := range byPriority(orders) {
		it := h.items[o.Instance]
		switch {
		case h.leaving && it == nil:
			h.acks[o.Instance] = Ack{Instance: o.Instance, Generation: o.Generation, State: Stopped}
			continue
		case it == nil:
			it = &item{order: o, wanted: true}
			h.items[o.Instance] = it
		case o.Generation <= it.order.Generation:
			continue
		default:
			goesOn := it.calling && !it.stopping && !it.strict && o.Mode == rota.Available && !o.Anew
			// One that leaves goes on with what it still runs, and with nothing else.
			it.wanted = !h.leaving || it.wanted && o.Mode == rota.Available
			it.order, it.retryAt, it.backoff = o, 0, 0
			if goesOn {
				out = append(out, Action{Adopt, o.Instance, o.Generation})
			} else if it.calling && !it.stopping {
				// What runs belongs to the past; it starts anew when that has returned.
				out = h.stop(it, now, out)
			}
			h.say(it, now)
		}
		out = h.step(it, now, out)
	}
	return out
}

// Update says that other things than what is to be run have changed of an instance
// under the grant that it has. What runs goes on; one that waits after a failure is
// called soon, for the change may be its remedy.
func (h *Holder) Update(i rota.Instance, gen rota.Generation, priority float64, now Time) {
	it := h.items[i]
	if it == nil || it.order.Generation != gen {
		return
	}
	it.order.Priority = priority
	if !it.calling && now < it.retryAt {
		it.retryAt = min(it.retryAt, now+h.trust.Backoff)
		h.schedule(it, now)
	}
}

// Take revokes a grant. Revoking what is not held is acknowledged at once.
func (h *Holder) Take(i rota.Instance, gen rota.Generation, now Time) []Action {
	it := h.items[i]
	switch {
	case it == nil:
		h.acks[i] = Ack{Instance: i, Generation: gen, State: Stopped}
		return nil
	case gen < it.order.Generation:
		return nil // of the past: a later grant has replaced what it speaks of
	}
	it.order.Generation = gen
	it.wanted = false
	return h.step(it, now, nil)
}

// Called says that the function of an instance runs.
func (h *Holder) Called(i rota.Instance, now Time) {
	if it := h.items[i]; it != nil && it.calling && !it.called {
		it.called = true
		h.say(it, now)
	}
}

// Returned says that the call of an instance has returned, with its error or
// panic as text, and the exit status of the process that it was, if it was one.
func (h *Holder) Returned(i rota.Instance, err string, exit Exit, now Time) []Action {
	it := h.items[i]
	if it == nil || !it.calling {
		return nil
	}
	it.calling, it.called, it.void = false, false, false
	if it.stopping {
		it.stopping, it.stuck, it.retryAt = false, false, 0
	} else {
		if now-it.began > h.trust.BackoffMax {
			it.backoff = 0
		}
		it.backoff = min(max(2*it.backoff, h.trust.Backoff), h.trust.BackoffMax)
		it.retryAt = now + it.backoff
		it.err, it.exit = err, exit
		it.restarts++
	}
	if it.wanted {
		h.say(it, now)
	}
	return h.step(it, now, nil)
}

// Failures answers how often in a row the function of an instance that is wanted
// has returned, and how long after the last time it is called again.
func (h *Holder) Failures(i rota.Instance) (n uint32, again time.Duration) {
	it := h.items[i]
	if it == nil || !it.wanted || it.retryAt == 0 {
		return 0, 0
	}
	return it.restarts, it.backoff
}

// Acks answers what has changed since it was last asked.
func (h *Holder) Acks() []Ack {
	out := inOrder(h.acks)
	clear(h.acks)
	return out
}

// Held answers everything that the worker holds, for a hello; what was not
// acknowledged yet is part of it.
func (h *Holder) Held(now Time) []Ack {
	for _, it := range h.items {
		h.say(it, now)
	}
	return h.Acks()
}

// Empty reports whether nothing is held.
func (h *Holder) Empty() bool { return len(h.items) == 0 }

// step brings one instance up to now.
func (h *Holder) step(it *item, now Time, out []Action) []Action {
	i, end := it.order.Instance, h.ending(now)
	switch {
	case it.calling:
		if !it.stopping && (!it.wanted || it.strict && end != trusting) {
			out = h.stop(it, now, out)
		}
		if it.stopping && !it.stuck && now >= it.stopAt+h.trust.StuckAfter {
			it.stuck = true
			h.say(it, now)
		}
		if it.stopping && it.strict && (end == over || it.void && now >= it.dieAt) {
			out = append(out, Action{Die, i, it.order.Generation})
		}
	case !it.wanted:
		h.acks[i] = Ack{Instance: i, Generation: it.order.Generation, State: Stopped, Error: it.err, Exit: it.exit, Restarts: it.restarts}
		delete(h.items, i)
	case it.exclusive() && end != trusting, now < it.retryAt:
	default:
		it.calling, it.strict, it.began, it.retryAt = true, it.exclusive(), now, 0
		out = append(out, Action{Start, i, it.order.Generation})
	}
	h.schedule(it, now)
	return out
}

// schedule says when it is to be looked at next, the end of the lease apart.
func (h *Holder) schedule(it *item, now Time) {
	const never = Time(math.MaxInt64)
	at := never
	switch {
	case it.calling:
		if it.stopping && !it.stuck {
			at = it.stopAt + h.trust.StuckAfter
		}
		if it.void && now < it.dieAt {
			at = min(at, it.dieAt)
		}
	case it.wanted && now < it.retryAt:
		at = it.retryAt
	}
	it.moment = at
	if at == never {
		h.timed.remove(it)
	} else {
		h.timed.put(it)
	}
}

func (h *Holder) stop(it *item, now Time, out []Action) []Action {
	it.stopping, it.stopAt = true, now
	h.say(it, now)
	return append(out, Action{Stop, it.order.Instance, it.order.Generation})
}

func (h *Holder) say(it *item, now Time) {
	s := Starting
	switch {
	case it.stuck:
		s = Stuck
	case it.stopping:
		s = Stopping
	case it.called:
		s = Running
	case !it.calling && now < it.retryAt:
		s = Backoff
	}
	h.acks[it.order.Instance] = Ack{
		Instance: it.order.Instance, Generation: it.order.Generation, State: s, Error: it.err, Exit: it.exit, Restarts: it.restarts,
	}
}

func inOrder(m map[rota.Instance]Ack) []Ack {
	return slices.SortedFunc(maps.Values(m), func(a, b Ack) int { return a.Instance.Compare(b.Instance) })
}

func byPriority(orders []Order) []Order {
	return slices.SortedFunc(slices.Values(orders), compare)
}

// compare puts higher priority first.
func compare(a, b Order) int {
	if c := cmp.Compare(b.Priority, a.Priority); c != 0 {
		return c
	}
	return a.Instance.Compare(b.Instance)
}
