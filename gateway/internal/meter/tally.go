// Package meter counts the calls of a gateway: by function, by how they ended, and how long
// they took; and shows it to Prometheus. The gateway counts each call once, at its end. It must
// never hold up a call.
package meter

import (
	"sync/atomic"
	"time"
)

// Counts are what is counted of the calls of a function.
type Counts struct {
	Times    histogram
	Examples examples
	Status   [6]atomic.Uint64 // by class: 0 is no answer
	Retries  atomic.Uint64
	Hedges   atomic.Uint64
	Refused  atomic.Uint64 // 429 and 503 of our own
}

// Ended counts a call that is over.
func (c *Counts) Ended(status int, took time.Duration) {
	c.Status[min(status/100, 5)].Add(1)
	c.Times.add(took)
}

// Tally is what a function counts, or several together, and what they have just now.
type Tally struct {
	status                   [6]uint64
	buckets                  [histogramBuckets]uint64
	nanos                    uint64
	retries, hedges, refused uint64
	inflight, waiting        int64
}

// Add adds what a function has counted.
func (t *Tally) Add(f *Counts) {
	for i := range f.Status {
		t.status[i] += f.Status[i].Load()
	}
	for i := range f.Times.buckets {
		t.buckets[i] += f.Times.buckets[i].Load()
	}
	t.nanos += f.Times.nanos.Load()
	t.retries += f.Retries.Load()
	t.hedges += f.Hedges.Load()
	t.refused += f.Refused.Load()
}

// Now adds what is in flight and waits.
func (t *Tally) Now(inflight, waiting int64) {
	t.inflight += inflight
	t.waiting += waiting
}

// Without takes off what was counted before.
func (t *Tally) Without(o *Tally) {
	for i := range t.status {
		t.status[i] -= o.status[i]
	}
	for i := range t.buckets {
		t.buckets[i] -= o.buckets[i]
	}
	t.nanos -= o.nanos
	t.retries -= o.retries
	t.hedges -= o.hedges
	t.refused -= o.refused
}
