// Command balance measures the picking rules of package balance beside two
// usual designs: a mutex-guarded least-loaded list, and a consistent hashing ring
// with bounded loads behind a lock, hashed with BLAKE2b (the design of
// lafikl/consistent, whose module could not be fetched where this was written).
//
// A pick is timed with its reservation and its release, from one goroutine and
// from as many as there are CPUs. make bench-balance runs it.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"runtime"
	"sort"
	"sync"
	"testing"

	"golang.org/x/crypto/blake2b"

	"github.com/rota-project/rota/balance"
)

// picker picks and releases once for a function and a random number.
type picker interface {
	once(fn int, rnd uint64)
}

type rule struct {
	set  *balance.Set
	rule balance.Rule
	fns  []*balance.Fn
}

type hand struct {
	call balance.Call
	pick balance.Pick
}

var hands = sync.Pool{New: func() any { return new(hand) }}

func newRule(name string, n int) picker {
	r, err := balance.RuleByName(name, 3)
	if err != nil {
		panic(err) // the names are written below
	}
	p := &rule{set: &balance.Set{}, rule: r}
	var ms []balance.Member
	for i := range n {
		ms = append(ms, balance.Member{Worker: balance.NewWorker(fmt.Sprintf("http://w%d:80", i)), Weight: 1})
	}
	p.set.Update(ms)
	for i := range functions {
		p.fns = append(p.fns, balance.NewFn(fmt.Sprintf("f%d", i), []string{fmt.Sprintf("p%d", i%7)}))
	}
	return p
}

func (p *rule) once(fn int, rnd uint64) {
	h := hands.Get().(*hand)
	h.call.Fn, h.call.Rand, h.call.Key, h.call.Now = p.fns[fn], rnd, rnd, 1
	p.set.Pick(p.rule, &h.call, &h.pick)
	h.pick.Done(2, 1000)
	hands.Put(h)
}

// guarded is a list under a mutex.
type guarded struct {
	mu    sync.Mutex
	loads []int
}

func (g *guarded) once(int, uint64) {
	g.mu.Lock()
	best := 0
	for i, l := range g.loads {
		if l < g.loads[best] {
			best = i
		}
	}
	g.loads[best]++
	g.mu.Unlock()
	g.mu.Lock()
	g.loads[best]--
	g.mu.Unlock()
}

// ring is a consistent hashing ring with bounded loads behind a lock.
type ring struct {
	mu     sync.RWMutex
	points []uint64
	owner  map[uint64]string
	loads  map[string]*int64
	total  int64
	names  []string
}

func hash(s string) uint64 {
	h := blake2b.Sum512([]byte(s))
	return binary.LittleEndian.Uint64(h[:])
}

func newRing(n int) *ring {
	r := &ring{owner: map[uint64]string{}, loads: map[string]*int64{}}
	for i := range n {
		host := fmt.Sprintf("http://w%d:80", i)
		r.loads[host] = new(int64)
		for p := range 10 {
			h := hash(fmt.Sprintf("%s%d", host, p))
			r.owner[h] = host
			r.points = append(r.points, h)
		}
	}
	sort.Slice(r.points, func(i, j int) bool { return r.points[i] < r.points[j] })
	for i := range functions {
		r.names = append(r.names, fmt.Sprintf("f%d", i))
	}
	return r
}

func (r *ring) once(fn int, _ uint64) {
	h := hash(r.names[fn])
	r.mu.Lock()
	i := sort.Search(len(r.points), func(i int) bool { return r.points[i] >= h })
	bound := int64(math.Ceil(float64(r.total+1) / float64(len(r.loads)) * 1.25))
	var host string
	for ; ; i++ {
		host = r.owner[r.points[i%len(r.points)]]
		if *r.loads[host]+1 <= bound {
			break
		}
	}
	*r.loads[host]++
	r.total++
	r.mu.Unlock()
	r.mu.Lock()
	*r.loads[host]--
	r.total--
	r.mu.Unlock()
}

const functions = 16

func main() {
	testing.Init() // for -test.benchtime
	flag.Parse()
	fmt.Printf("pick, reserve and release, ns; %d CPUs\n%-34s", runtime.NumCPU(), "")
	sizes := []int{10, 100, 1000}
	for _, n := range sizes {
		fmt.Printf(" %8d", n)
	}
	fmt.Printf(" %14s\n", "100, parallel")
	show := func(name string, build func(int) picker) {
		fmt.Printf("%-34s", name)
		for _, n := range sizes {
			p := build(n)
			fmt.Printf(" %8.1f", best(func(b *testing.B) {
				rnd := uint64(1)
				i := 0
				for b.Loop() {
					rnd = rnd*6364136223846793005 + 1442695040888963407
					p.once(i%functions, rnd)
					i++
				}
			}))
		}
		p := build(100)
		fmt.Printf(" %14.1f\n", best(func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				rnd := uint64(1)
				i := 0
				for pb.Next() {
					rnd = rnd*6364136223846793005 + 1442695040888963407
					p.once(i%functions, rnd)
					i++
				}
			})
		}))
	}
	for _, name := range []string{"smart", "round-robin", "random", "least-loaded", "hashing-bounded", "pkg-aware", "p2c", "least-latency", "pull", "sticky"} {
		show(name, func(n int) picker { return newRule(name, n) })
	}
	show("mutex and list, least loaded", func(n int) picker { return &guarded{loads: make([]int, n)} })
	show("lock and BLAKE2b ring, bounded", func(n int) picker { return newRing(n) })
}

// best is the least of three runs.
func best(f func(b *testing.B)) float64 {
	least := math.Inf(1)
	for range 3 {
		r := testing.Benchmark(f)
		least = min(least, float64(r.T.Nanoseconds())/float64(r.N))
	}
	return least
}
