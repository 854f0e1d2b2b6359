package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"sync"

	"golang.org/x/crypto/blake2b"
)

// list is the usual first design: counts under a mutex, and a loop over all.
type list struct {
	mu    sync.Mutex
	loads []int
}

type listCaller struct {
	*list
	flying []int
}

func newList(workers int) balancer {
	l := &list{loads: make([]int, workers)}
	return func(flying int, _ uint64) caller { return &listCaller{l, make([]int, flying)} }
}

func (c *listCaller) begin(at int) {
	for i := range batch {
		c.mu.Lock()
		best := 0
		for w, load := range c.loads {
			if load < c.loads[best] {
				best = w
			}
		}
		c.loads[best]++
		c.mu.Unlock()
		c.flying[at+i] = best
	}
}

func (c *listCaller) end(at int) {
	for i := range batch {
		c.mu.Lock()
		c.loads[c.flying[at+i]]--
		c.mu.Unlock()
	}
}

// ring is a twin, of our own writing, of the design of lafikl/consistent, whose
// module could not be fetched where this was written: consistent hashing with
// bounded loads, ten points a worker, BLAKE2b-512, counts in a map, a lock for
// reading around the search (GetLeast) and one for writing around each change
// (Inc, Done).
type ring struct {
	mu     sync.RWMutex
	points []uint64
	owner  map[uint64]string
	loads  map[string]*int64
	total  int64
	names  []string
}

type ringCaller struct {
	*ring
	flying []string
}

func hash(s string) uint64 {
	h := blake2b.Sum512([]byte(s))
	return binary.LittleEndian.Uint64(h[:])
}

func newRing(workers int) balancer {
	r := &ring{owner: map[uint64]string{}, loads: map[string]*int64{}}
	for i := range workers {
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
	return func(flying int, _ uint64) caller { return &ringCaller{r, make([]string, flying)} }
}

func (r *ring) least(key string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	h := hash(key)
	i := sort.Search(len(r.points), func(i int) bool { return r.points[i] >= h })
	for ; ; i++ {
		host := r.owner[r.points[i%len(r.points)]]
		bound := int64(math.Ceil(float64(r.total+1) / float64(len(r.loads)) * 1.25))
		if *r.loads[host]+1 <= bound {
			return host
		}
	}
}

func (r *ring) add(host string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.loads[host] += n
	r.total += n
}

func (c *ringCaller) begin(at int) {
	for i := range batch {
		host := c.least(c.names[i%functions])
		c.add(host, 1)
		c.flying[at+i] = host
	}
}

func (c *ringCaller) end(at int) {
	for i := range batch {
		c.add(c.flying[at+i], -1)
	}
}
