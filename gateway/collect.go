package gateway

import (
	"maps"
	"slices"

	"github.com/rota-project/rota/gateway/internal/meter"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector shows the gateway's counters to Prometheus.
func (g *Gateway) Collector() prometheus.Collector { return meter.New(g.counted) }

// counted is what is counted. Labels are bounded: names of functions by the configuration
// and maxInventedLabels, workers by the configuration.
func (g *Gateway) counted() meter.Snapshot {
	s := meter.Snapshot{
		Ends: &g.ends, Connections: g.conns.len(), Accepted: g.accepted.Load(), Malformed: g.malformed.Load(), Reloads: g.reloads.Load(),
		ReloadFailed: g.lastReloadError() != nil,
	}
	g.mu.Lock()
	others := g.gone
	st := g.state.Load() // what is forgotten later is still in it
	g.mu.Unlock()
	for _, f := range append(slices.Collect(maps.Values(st.fns)), g.other) {
		if f == g.other || !f.known.Load() && !f.labelled.Load() {
			f.addTo(&others)
			continue
		}
		var t meter.Tally
		f.addTo(&t)
		t.Without(&f.before)
		s.Functions = append(s.Functions, meter.Function{Name: f.name, Tally: t, Examples: &f.Examples})
	}
	var tasks meter.Tally
	g.tasks.addTo(&tasks)
	s.Functions = append(s.Functions, meter.Function{Name: g.other.name, Tally: others, Examples: &g.other.Examples}, meter.Function{Name: g.tasks.name, Tally: tasks, Examples: &g.tasks.Examples})
	for _, w := range st.workers {
		calls, failures := w.Counts()
		s.Workers = append(s.Workers, meter.Worker{Name: w.Name, Calls: calls, Failures: failures, InFlight: w.Bal.InFlight(), Ready: !w.Bal.Closed()})
	}
	return s
}

// addTo adds what the function has counted, and what it has just now.
func (f *function) addTo(t *meter.Tally) {
	t.Add(&f.Counts)
	t.Now(f.inflight.Load(), int64(f.queue.Waiting()))
}
