package balance

import "sync/atomic"

// Smart is the default rule of new configurations. It combines warmth, packages, load and
// latency. Load is calls in flight, weighted by how much slower than others the worker
// was measured to be. Of workers with equal load, the one that got fewer calls is next.
//
//  1. Of some workers with an idle instance of the function, the least loaded is picked
//     (as by Pull), unless it has more than Slack calls more than another worker.
//  2. Otherwise an instance must be started: where one was started last, on the home of
//     the largest package (by hash), or on the least loaded worker. A worker that lacks
//     some of the packages counts as Miss calls busier.
type Smart struct {
	// Slack is how many calls in flight more than others a warm worker may have. Zero means
	// 9: a cold start takes as long as about nine calls.
	Slack uint
	// Miss is the penalty for missing packages, in calls in flight. Zero means 6.
	Miss uint
}

// Name is "smart".
func (Smart) Name() string { return "smart" }

func (r Smart) pick(s *Set, n *snapshot, c *Call) (*Worker, feedback) {
	f := c.Fn
	if f == nil {
		return s.least(n, c), 0
	}
	slack := uint64(9 * fullShare)
	if r.Slack > 0 {
		slack = uint64(r.Slack) * fullShare
	}
	// Nobody has less than none in flight: mostly nobody else need be looked at.
	w, load, ok := f.warm.pop(n, c, byDrag, slack/fullShare+1)
	if ok {
		return w, wantsWarm | wantsSlow
	}
	best := n.leastOf(c, byDrag)
	if best.w == nil {
		return nil, 0
	}
	if w != nil && load*fullShare <= best.load+slack {
		if w, _, ok = f.warm.pop(n, c, byDrag, (best.load+slack)/fullShare); ok {
			return w, wantsWarm | wantsSlow
		}
	}
	return r.start(s, n, c, best), wantsWarm
}

// start reserves a place where an instance of the function is to be started.
func (r Smart) start(s *Set, n *snapshot, c *Call, best choice) *Worker {
	miss := uint64(6 * fullShare)
	if r.Miss > 0 {
		miss = uint64(r.Miss) * fullShare
	}
	least := best.load
	if !best.w.cache.has(c.Fn) {
		least += miss
	}
	last := c.Fn.last.Load()
	for _, w := range [...]*Worker{last, n.hashed(c.Fn.affinity())} {
		if w == nil || !n.has(w) || c.avoids(w) {
			continue
		}
		state := w.state.Load()
		if !w.free(state) {
			continue
		}
		load := w.loadBy(state, byDrag)
		if w != last && !w.cache.has(c.Fn) {
			load += miss
		}
		if load < least {
			best, least = choice{w: w, state: state}, load
		}
	}
	if !best.reserve() && !best.w.reserve() {
		return s.least(n, c)
	}
	best.w.cache.note(c.Fn)
	if c.Fn.last.Load() != best.w {
		c.Fn.last.Store(best.w)
	}
	return best.w
}

// packages is what a worker has unpacked lately, as far as the gateway can
// know: a small direct-mapped table of package hashes, the newest wins.
type packages [512]atomic.Uint64

// has says whether all the function's packages are there.
func (p *packages) has(f *Fn) bool {
	for _, h := range f.pkgHash {
		if p[h%uint64(len(p))].Load() != h {
			return false
		}
	}
	return true
}

func (p *packages) note(f *Fn) {
	for _, h := range f.pkgHash {
		if s := &p[h%uint64(len(p))]; s.Load() != h {
			s.Store(h)
		}
	}
}

// learn takes from one warm call of the function how much slower than others
// the worker is. Of eight calls one is enough; which is left to the clock's
// last digits.
func (w *Worker) learn(f *Fn, now, took int64) {
	if uint64(now^took)*golden>>61 != 0 || took <= 0 {
		return
	}
	mean := int64(f.mean.Load())
	if mean == 0 {
		f.mean.Store(uint64(took))
		return
	}
	took = min(took, 4*mean)
	f.mean.Store(uint64(mean + (took-mean)/16))
	was := int64(w.slow.Load())
	is := was + (took*fullShare/mean-was)/16
	// Never so slow that another is given a second call before it has its first:
	// else nobody would learn that it has recovered.
	is = min(is, 3*fullShare-2)
	if is != was {
		w.slow.Store(uint32(max(is, 1)))
		w.weigh()
	}
}
