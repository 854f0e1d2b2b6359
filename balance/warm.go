package balance

import (
	"math/bits"
	"sync/atomic"
)

// warm remembers where instances of a function stand idle, as far as the gateway
// can know. Each worker that has some has a seat; one instance is one bit, so that
// it is noted, or claimed, by one atomic operation.
type warm struct {
	// idle: bit i of word k says that more than k instances stand idle on the worker
	// of seat i. The first word thus has each worker once.
	idle  [warmDepth]atomic.Uint64
	_     [64 - 8*warmDepth]byte
	seats [warmSeats]seat
}

// seat is a worker's as long as one of its bits is set. Without, it keeps the worker
// that it was last used for, which mostly uses it again: nothing but a bit is
// written then.
type seat struct {
	w  atomic.Pointer[Worker]
	at atomic.Int64 // when the last instance became idle, to within warmAbout
}

const (
	// warmSeats bounds on how many workers idle instances are remembered, warmDepth
	// how many on each.
	warmSeats = 64
	warmDepth = 4
	// warmProbes bounds how many seats are looked at for the worker's own.
	warmProbes = 8
	// warmLooks bounds how many workers with an idle instance are compared.
	warmLooks = 8
	// warmAbout is how exactly a seat's time is kept, in nanoseconds.
	warmAbout = 1e9
)

// WarmFor is the time in nanoseconds for which an instance is assumed to stay warm after
// its last call.
const WarmFor = 60e9

// push notes an instance that has become idle on w. If too many are known already,
// one more does not matter.
func (m *warm) push(w *Worker, now int64) {
	i := m.seatOf(w)
	if i < 0 {
		return
	}
	if s := &m.seats[i]; now-s.at.Load() > warmAbout {
		s.at.Store(now)
	}
	bit := uint64(1) << i
	for k := range m.idle {
		if m.idle[k].Load()&bit == 0 && m.idle[k].Or(bit)&bit == 0 {
			return
		}
	}
}

// seatOf is the worker's seat, or one that nobody uses, or -1. Two workers that take
// one seat at an instant make a wrong hint for a call or two.
func (m *warm) seatOf(w *Worker) int {
	from := int(w.hash & (warmSeats - 1))
	for k := range warmProbes {
		if i := (from + k) & (warmSeats - 1); m.seats[i].w.Load() == w {
			return i
		}
	}
	free := uint64(1<<64 - 1)
	for k := range m.idle {
		free &^= m.idle[k].Load()
	}
	if free == 0 {
		return -1
	}
	i := (bits.TrailingZeros64(bits.RotateLeft64(free, -from)) + from) & (warmSeats - 1)
	m.seats[i].w.Store(w)
	return i
}

// pop claims an idle instance on the least loaded of some workers that have one, and
// a place there, unless that worker's load is above most calls. It returns the worker
// and whether a place was reserved; no worker if no instance is known.
func (m *warm) pop(n *snapshot, c *Call, by measure, most uint64) (w *Worker, load uint64, ok bool) {
	base := rankBase(n.workers[below(c.Rand, len(n.workers))].state.Load())
	for {
		word := m.idle[0].Load()
		if word == 0 {
			return nil, 0, false
		}
		best, state := uint64(noRank), uint64(0)
		turn, looks := int(c.Rand&(warmSeats-1)), warmLooks
		for left := bits.RotateLeft64(word, -turn); left != 0 && looks > 0; left &= left - 1 {
			i := (bits.TrailingZeros64(left) + turn) & (warmSeats - 1)
			x := m.seats[i].w.Load()
			if s := x.state.Load(); x.free(s) {
				if r := rank(base, x.loadBy(s, by), s) | uint64(i); r < best {
					best, state = r, s
				}
			}
			looks--
		}
		if best == noRank || c.avoiding() {
			if best, state = m.any(c, word); best == noRank {
				return nil, 0, false
			}
		}
		i := int(best & rankWho)
		w = m.seats[i].w.Load()
		if load = best >> rankLoad; load > most {
			return w, load, false
		}
		if !m.claim(i) {
			continue
		}
		if !w.reserveAt(state, leap(best)) && !w.reserve() {
			m.push(w, c.Now) // the instance is still there, but no place: look again
			continue
		}
		// Seldom false, so asked when all else is under way.
		if c.Now-m.seats[i].at.Load() <= WarmFor && n.has(w) {
			return w, load, true
		}
		w.release()
	}
}

// claim takes one idle instance of the seat, if there is one. It takes the highest
// bit, whatever is below: two at one instant may leave a gap.
func (m *warm) claim(i int) bool {
	bit := uint64(1) << i
	above := m.idle[1].Load()>>i&1 | m.idle[2].Load()>>i&1<<1 | m.idle[3].Load()>>i&1<<2
	word := &m.idle[bits.Len64(above)&(warmDepth-1)]
	was := word.Load()
	return was&bit != 0 && word.CompareAndSwap(was, was&^bit)
}

// any is the rank, with a load of none, and the state of any worker with an idle
// instance that has a place and may be picked, for when the others do not.
func (m *warm) any(c *Call, word uint64) (rank, state uint64) {
	for ; word != 0; word &= word - 1 {
		i := bits.TrailingZeros64(word)
		x := m.seats[i].w.Load()
		if s := x.state.Load(); x.free(s) && !c.avoids(x) {
			return uint64(i) | 1<<(rankLoad-1), s
		}
	}
	return noRank, 0
}
