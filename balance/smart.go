package balance

import "sync/atomic"

// Smart is the rule of new configurations: warmth, packages, load and latency
// in one.
//
//  1. An instance of the function that stands idle is asked first (as Pull
//     does), unless its worker is busier than Slack calls more than another
//     one: a warm start in a long queue is slower than a cold one beside it.
//  2. Else some worker must start one. Its two homes by hash of the largest
//     package and the least loaded worker compete: calls in flight, and Miss
//     for each package that the worker does not have.
type Smart struct {
	// Slack is how many calls in flight more than others a warm worker may
	// have. Zero means 3.
	Slack float64
	// Miss is what one missing package costs, in calls in flight: unpacking one
	// takes as long as many calls. Zero means 4.
	Miss float64
}

// Name is "smart".
func (Smart) Name() string    { return "smart" }
func (Smart) needs() feedback { return wantsWarm }

func (r Smart) pick(s *Set, n *snapshot, c *Call) *Worker {
	if c.Fn == nil {
		return s.least(n, c)
	}
	slack, miss := uint64(3*fullShare), uint64(4*fullShare)
	if r.Slack > 0 {
		slack = uint64(r.Slack * fullShare)
	}
	if r.Miss > 0 {
		miss = uint64(r.Miss * fullShare)
	}
	entry, w, st := c.Fn.warm.idle(n, c)
	if entry >= 0 {
		load := w.load(st)
		if load <= slack+fullShare && c.Fn.warm.take(entry, w, st) {
			return w
		}
	}
	best, bestState, bestScore := n.leastOf(s, c)
	if best == nil {
		return nil
	}
	if entry >= 0 && w.load(st) <= bestScore+slack && c.Fn.warm.take(entry, w, st) {
		return w
	}
	bestScore += best.cache.missing(c.Fn, miss)
	h := c.Fn.affinity()
	for range 2 {
		w := n.hashed(h)
		h = mix(h + 0x9e3779b97f4a7c15)
		st := w.state.Load()
		if !w.free(st) || c.avoids(w) {
			continue
		}
		if score := w.load(st) + w.cache.missing(c.Fn, miss); score < bestScore {
			best, bestState, bestScore = w, st, score
		}
	}
	if !best.reserveAt(bestState) && !best.reserve() {
		return s.least(n, c)
	}
	best.cache.note(c.Fn)
	return best
}

// packages is what a worker has unpacked lately, as far as the gateway can
// know: a small direct-mapped table of package hashes, the newest wins.
type packages [512]atomic.Uint64

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
