// Command balance measures the picking rules of package balance beside two
// usual designs (see others.go).
//
// A pick with its reservation, and the release after the call, are timed apart,
// with two calls a worker in flight, from one goroutine and from as many as there
// are CPUs. make bench-balance runs it.
package main

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota/balance"
)

const (
	functions = 16
	// batch is how many picks or releases share one reading of the clock.
	batch = 64
)

// caller is somebody who makes calls through a balancer. It keeps as many in
// flight as it was made for, in a circle.
type caller interface {
	// begin picks and reserves for the calls at..at+batch-1 of the circle.
	begin(at int)
	// end releases them.
	end(at int)
}

// balancer makes callers that share it; each keeps so many calls in flight.
type balancer func(flying int, seed uint64) caller

// times are what one pick with its reservation, and one release, took: the median
// batch, which other programs on the machine seldom interrupt.
type times struct{ pick, release float64 }

func measure(workers, callers int, b balancer, span time.Duration) times {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var picks, releases []time.Duration
	start := make(chan struct{})
	for g := range callers {
		flying := (2*workers/callers/batch + 1) * batch
		c := b(flying, uint64(g)+1)
		for at := 0; at < flying; at += batch {
			c.begin(at)
		}
		wg.Go(func() {
			<-start
			var p, r []time.Duration
			at := 0
			for until := time.Now().Add(span); ; at = (at + batch) % flying {
				begun := time.Now()
				if begun.After(until) {
					break
				}
				c.end(at)
				ended := time.Now()
				c.begin(at)
				p, r = append(p, time.Since(ended)), append(r, ended.Sub(begun))
			}
			for at := 0; at < flying; at += batch {
				c.end(at)
			}
			mu.Lock()
			defer mu.Unlock()
			picks, releases = append(picks, p...), append(releases, r...)
		})
	}
	close(start)
	wg.Wait()
	return times{median(picks), median(releases)}
}

func median(batches []time.Duration) float64 {
	slices.Sort(batches)
	return float64(batches[len(batches)/2].Nanoseconds()) / batch
}

// ruleCaller calls through a rule as the gateway does.
type ruleCaller struct {
	set    *balance.Set
	rule   balance.Rule
	fns    []*balance.Fn
	flying []balance.Pick
	call   balance.Call
	rnd    uint64
}

func ruleBalancer(name string, workers int) (balancer, error) {
	r, err := balance.RuleByName(name, 4)
	if err != nil {
		return nil, err
	}
	set := new(balance.Set)
	var ms []balance.Member
	for i := range workers {
		ms = append(ms, balance.Member{Worker: balance.NewWorker(fmt.Sprintf("http://w%d:80", i)), Weight: 1})
	}
	set.Update(ms)
	var fns []*balance.Fn
	for i := range functions {
		fns = append(fns, balance.NewFn(fmt.Sprintf("f%d", i), []string{fmt.Sprintf("p%d", i%7), "six"}))
	}
	return func(flying int, seed uint64) caller {
		return &ruleCaller{set: set, rule: r, fns: fns, flying: make([]balance.Pick, flying), rnd: seed}
	}, nil
}

func (c *ruleCaller) begin(at int) {
	c.call.Now += 1e6
	for i := range batch {
		c.rnd += 0x9e3779b97f4a7c15
		z := c.rnd
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		c.call.Fn, c.call.Rand = c.fns[i%functions], z^z>>31
		c.call.Key = c.call.Rand | 1
		c.set.Pick(c.rule, &c.call, &c.flying[at+i])
	}
}

func (c *ruleCaller) end(at int) {
	for i := range batch {
		c.flying[at+i].Done(c.call.Now, 20e6)
	}
}

var sizes = []int{10, 100, 1000, 10_000}

func main() {
	span := flag.Duration("time", 100*time.Millisecond, "how long each figure is measured, five times")
	flag.Parse()
	cpus := runtime.GOMAXPROCS(0)
	fmt.Printf("ns; best of five; %d CPUs; two calls a worker in flight\n%-34s %-35s %8s   %d goroutines, 100\n%-34s", cpus,
		"", "pick and reserve, by workers", "release", cpus, "")
	for _, n := range sizes {
		fmt.Printf(" %8d", n)
	}
	fmt.Printf(" %8s   %8s %8s\n", "100", "pick", "release")
	show := func(name string, build func(workers int) balancer) {
		fmt.Printf("%-34s", name)
		var release float64
		for _, n := range sizes {
			t := best(func() times { return measure(n, 1, build(n), *span) })
			if n == 100 {
				release = t.release
			}
			fmt.Printf(" %8.1f", t.pick)
		}
		t := best(func() times { return measure(100, cpus, build(100), *span) })
		fmt.Printf(" %8.1f   %8.1f %8.1f\n", release, t.pick, t.release)
	}
	for _, name := range balance.Names() {
		if name == "owner" {
			continue // a look into a map
		}
		if _, err := ruleBalancer(name, 1); err != nil {
			fmt.Println(err)
			continue
		}
		show(name, func(n int) balancer {
			b, _ := ruleBalancer(name, n) // it was made once before
			return b
		})
	}
	show("mutex and list, least loaded", newList)
	show("locks and BLAKE2b ring, bounded", newRing)
}

// best is the least of five runs.
func best(f func() times) times {
	t := f()
	for range 4 {
		u := f()
		t = times{min(t.pick, u.pick), min(t.release, u.release)}
	}
	return t
}
