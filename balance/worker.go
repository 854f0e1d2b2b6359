package balance

import (
	"math"
	"sync/atomic"
)

// closedBit of Worker.state refuses new reservations; the bits below count the
// calls in flight. Both live in one word so that closing a worker and reserving
// a place on it cannot overlap: after Close no pick can succeed.
const (
	closedBit    = 1 << 40
	inflightMask = closedBit - 1
)

// fullShare is the fixed-point 1 of shares and scales.
const fullShare = 256

// Worker carries the counters of one worker. It outlives the snapshots that it
// is in: a worker that leaves a Set and comes back keeps its calls in flight.
// Create it with NewWorker; all methods are safe for concurrent use.
type Worker struct {
	// Tag is the owner's own; it is set before the worker is used.
	Tag any

	name string
	hash uint64

	_ [64]byte // the counters below change on every call: keep them off the line above
	// state is closedBit and the number of calls in flight.
	state atomic.Uint64
	// limit is the most calls in flight, 0 for no limit.
	limit atomic.Uint64
	// scale is how much one call in flight weighs, in 1/256: 256 for the
	// strongest worker, 512 for one of half its strength, more in slow start.
	scale atomic.Uint64
	// share is the part of its calls that a worker in slow start takes, in 1/256.
	share atomic.Uint64
	// latency is the peak EWMA in nanoseconds (float64 bits), stamp when it was
	// last fed.
	latency atomic.Uint64
	stamp   atomic.Int64
	// places are the level indexes that the worker is in (see levels).
	places atomic.Pointer[[]*place]
	// slot is the worker's index in the snapshot that was built last.
	slot  atomic.Uint32
	_     [8]byte
	cache packages
}

// NewWorker returns a worker that is open, without limit, of full share.
func NewWorker(name string) *Worker {
	w := &Worker{name: name, hash: HashString(name)}
	w.scale.Store(fullShare)
	w.share.Store(fullShare)
	return w
}

// Name is the name given to NewWorker.
func (w *Worker) Name() string { return w.name }

// InFlight is the number of calls that are reserved and not released.
func (w *Worker) InFlight() int { return int(w.state.Load() & inflightMask) }

// Close refuses new calls; those in flight go on. It is what draining and
// failing health checks do.
func (w *Worker) Close() {
	if w.state.Or(closedBit)&closedBit == 0 {
		w.sync()
	}
}

// Open undoes Close.
func (w *Worker) Open() {
	if w.state.And(^uint64(closedBit))&closedBit != 0 {
		w.sync()
	}
}

// Closed reports whether the worker refuses new calls.
func (w *Worker) Closed() bool { return w.state.Load()&closedBit != 0 }

// SetLimit sets the most calls in flight; 0 or less is no limit.
func (w *Worker) SetLimit(n int) {
	w.limit.Store(uint64(max(n, 0)))
	w.sync()
}

// Full reports whether the worker is at its limit.
func (w *Worker) Full() bool {
	limit := w.limit.Load()
	return limit > 0 && uint64(w.InFlight()) >= limit
}

// SetShare sets the part of its usual calls that the worker takes, for slow
// start: above 0, at most 1. Other values mean 1.
func (w *Worker) SetShare(share float64) {
	s := uint64(fullShare)
	if share > 0 && share < 1 {
		s = max(1, uint64(share*fullShare))
	}
	w.share.Store(s)
	w.sync()
}

// Latency is the peak EWMA of the worker's answers in nanoseconds, 0 before the
// first, as it was when last fed.
func (w *Worker) Latency() float64 { return math.Float64frombits(w.latency.Load()) }

// load is what rules compare: the calls in flight, weighted, in 1/256 of a call.
// It counts the call that would come, so that a weak worker looks busy before
// its first call.
func (w *Worker) load(state uint64) uint64 {
	l := (state&inflightMask + 1) * w.scale.Load()
	if s := w.share.Load(); s != fullShare {
		l = l * fullShare / s
	}
	return l
}

// free reports whether state lets one more call in.
func (w *Worker) free(state uint64) bool {
	if state&closedBit != 0 {
		return false
	}
	limit := w.limit.Load()
	return limit == 0 || state < limit
}

// reserve takes a place if there is one.
func (w *Worker) reserve() bool {
	for {
		s := w.state.Load()
		if !w.free(s) {
			return false
		}
		if w.state.CompareAndSwap(s, s+1) {
			w.sync()
			return true
		}
	}
}

// reserveAt takes a place if the state is still the one that was looked at.
func (w *Worker) reserveAt(s uint64) bool {
	if !w.state.CompareAndSwap(s, s+1) {
		return false
	}
	w.sync()
	return true
}

func (w *Worker) release() {
	w.state.Add(^uint64(0))
	w.sync()
}

// sync shows the worker's present level in the indexes that it is in. It is
// called after every change of what level goes by.
func (w *Worker) sync() {
	if p := w.places.Load(); p != nil {
		level := w.level(w.state.Load())
		for _, pl := range *p {
			pl.in.set(level, pl.slot)
		}
	}
}

// DefaultDecay is the time in nanoseconds after which an old peak of latency
// counts half.
const DefaultDecay = 5e9

// observe feeds the latency of one answer, both in nanoseconds. A peak is taken
// at once and forgotten slowly (Finagle's peak EWMA); lost updates of
// concurrent calls do no harm.
func (w *Worker) observe(now, took int64) {
	t := float64(max(took, 1))
	old := math.Float64frombits(w.latency.Load())
	if t < old {
		age := float64(max(now-w.stamp.Load(), 0))
		keep := 1 / (1 + age/DefaultDecay)
		// Even answers at one instant pull a little, or a burst would never be forgotten.
		keep = min(keep, 0.95)
		t = old*keep + t*(1-keep)
	}
	w.latency.Store(math.Float64bits(t))
	w.stamp.Store(now)
}

// cost is what least-latency compares: the latency that the call would see if
// those in flight were served one after another.
func (w *Worker) cost(state uint64, now int64) float64 {
	l := math.Float64frombits(w.latency.Load())
	if age := now - w.stamp.Load(); age > DefaultDecay && l > 0 {
		l /= float64(uint64(1) << min(age/DefaultDecay, 62)) // not asked for long: give it a chance again
	}
	return (l + 1) * float64(w.load(state))
}
