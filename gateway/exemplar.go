package gateway

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// examples are calls whose spans were recorded, the last of each bucket of a histogram.
type examples struct {
	of atomic.Pointer[[histogramBuckets]atomic.Pointer[example]] // nil before the first
}

// example is a call that a time of a histogram can be looked at by.
type example struct {
	trace trace.TraceID
	took  time.Duration
	at    time.Time
}

// exemplify keeps the call, if its span is recorded, as an example of how long calls take.
func (x *exchange) exemplify() {
	if x.span == nil || !x.span.SpanContext().IsSampled() {
		return
	}
	e, r := &x.call.f.examples, &x.rec
	of := e.of.Load()
	for of == nil {
		e.of.CompareAndSwap(nil, new([histogramBuckets]atomic.Pointer[example]))
		of = e.of.Load()
	}
	took := time.Duration(r.Ended - r.Begun)
	of[bucketOf(took)].Store(&example{x.span.SpanContext().TraceID(), took, x.g.at(r.Ended)})
}

// with is the metric with the examples.
func (e *examples) with(m prometheus.Metric) prometheus.Metric {
	of := e.of.Load()
	if of == nil {
		return m
	}
	var list []prometheus.Exemplar
	for i := range of {
		if one := of[i].Load(); one != nil {
			list = append(list, prometheus.Exemplar{Value: one.took.Seconds(), Labels: prometheus.Labels{"trace_id": one.trace.String()}, Timestamp: one.at})
		}
	}
	if with, err := prometheus.NewMetricWithExemplars(m, list...); err == nil {
		return with
	}
	return m
}
