package meter

import (
	"encoding/hex"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// examples are calls whose spans were recorded, the last of each bucket of a histogram.
type examples struct {
	of atomic.Pointer[[histogramBuckets]atomic.Pointer[example]] // nil before the first
}

// example is a call that a time of a histogram can be looked at by.
type example struct {
	trace [16]byte
	took  time.Duration
	at    time.Time
}

// Add keeps a call, whose span is recorded, as an example of how long calls take.
func (e *examples) Add(trace [16]byte, took time.Duration, at time.Time) {
	list := e.of.Load()
	for list == nil {
		e.of.CompareAndSwap(nil, new([histogramBuckets]atomic.Pointer[example]))
		list = e.of.Load()
	}
	list[bucketOf(took)].Store(&example{trace, took, at})
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
			list = append(list, prometheus.Exemplar{Value: one.took.Seconds(), Labels: prometheus.Labels{"trace_id": hex.EncodeToString(one.trace[:])}, Timestamp: one.at})
		}
	}
	if with, err := prometheus.NewMetricWithExemplars(m, list...); err == nil {
		return with
	}
	return m
}
