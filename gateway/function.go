package gateway

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/limit"
	"github.com/rota-project/rota/gateway/internal/outcome"
)

// function is a function as the gateway runs it: it keeps its counts when
// configurations change.
type function struct {
	name string
	hash uint64
	// known says that it is listed or offered, as opposed to called by a name that
	// came along; labelled that such a one has a label of its own in metrics.
	known, labelled atomic.Bool
	before          tally // what it had counted when it got it: others' still

	fn     atomic.Pointer[balance.Fn]
	policy atomic.Pointer[policy]
	group  atomic.Pointer[group]
	ailing ailing
	// members are all workers that may run it, everywhere says that those are the ones
	// that offer all functions; guarded by the gateway's lock.
	members    []balance.Member
	everywhere bool

	split splitter

	inflight atomic.Int64
	queue    limit.Queue
	budget   limit.Budget

	failures     failures // that were a worker's or the gateway's fault
	clientFaults failures // that were a client's
	times        histogram
	examples     examples
	status       [6]atomic.Uint64 // by class: 0 is no answer
	retries      atomic.Uint64
	hedges       atomic.Uint64
	refused      atomic.Uint64 // 429 and 503 of our own
}

// policy is a Policy with what is made from it.
type policy struct {
	Policy
	rule  balance.Rule
	rules *rules
}

func newPolicy(p Policy) *policy {
	if p.Picker != nil {
		return &policy{Policy: p, rule: balance.Custom{Picker: p.Picker}, rules: p.Rules.compile()}
	}
	rule, err := balance.RuleByName(p.Balancer, p.LoadThreshold)
	if err != nil {
		rule = balance.Smart{} // normalize has refused it before
	}
	return &policy{Policy: p, rule: rule, rules: p.Rules.compile()}
}

// group is a set of workers that offer the same functions, and the calls that
// wait for one of them.
type group struct {
	set   balance.Set
	queue limit.Queue
}

// enter takes one of the function's places.
func (f *function) enter() bool {
	limit := int64(f.policy.Load().MaxInFlight)
	for {
		n := f.inflight.Load()
		if limit > 0 && n >= limit {
			return false
		}
		if f.inflight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// count counts a call that is over.
func (f *function) count(g *Gateway, r *outcome.Record) {
	if r.End == outcome.EndedWell && r.Answered < 400 && !f.known.Load() && !f.labelled.Load() {
		g.label(f)
	}
	f.status[min(r.Status()/100, 5)].Add(1)
	f.times.add(time.Duration(r.Ended - r.Begun))
}

// tally is what a function counts, or several together, and what they have just now.
type tally struct {
	status                   [6]uint64
	buckets                  [histogramBuckets]uint64
	nanos                    uint64
	retries, hedges, refused uint64
	inflight, waiting        int64
}

// add adds what the function has counted.
func (t *tally) add(f *function) {
	for i := range f.status {
		t.status[i] += f.status[i].Load()
	}
	for i := range f.times.buckets {
		t.buckets[i] += f.times.buckets[i].Load()
	}
	t.nanos += f.times.nanos.Load()
	t.retries += f.retries.Load()
	t.hedges += f.hedges.Load()
	t.refused += f.refused.Load()
}

// now adds what is in flight and waits.
func (t *tally) now(f *function) {
	t.inflight += f.inflight.Load()
	t.waiting += int64(f.queue.Waiting())
}

// without takes off what was counted before.
func (t *tally) without(o *tally) {
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

func (f *function) exit() {
	f.inflight.Add(-1)
	f.queue.Wake()
}

// histogram counts times in buckets that grow by the fourth root of two, from 31 µs to
// half an hour: those of a native histogram of Prometheus of schema 2. It serves
// Prometheus and the 95th percentile of hedging.
type histogram struct {
	buckets [histogramBuckets]atomic.Uint64
	nanos   atomic.Uint64
}

const (
	histogramSchema  = 2                    // buckets by which a time doubles are 1<<2
	histogramSteps   = 1 << histogramSchema // of them
	histogramFirst   = -15                  // the first has all up to 2^-15 s
	histogramLast    = 11                   // the last all beyond the one before it, which ends below 2^11 s
	histogramBuckets = (histogramLast-histogramFirst)*histogramSteps + 1
)

// bucketOf is the index of the first bucket whose bound is not below d.
func bucketOf(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	fraction, exponent := math.Frexp(d.Seconds())
	i := (exponent - 1 - histogramFirst) * histogramSteps
	for _, step := range [histogramSteps]float64{0.5, 0.5946035575013605, 0.7071067811865476, 0.8408964152537145} { // 2^-1 to 2^-1/4
		if fraction > step {
			i++
		}
	}
	return min(max(i, 0), histogramBuckets-1)
}

// bucketSeconds is the upper bound of bucket i.
func bucketSeconds(i int) float64 {
	return math.Exp2(float64(i)/histogramSteps + histogramFirst)
}

func bucketBound(i int) time.Duration { return time.Duration(bucketSeconds(i) * float64(time.Second)) }

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	h.nanos.Add(uint64(max(d, 0)))
}

// quantile is the upper bound of the bucket that holds it, 0 while there are
// fewer than least counts.
func (h *histogram) quantile(q float64, least uint64) time.Duration {
	var total uint64
	var counts [histogramBuckets]uint64
	for i := range counts {
		counts[i] = h.buckets[i].Load()
		total += counts[i]
	}
	if total < least || total == 0 {
		return 0
	}
	want, sum := uint64(q*float64(total)), uint64(0)
	for i, c := range counts {
		if sum += c; sum > want {
			return bucketBound(i)
		}
	}
	return bucketBound(histogramBuckets - 1)
}
