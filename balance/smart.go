package balance

import "sync/atomic"

// Smart is the rule of new configurations: warmth, packages, load and latency
// in one.
//
//  1. An instance of the function that stands idle is asked first (as Pull
//     does), unless its worker is loaded beyond Bound times the mean: a warm
//     start in a long queue is slower than a cold one beside it.
//  2. Else some worker must start one. Its two homes by hash of the largest
//     package and the least loaded worker compete: calls in flight, plus what
//     the packages that the worker lacks would cost, stretched by its latency
//     where it is slower than the others.
type Smart struct {
	// Bound is how far above the mean load a warm worker may be. Zero means 2.
	Bound float64
	// Miss is what one missing package costs, in calls in flight. Zero means 1.
	Miss float64
}

// Name is "smart".
func (Smart) Name() string    { return "smart" }
func (Smart) needs() feedback { return wantsWarm | wantsTotal }

func (r Smart) pick(s *Set, n *snapshot, c *Call) *Worker {
	if c.Fn == nil {
		return s.least(n, c)
	}
	bound, miss := r.Bound, r.Miss
	if bound <= 0 {
		bound = 2
	}
	if miss <= 0 {
		miss = 1
	}
	most := n.bound(s.total.sum(), bound) + fullShare
	if w := c.Fn.warm.pop(n, c, most); w != nil {
		return w
	}
	h := c.Fn.affinity()
	var best *Worker
	var bestState, bestLoad uint64
	for range 2 {
		w := n.hashed(h)
		h = mix(h + 0x9e3779b97f4a7c15)
		st := w.state.Load()
		if !w.free(st) || c.avoids(w) {
			continue
		}
		load := w.load(st) + w.cache.missing(c.Fn, uint64(miss*fullShare))
		if load <= most && (best == nil || load < bestLoad) {
			best, bestState, bestLoad = w, st, load
		}
	}
	if best != nil && best.reserveAt(bestState) {
		best.cache.note(c.Fn)
		return best
	}
	w := s.least(n, c)
	if w != nil {
		w.cache.note(c.Fn)
	}
	return w
}

// packages is what a worker has unpacked lately, as far as the gateway can
// know: a small direct-mapped table of package hashes, the newest wins.
type packages [64]atomic.Uint64

// missing is the sum of cost over the function's packages that are not there.
func (p *packages) missing(f *Fn, cost uint64) uint64 {
	var sum uint64
	for _, h := range f.pkgHash {
		if p[h%uint64(len(p))].Load() != h {
			sum += cost
		}
	}
	return sum
}

func (p *packages) note(f *Fn) {
	for _, h := range f.pkgHash {
		if s := &p[h%uint64(len(p))]; s.Load() != h {
			s.Store(h)
		}
	}
}
