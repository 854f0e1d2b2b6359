package balance

import (
	"math/bits"
	"sync/atomic"
)

// levels finds a least loaded worker of many without looking at all of them.
// For each level of load it has one bit a worker. Levels are exact up to 32 calls
// in flight and then grow by eighths; within a coarse level the least loaded of
// those looked at is taken.
//
// Truth is Worker.state alone; bits only hint at it. A worker has a bit at its
// level or below: who lowers a worker's load sets the bit of the new level, who
// picked it here moves the bit up, who reserved a place without looking here sets
// nothing. Whoever meets a bit that does not fit moves it up, or clears it, and
// looks on.
type levels struct {
	words   int
	occ     atomic.Uint64   // levels that may have a bit
	bits    []atomic.Uint64 // level*words + slot/64
	workers []*Worker
}

const (
	levelCount = 64
	levelShut  = levelCount - 1 // closed or at its limit
)

// place is where a worker stands in a levels index.
type place struct {
	in   *levels
	slot int
}

func newLevels(workers []*Worker) *levels {
	words := (len(workers) + 63) / 64
	l := &levels{words: words, bits: make([]atomic.Uint64, words*levelCount), workers: workers}
	for i, w := range workers {
		l.set(w.level(w.state.Load()), i)
	}
	return l
}

// levelOf maps a load in 1/256 of a call to a level.
func levelOf(load uint64) uint32 {
	if load >= fullShare {
		load -= fullShare
	}
	n := load / fullShare
	if n < 32 {
		return uint32(n)
	}
	// 8 levels for each doubling: 32..63 → 32..39, 64..127 → 40..47, ...
	exp := bits.Len64(n) - 6
	l := 32 + uint64(exp)*8 + (n>>(exp+2))&7
	return uint32(min(l, levelShut-1))
}

// level is where a worker of that state belongs.
func (w *Worker) level(state uint64) uint32 {
	if !w.free(state) {
		return levelShut
	}
	return levelOf(w.load(state))
}

func (l *levels) set(level uint32, slot int) {
	word, bit := &l.bits[int(level)*l.words+slot/64], uint64(1)<<(slot%64)
	if word.Load()&bit == 0 {
		word.Or(bit)
	}
	if l.occ.Load()&(1<<level) == 0 {
		l.occ.Or(1 << level)
	}
}

// stale clears the bit of a worker at a level that is not its own any more.
func (l *levels) stale(level uint32, slot int) {
	word, bit := &l.bits[int(level)*l.words+slot/64], uint64(1)<<(slot%64)
	word.And(^bit)
	if w := l.workers[slot]; w.level(w.state.Load()) == level { // it came back meanwhile
		l.set(level, slot)
	}
}

// coarseLooks bounds how many workers of one coarse level are compared.
const coarseLooks = 64

// least reserves a place on a least loaded worker and returns it, or nil if
// none has one. rnd says where to begin, so that ties are broken evenly.
func (l *levels) least(rnd uint64, c *Call) *Worker {
	for range 2 * levelCount {
		occ := l.occ.Load() &^ (1 << levelShut)
		for occ != 0 {
			level := uint32(bits.TrailingZeros64(occ))
			w, seen := l.at(level, rnd, c)
			if w != nil {
				return w
			}
			if !seen {
				l.vacate(level)
			}
			// What was met too low has moved up, maybe to a level without others.
			occ = l.occ.Load() &^ (1<<levelShut | 1<<(level+1) - 1)
		}
		if l.occ.Load()&^(1<<levelShut) == 0 {
			return nil
		}
		rnd = mix(rnd + 1)
		if c.avoiding() {
			return nil
		}
	}
	return nil
}

// vacate takes the mark of a level off that has no bit, and puts it back if one
// was set meanwhile.
func (l *levels) vacate(level uint32) {
	l.occ.And(^uint64(1 << level))
	for i := range l.words {
		if l.bits[int(level)*l.words+i].Load() != 0 {
			l.occ.Or(1 << level)
			return
		}
	}
}

// at reserves a place on a worker of the level. seen says that the level has bits.
func (l *levels) at(level uint32, rnd uint64, c *Call) (w *Worker, seen bool) {
	start := int((rnd >> 32) * uint64(l.words) >> 32) // of 64 bits on every system
	turn := int(rnd & 63)
	var best *Worker
	var bestLoad, bestState uint64
	looks := 0
	for i := range l.words {
		wi := start + i
		if wi >= l.words {
			wi -= l.words
		}
		word := bits.RotateLeft64(l.bits[int(level)*l.words+wi].Load(), -turn)
		for word != 0 {
			seen = true
			b := (bits.TrailingZeros64(word) + turn) & 63
			word &= word - 1
			w := l.workers[wi*64+b]
			s := w.state.Load()
			if is := w.level(s); is != level {
				if is > level {
					l.set(is, wi*64+b)
				}
				l.stale(level, wi*64+b)
				continue
			}
			if c.avoids(w) {
				continue
			}
			if level < 32 {
				if w.reserveAt(s, 0) {
					l.set(w.level(s+1), wi*64+b)
					l.stale(level, wi*64+b)
					return w, true
				}
				continue
			}
			if load := w.load(s); best == nil || load < bestLoad {
				best, bestLoad, bestState = w, load, s
			}
			if looks++; looks >= coarseLooks {
				break
			}
		}
	}
	if best != nil && best.reserveAt(bestState, 0) {
		return best, true
	}
	return nil, seen
}
