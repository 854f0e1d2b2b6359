package balance

import (
	"math/bits"
	"sync/atomic"
)

// Fn is what the rules know and learn of one function. It lives as long as the
// function does, across snapshots.
type Fn struct {
	name string
	hash uint64
	pkgs []string
	// pkgHash are the hashes of the packages, the largest first.
	pkgHash []uint64
	// ringAt are the places of the largest package on the ring, by two hashes.
	ringAt [2]uint64
	home   atomic.Pointer[home]
	warm   warm
}

// home is the worker that pkg-aware holds a function to, as chosen in snap.
type home struct {
	snap *snapshot
	w    *Worker
}

// NewFn returns a function of that name which needs the packages, the largest
// first. Without packages it goes by its own name.
func NewFn(name string, pkgs []string) *Fn {
	f := &Fn{name: name, hash: HashString(name), pkgs: pkgs}
	for _, p := range pkgs {
		f.pkgHash = append(f.pkgHash, HashString(p))
	}
	by := name
	if len(pkgs) > 0 {
		by = pkgs[0]
	}
	f.ringAt = [2]uint64{ringHash(by), ringHash(by + "#2")}
	return f
}

// Name is the name given to NewFn.
func (f *Fn) Name() string { return f.name }

// Packages are those given to NewFn.
func (f *Fn) Packages() []string { return f.pkgs }

// affinity is the hash of the largest package.
func (f *Fn) affinity() uint64 {
	if len(f.pkgHash) > 0 {
		return f.pkgHash[0]
	}
	return f.hash
}

// warm remembers where a function finished lately: one entry for each instance
// that stands idle, as far as the gateway can know. Bits of mask are hints;
// a slot's pointer is the truth.
type warm struct {
	mask  atomic.Uint64
	slots [64]struct {
		w  atomic.Pointer[Worker]
		at atomic.Int64
	}
}

// WarmFor is the time in nanoseconds for which an instance is believed to be
// kept alive after its last call.
const WarmFor = 60e9

// warmLooks bounds how many idle instances are compared.
const warmLooks = 6

func (m *warm) push(w *Worker, now int64) {
	for range 4 {
		free := ^m.mask.Load()
		if free == 0 {
			return // sixty-four idle instances are known: enough
		}
		i := bits.TrailingZeros64(free)
		s := &m.slots[i]
		if s.w.CompareAndSwap(nil, w) {
			s.at.Store(now)
			m.mask.Or(1 << i)
			return
		}
		m.mask.Or(1 << i) // a hint was lost: repair it
	}
}

// pop reserves a place on the least loaded worker with an idle instance that
// accept lets pass.
func (m *warm) pop(n *snapshot, c *Call, most uint64) *Worker {
	mask := m.mask.Load()
	if mask == 0 {
		return nil
	}
	turn := int(c.Rand & 63)
	mask = bits.RotateLeft64(mask, -turn)
	best, bestLoad := -1, ^uint64(0)
	var bestW *Worker
	var bestState uint64
	for looks := 0; mask != 0 && looks < warmLooks; looks++ {
		i := (bits.TrailingZeros64(mask) + turn) & 63
		mask &= mask - 1
		slot := &m.slots[i]
		w := slot.w.Load()
		if w == nil {
			continue
		}
		if c.Now-slot.at.Load() > WarmFor || n.byName[w.name] != w {
			m.take(i, w)
			continue
		}
		s := w.state.Load()
		if !w.free(s) || c.avoids(w) {
			continue
		}
		if l := w.load(s); l < bestLoad {
			best, bestLoad, bestW, bestState = i, l, w, s
		}
	}
	if best < 0 || bestLoad > most || !m.take(best, bestW) {
		return nil
	}
	if bestW.reserveAt(bestState) || bestW.reserve() {
		return bestW
	}
	return nil
}

// take removes the entry i if it is still w's.
func (m *warm) take(i int, w *Worker) bool {
	if !m.slots[i].w.CompareAndSwap(w, nil) {
		return false
	}
	m.mask.And(^uint64(1 << i))
	return true
}
