package meter

import (
	"sync/atomic"

	"github.com/rota-project/rota/gateway/internal/outcome"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// collector shows what a gateway counts to Prometheus.
type collector struct{ look func() Snapshot }

// New shows to Prometheus what look finds each time.
func New(look func() Snapshot) prometheus.Collector { return collector{look} }

// Snapshot is what a gateway has counted until now. Labels are bounded by whoever makes it.
type Snapshot struct {
	Functions                    []Function
	Workers                      []Worker
	Ends                         *Ends
	Connections                  int
	Accepted, Malformed, Reloads uint64
	ReloadFailed                 bool // the last one
}

// Function is what was counted of the calls of a function, or of several.
type Function struct {
	Name     string
	Tally    Tally
	Examples *examples
}

// Worker is what was counted of the calls of a worker.
type Worker struct {
	Name            string
	Calls, Failures uint64
	InFlight        int
	Ready           bool
}

// Ends counts how calls end, and attempts that do not go well.
type Ends struct {
	calls [outcome.EndCount]atomic.Uint64
	tries [outcome.EndCount][outcome.VerdictCount]atomic.Uint64
}

// Add counts a call that is over.
func (e *Ends) Add(r *outcome.Record) {
	e.calls[r.End].Add(1)
	tried := r.Tried()
	for i := range tried {
		if t := &tried[i]; t.End != outcome.EndedWell {
			e.tries[t.End][t.Verdict].Add(1)
		}
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("rota_"+name, help, labels, nil)
}

var (
	callsDesc       = desc("gateway_calls_total", "Calls by function and class of status; class 0xx had no answer.", "function", "class")
	secondsDesc     = desc("gateway_call_seconds", "Time from a call's header to the end of its answer.", "function")
	callFlightDesc  = desc("gateway_calls_in_flight", "Calls in flight by function.", "function")
	endsDesc        = desc("gateway_call_ends_total", "Calls by how they ended and who is to blame, including calls of no function.", "cause", "blame")
	badTriesDesc    = desc("gateway_attempts_failed_total", "Failed attempts of calls by cause, and what the gateway did next.", "cause", "verdict")
	waitingDesc     = desc("gateway_calls_waiting", "Calls that wait in the queue of their function.", "function")
	retriesDesc     = desc("gateway_retries_total", "Retries on another worker.", "function")
	hedgesDesc      = desc("gateway_hedges_total", "Calls sent to a second worker because the first was slow.", "function")
	refusedDesc     = desc("gateway_refused_total", "Calls refused by a limit or a full queue.", "function")
	workerCallsDesc = desc("gateway_worker_calls_total", "Calls that a worker answered.", "worker")
	workerFailsDesc = desc("gateway_worker_failures_total", "Calls that failed on a worker or that it refused.", "worker")
	workerLoadDesc  = desc("gateway_worker_calls_in_flight", "Calls in flight on a worker.", "worker")
	workerUpDesc    = desc("gateway_worker_ready", "1 if the worker may get calls.", "worker")
	connsDesc       = desc("gateway_connections", "Client connections, and calls through Handler.")
	acceptedDesc    = desc("gateway_connections_accepted_total", "Client connections accepted.")
	malformedDesc   = desc("gateway_requests_malformed_total", "Requests refused as malformed HTTP.")
	reloadsDesc     = desc("gateway_reloads_total", "Configurations applied since the start.")
	reloadBadDesc   = desc("gateway_reload_failed", "1 if the last configuration was refused.")
)

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		callsDesc, secondsDesc, callFlightDesc, endsDesc, badTriesDesc, waitingDesc, retriesDesc, hedgesDesc, refusedDesc, workerCallsDesc, workerFailsDesc,
		workerLoadDesc, workerUpDesc, connsDesc, acceptedDesc, malformedDesc, reloadsDesc, reloadBadDesc,
	} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	is := func(d *prometheus.Desc, yes bool, labels ...string) {
		v := 0.0
		if yes {
			v = 1
		}
		gauge(d, v, labels...)
	}
	classes := [...]string{"0xx", "1xx", "2xx", "3xx", "4xx", "5xx"}
	s := c.look()
	for i := range s.Functions {
		f := &s.Functions[i]
		t := &f.Tally
		for i, n := range t.status {
			if n > 0 {
				count(callsDesc, n, f.Name, classes[i])
			}
		}
		ch <- f.Examples.with(&times{t, prometheus.MakeLabelPairs(secondsDesc, []string{f.Name})})
		gauge(callFlightDesc, float64(t.inflight), f.Name)
		gauge(waitingDesc, float64(t.waiting), f.Name)
		count(retriesDesc, t.retries, f.Name)
		count(hedgesDesc, t.hedges, f.Name)
		count(refusedDesc, t.refused, f.Name)
	}
	for e := outcome.EndedWell; e < outcome.EndCount; e++ {
		count(endsDesc, s.Ends.calls[e].Load(), e.String(), e.Blame().String())
		for v := outcome.Answered; v < outcome.VerdictCount; v++ {
			if n := s.Ends.tries[e][v].Load(); n > 0 {
				count(badTriesDesc, n, e.String(), v.String())
			}
		}
	}
	for _, w := range s.Workers {
		count(workerCallsDesc, w.Calls, w.Name)
		count(workerFailsDesc, w.Failures, w.Name)
		gauge(workerLoadDesc, float64(w.InFlight), w.Name)
		is(workerUpDesc, w.Ready, w.Name)
	}
	gauge(connsDesc, float64(s.Connections))
	count(acceptedDesc, s.Accepted)
	count(malformedDesc, s.Malformed)
	count(reloadsDesc, s.Reloads)
	is(reloadBadDesc, s.ReloadFailed)
}

// The classic buckets of times end at powers of two from 0.12 ms to 64 s. All others are
// told by the native ones.
const (
	classicFirst = -13
	classicLast  = 6
)

// times shows how long calls took, as a native histogram that has classic buckets too.
type times struct {
	of     *Tally
	labels []*dto.LabelPair
}

func (t *times) Desc() *prometheus.Desc { return secondsDesc }

func (t *times) Write(out *dto.Metric) error {
	counts := &t.of.buckets
	h := &dto.Histogram{
		SampleSum: new(float64(t.of.nanos) / 1e9),
		Schema:    new(int32(histogramSchema)), ZeroThreshold: new(bucketSeconds(0)), ZeroCount: new(counts[0]),
	}
	sum := counts[0]
	var before uint64
	var length *uint32 // of the last span
	var end int32      // where it ends
	for i := 1; i < histogramBuckets; i++ {
		n := counts[i]
		sum += n
		if e := i/histogramSteps + histogramFirst; i%histogramSteps == 0 && e >= classicFirst && e <= classicLast {
			h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: new(bucketSeconds(i)), CumulativeCount: new(sum)})
		}
		if n == 0 {
			continue
		}
		// A span begins so far behind the end of the one before it; each count in it is told
		// by its difference from the one before.
		index := int32(i + histogramFirst*histogramSteps) // of the bucket that ends at 2^(index/4) s
		if length == nil || index != end {
			length = new(uint32(0))
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: new(index - end), Length: length})
		}
		*length++
		h.PositiveDelta = append(h.PositiveDelta, int64(n)-int64(before))
		before, end = n, index+1
	}
	h.SampleCount = &sum
	out.Label, out.Histogram = t.labels, h
	return nil
}
