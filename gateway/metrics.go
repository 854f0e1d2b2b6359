package gateway

import (
	"maps"
	"slices"

	"github.com/rota-project/rota/gateway/internal/outcome"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// collector shows the gateway's own counters to Prometheus. Labels are bounded:
// names of functions by the configuration and maxInventedLabels, workers by the
// configuration.
type collector struct{ g *Gateway }

// Collector shows the gateway's counters to Prometheus.
func (g *Gateway) Collector() prometheus.Collector { return collector{g} }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("rota_"+name, help, labels, nil)
}

var (
	callsDesc       = desc("gateway_calls_total", "Calls by function and class of status; class 0xx had no answer.", "function", "class")
	secondsDesc     = desc("gateway_call_seconds", "Time from a call's head to the end of its answer.", "function")
	callFlightDesc  = desc("gateway_calls_in_flight", "Calls in flight by function.", "function")
	endsDesc        = desc("gateway_call_ends_total", "Calls by how they ended and whose fault that was, those too that name no function.", "cause", "blame")
	badTriesDesc    = desc("gateway_attempts_failed_total", "Attempts of calls that did not go well, by how they ended and what came of it.", "cause", "verdict")
	waitingDesc     = desc("gateway_calls_waiting", "Calls that wait for a place of their function.", "function")
	retriesDesc     = desc("gateway_retries_total", "Calls tried on a further worker.", "function")
	hedgesDesc      = desc("gateway_hedges_total", "Calls sent to a second worker because the first was slow.", "function")
	refusedDesc     = desc("gateway_refused_total", "Calls refused by a limit or a full queue.", "function")
	workerCallsDesc = desc("gateway_worker_calls_total", "Calls that a worker answered.", "worker")
	workerFailsDesc = desc("gateway_worker_failures_total", "Calls that failed on a worker or that it refused.", "worker")
	workerLoadDesc  = desc("gateway_worker_calls_in_flight", "Calls in flight on a worker.", "worker")
	workerUpDesc    = desc("gateway_worker_ready", "1 if the worker gets calls.", "worker")
	connsDesc       = desc("gateway_connections", "Client connections, and calls through Handler.")
	acceptedDesc    = desc("gateway_connections_accepted_total", "Client connections accepted.")
	malformedDesc   = desc("gateway_requests_malformed_total", "Requests refused as malformed HTTP.")
	reloadsDesc     = desc("gateway_reloads_total", "Configurations put in force since the start.")
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
	g := c.g
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	classes := [...]string{"0xx", "1xx", "2xx", "3xx", "4xx", "5xx"}
	show := func(name string, t *tally, of *examples) {
		for i, n := range t.status {
			if n > 0 {
				count(callsDesc, n, name, classes[i])
			}
		}
		ch <- of.with(&times{t, prometheus.MakeLabelPairs(secondsDesc, []string{name})})
		gauge(callFlightDesc, float64(t.inflight), name)
		gauge(waitingDesc, float64(t.waiting), name)
		count(retriesDesc, t.retries, name)
		count(hedgesDesc, t.hedges, name)
		count(refusedDesc, t.refused, name)
	}
	g.mu.Lock()
	others := g.gone
	st := g.state.Load() // what is forgotten later is still in it
	g.mu.Unlock()
	for _, f := range append(slices.Collect(maps.Values(st.fns)), g.other) {
		if f == g.other || !f.known.Load() && !f.labelled.Load() {
			others.add(f)
			others.now(f)
			continue
		}
		var t tally
		t.add(f)
		t.now(f)
		t.without(&f.before)
		show(f.name, &t, &f.examples)
	}
	show(g.other.name, &others, &g.other.examples)
	var tasks tally
	tasks.add(g.tasks)
	tasks.now(g.tasks)
	show(g.tasks.name, &tasks, &g.tasks.examples)
	for e := outcome.EndedWell; e < outcome.EndCount; e++ {
		count(endsDesc, g.ends[e].Load(), e.String(), e.Blame().String())
		for v := outcome.Answered; v < outcome.VerdictCount; v++ {
			if n := g.badTries[e][v].Load(); n > 0 {
				count(badTriesDesc, n, e.String(), v.String())
			}
		}
	}
	for _, w := range st.workers {
		calls, failures := w.Counts()
		count(workerCallsDesc, calls, w.Name)
		count(workerFailsDesc, failures, w.Name)
		gauge(workerLoadDesc, float64(w.Bal.InFlight()), w.Name)
		up := 1.0
		if w.Bal.Closed() {
			up = 0
		}
		gauge(workerUpDesc, up, w.Name)
	}
	gauge(connsDesc, float64(g.conns.len()))
	count(acceptedDesc, g.accepted.Load())
	count(malformedDesc, g.malformed.Load())
	count(reloadsDesc, g.reloads.Load())
	bad := 0.0
	if g.lastReloadError() != nil {
		bad = 1
	}
	gauge(reloadBadDesc, bad)
}

// The classic buckets of times end at powers of two from 0.12 ms to 64 s. All others are
// told by the native ones.
const (
	classicFirst = -13
	classicLast  = 6
)

// times shows how long calls took, as a native histogram that has classic buckets too.
type times struct {
	of     *tally
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
