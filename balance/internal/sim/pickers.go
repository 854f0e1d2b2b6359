package sim

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/rota-project/rota/balance"
)

// Rule runs a rule of package balance as the gateway does.
type Rule struct {
	Rule  balance.Rule
	Label string // the rule's name if empty

	set     balance.Set
	fns     []*balance.Fn
	workers []*balance.Worker
	index   map[*balance.Worker]int
	flying  map[[2]int][]*flying
	rnd     uint64
}

type flying struct {
	pick balance.Pick
	at   float64
}

// Name implements Picker.
func (r *Rule) Name() string {
	if r.Label != "" {
		return r.Label
	}
	return r.Rule.Name()
}

// Reset implements Picker.
func (r *Rule) Reset(workers int, fns []Function, seed uint64) {
	r.set = balance.Set{}
	r.fns, r.workers = nil, nil
	r.index, r.flying = map[*balance.Worker]int{}, map[[2]int][]*flying{}
	r.rnd = seed
	var ms []balance.Member
	for i := range workers {
		w := balance.NewWorker(fmt.Sprintf("http://worker-%d:5000", i))
		r.workers = append(r.workers, w)
		r.index[w] = i
		ms = append(ms, balance.Member{Worker: w, Weight: 1})
	}
	r.set.Update(ms)
	for _, f := range fns {
		var pkgs []string
		for _, p := range f.Packages {
			pkgs = append(pkgs, p.Name)
		}
		r.fns = append(r.fns, balance.NewFn(f.Name, pkgs))
	}
}

// Pick implements Picker.
func (r *Rule) Pick(f int, now float64) int {
	r.rnd = splitmix(r.rnd)
	fl := &flying{at: now}
	w := r.set.Pick(r.Rule, &balance.Call{Fn: r.fns[f], Rand: mixed(r.rnd), Now: int64(now * 1e6)}, &fl.pick)
	i := r.index[w]
	key := [2]int{f, i}
	r.flying[key] = append(r.flying[key], fl)
	return i
}

// Done implements Picker.
func (r *Rule) Done(f, w int, now, took float64) {
	key := [2]int{f, w}
	list := r.flying[key]
	r.flying[key] = list[1:]
	list[0].pick.Done(int64(now*1e6), int64(took*1e6))
}

// Evicted implements Picker: a gateway is not told.
func (r *Rule) Evicted(int, int) {}

func splitmix(x uint64) uint64 { return x + 0x9e3779b97f4a7c15 }

func mixed(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// twin is what the twins of published rules have in common: exact counts, which
// a real balancer of that kind would have at best.
type twin struct {
	load []int
	rnd  uint64
}

func (t *twin) reset(workers int, seed uint64) { t.load, t.rnd = make([]int, workers), seed }

func (t *twin) random(n int) int {
	t.rnd = splitmix(t.rnd)
	return int(mixed(t.rnd) % uint64(n))
}

// least is a worker with the fewest calls, ties broken at random.
func (t *twin) least() int {
	best, ties := 0, 0
	for i, l := range t.load {
		switch {
		case i == 0 || l < t.load[best]:
			best, ties = i, 1
		case l == t.load[best]:
			if ties++; t.random(ties) == 0 {
				best = i
			}
		}
	}
	return best
}

// pasch is a twin of the package-aware scheduler of Aumala et al. (CCGrid '19):
// two workers by two hashes of the function's largest package, the less loaded
// of them; from Threshold calls on it the least loaded worker of all.
type pasch struct {
	Threshold int
	twin
	homes [][2]int
}

// Name implements Picker.
func (p *pasch) Name() string { return "PASch (twin)" }

// Reset implements Picker.
func (p *pasch) Reset(workers int, fns []Function, seed uint64) {
	p.reset(workers, seed)
	p.homes = nil
	for _, f := range fns {
		by := f.Name
		if len(f.Packages) > 0 {
			by = f.Packages[0].Name
		}
		n := uint64(workers)
		p.homes = append(p.homes, [2]int{int(balance.HashString(by) % n), int(balance.HashString(by+"'") % n)})
	}
}

// Pick implements Picker.
func (p *pasch) Pick(f int, _ float64) int {
	w := p.homes[f][0]
	if o := p.homes[f][1]; p.load[o] < p.load[w] {
		w = o
	}
	if p.load[w] >= p.Threshold {
		w = p.least()
	}
	p.load[w]++
	return w
}

// Done implements Picker.
func (p *pasch) Done(_, w int, _, _ float64) { p.load[w]-- }

// Evicted implements Picker.
func (p *pasch) Evicted(int, int) {}

// hiku is a twin of the pull-based scheduler of Akbari and Hauswirth (CCGrid
// '25): a worker that finished a function waits in that function's queue, the
// one with the fewest calls first (the first in order, if equal); without one, the
// least connections. It is told of evictions, as the paper's workers tell it.
type hiku struct {
	twin
	idle [][]int // function → worker → idle instances
}

// Name implements Picker.
func (h *hiku) Name() string { return "Hiku (twin)" }

// Reset implements Picker.
func (h *hiku) Reset(workers int, fns []Function, seed uint64) {
	h.reset(workers, seed)
	h.idle = make([][]int, len(fns))
	for i := range h.idle {
		h.idle[i] = make([]int, workers)
	}
}

// Pick implements Picker.
func (h *hiku) Pick(f int, _ float64) int {
	w := -1
	for i, n := range h.idle[f] {
		if n > 0 && (w < 0 || h.load[i] < h.load[w]) {
			w = i
		}
	}
	if w >= 0 {
		h.idle[f][w]--
	} else {
		w = h.least()
	}
	h.load[w]++
	return w
}

// Done implements Picker.
func (h *hiku) Done(f, w int, _, _ float64) {
	h.load[w]--
	h.idle[f][w]++
}

// Evicted implements Picker.
func (h *hiku) Evicted(f, w int) {
	if h.idle[f][w] > 0 {
		h.idle[f][w]--
	}
}

// chbl is a twin of consistent hashing with bounded loads (Mirrokni et al.,
// 2018): the worker that the function's name hashes to, or the ring's next one
// whose load is within 1.25 times the mean.
type chbl struct {
	twin
	total int
	ring  []int // points in order → worker
	at    []int // function → point
}

// Name implements Picker.
func (c *chbl) Name() string { return "CH bounded (twin)" }

// Reset implements Picker.
func (c *chbl) Reset(workers int, fns []Function, seed uint64) {
	c.reset(workers, seed)
	c.total = 0
	const points = 100
	type point struct {
		h uint64
		w int
	}
	var ps []point
	for w := range workers {
		for i := range points {
			ps = append(ps, point{balance.HashString(fmt.Sprintf("w%d-%d", w, i)), w})
		}
	}
	slices.SortFunc(ps, func(a, b point) int { return cmp.Compare(a.h, b.h) })
	c.ring, c.at = nil, nil
	for _, p := range ps {
		c.ring = append(c.ring, p.w)
	}
	for _, f := range fns {
		h, i := balance.HashString(f.Name), 0
		for i < len(ps) && ps[i].h < h {
			i++
		}
		c.at = append(c.at, i%len(ps))
	}
}

// Pick implements Picker.
func (c *chbl) Pick(f int, _ float64) int {
	c.total++
	bound := int(math.Ceil(1.25 * float64(c.total) / float64(len(c.load))))
	for i := c.at[f]; ; i++ {
		if w := c.ring[i%len(c.ring)]; c.load[w] < bound {
			c.load[w]++
			return w
		}
	}
}

// Done implements Picker.
func (c *chbl) Done(_, w int, _, _ float64) {
	c.load[w]--
	c.total--
}

// Evicted implements Picker.
func (c *chbl) Evicted(int, int) {}
