package balance

import (
	"math"
	"sync/atomic"
)

// Worker.state is one word, so that closing a worker and reserving a place on it
// cannot overlap: after Close no pick can succeed. From the bottom: the calls in
// flight, closedBit, and the worker's turn, which each call given to it moves on by
// one. Of equally loaded workers the one whose turn is earlier is next; one compare
// and swap counts both. The turn wraps around out of the word, so turns are compared
// by their difference.
const (
	inflightBits = 29
	inflightMask = 1<<inflightBits - 1
	closedBit    = 1 << inflightBits
	// takenMask is what room is compared with: a closed worker has no room at all.
	takenMask = closedBit | inflightMask
	turnShift = inflightBits + 1
	// roomy is the room of a worker without a limit.
	roomy = inflightMask
	// lag is how far behind another of the same load a turn may be: who comes late,
	// or back, is not given everything until it has caught up.
	lag = 256
	// mostGain keeps loads within a word.
	mostGain = 1 << 30
)

// fullShare is the fixed-point 1 of shares, gains and loads.
const fullShare = 256

// Worker has the counters of one worker. It outlives snapshots: a worker that leaves a Set
// and returns keeps its calls in flight. Create it with NewWorker; it is safe for
// concurrent use.
type Worker struct {
	// Tag is for the caller's use; set it before the worker is used.
	Tag any

	name string
	hash uint64
	// cache is what Smart believes to be unpacked there.
	cache *packages
	// scale is the gain in full share.
	scale atomic.Uint32
	// slow is how much longer calls take here than elsewhere, in 1/256.
	slow atomic.Uint32
	_    [8]byte

	// What a pick looks at is one cache line, apart from what is only read.

	state atomic.Uint64 // see inflightBits
	// room is the most calls in flight, roomy for no limit.
	room atomic.Uint64
	// gains are how much one call in flight weighs, in 1/256. By gain: 256 for the
	// strongest worker, 512 for one of half its strength, more in slow start. By
	// drag, part of what the worker was measured to be slower than others is
	// counted as load besides.
	gains [2]atomic.Uint64
	// latency is the peak EWMA in nanoseconds (float64 bits), stamp when it was
	// last fed.
	latency atomic.Uint64
	stamp   atomic.Int64
	// places are the level indexes that the worker is in (see levels).
	places atomic.Pointer[[]*place]
	// slot is the worker's index in the snapshot that was built last.
	slot atomic.Uint32
	// share is the part of its calls that a worker in slow start takes, in 1/256.
	share atomic.Uint32
}

// NewWorker returns an open worker without a limit and with its full share.
func NewWorker(name string) *Worker {
	w := &Worker{name: name, hash: HashString(name), cache: new(packages)}
	w.room.Store(roomy)
	w.share.Store(fullShare)
	w.slow.Store(fullShare)
	w.setScale(fullShare)
	return w
}

// Name returns the name given to NewWorker.
func (w *Worker) Name() string { return w.name }

// InFlight returns the number of calls that are reserved and not released.
func (w *Worker) InFlight() int { return int(w.state.Load() & inflightMask) }

// Close makes the worker refuse new calls; calls in flight continue. It is for draining and
// failed health checks.
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

// SetLimit sets the maximum number of calls in flight; 0 or less means no limit.
func (w *Worker) SetLimit(n int) {
	if n <= 0 || n > roomy {
		n = roomy
	}
	w.room.Store(uint64(n))
	w.sync()
}

// Full reports whether the worker is at its limit.
func (w *Worker) Full() bool { return uint64(w.InFlight()) >= w.room.Load() }

// SetShare sets the fraction of its usual calls that the worker gets, for slow start: above
// 0, at most 1. Other values mean 1.
func (w *Worker) SetShare(share float64) {
	s := uint32(fullShare)
	if share > 0 && share < 1 {
		s = max(1, uint32(share*fullShare))
	}
	w.share.Store(s)
	w.weigh()
	w.sync()
}

// setScale sets what a call weighs in full share.
func (w *Worker) setScale(scale uint32) {
	w.scale.Store(scale)
	w.weigh()
}

// weigh computes what follows from scale, share and slow. Whoever changes one of
// them calls it, and looks again if another has changed meanwhile.
func (w *Worker) weigh() {
	for {
		scale, share, slow := w.scale.Load(), w.share.Load(), w.slow.Load()
		gain := min(uint64(scale)*fullShare/uint64(share), mostGain)
		w.gains[byGain].Store(gain)
		w.gains[byDrag].Store(gain * uint64(fullShare+slow) / (2 * fullShare))
		if scale == w.scale.Load() && share == w.share.Load() && slow == w.slow.Load() {
			return
		}
	}
}

// Latency returns the peak EWMA of the worker's latency in nanoseconds, as of its last
// answer; 0 before the first.
func (w *Worker) Latency() float64 { return math.Float64frombits(w.latency.Load()) }

// load is what rules compare: the calls in flight, weighted, in 1/256 of a call.
// It counts the call that would come, so that a weak worker looks busy before
// its first call.
func (w *Worker) load(state uint64) uint64 { return w.loadBy(state, byGain) }

// measure is what a load is measured by.
type measure int

const (
	byGain measure = iota
	byDrag         // as Smart does
)

func (w *Worker) loadBy(state uint64, by measure) uint64 {
	return (state&inflightMask + 1) * w.gains[by].Load()
}

// free reports whether state lets one more call in.
func (w *Worker) free(state uint64) bool { return state&takenMask < w.room.Load() }

// reserve takes a place if there is one.
func (w *Worker) reserve() bool {
	for {
		s := w.state.Load()
		if !w.free(s) {
			return false
		}
		if w.reserveAt(s, 0) {
			return true
		}
	}
}

// reserveAt takes a place if the state, which is free, is still the one that was
// looked at. The worker's turn leaps by skip besides.
func (w *Worker) reserveAt(s, skip uint64) bool {
	return w.state.CompareAndSwap(s, s+1<<turnShift+1+skip)
}

func (w *Worker) release() {
	w.state.Add(^uint64(0))
	if w.places.Load() != nil {
		w.sync()
	}
}

// sync shows the worker's present level in the indexes that it is in. It is
// called after every change that may have lowered it.
func (w *Worker) sync() {
	if p := w.places.Load(); p != nil {
		level := w.level(w.state.Load())
		for _, pl := range *p {
			pl.in.set(level, pl.slot)
		}
	}
}

// DefaultDecay is the half-life of a latency peak, in nanoseconds.
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
