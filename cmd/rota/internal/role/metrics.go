package role

import (
	"github.com/rota-project/rota/internal/version/metric"
	"github.com/rota-project/rota/worker"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// workerMetrics is what a worker shows to Prometheus on --http. No label names a task. Lost is how many spans were.
func workerMetrics(w *worker.Worker, lost func() uint64) *prometheus.Registry {
	r := prometheus.NewRegistry()
	gauge := func(name, help string, of func(worker.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return of(w.Stats()) })
	}
	count := func(name, help string, of func(worker.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(of(w.Stats())) })
	}
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metric.Build(),
		gauge("rota_worker_held_instances", "Instances granted to this worker.", func(s worker.Stats) float64 { return float64(s.Held) }),
		gauge("rota_worker_running_instances", "Instances whose function is running.", func(s worker.Stats) float64 { return float64(s.Running) }),
		gauge("rota_worker_log_bytes", "Memory used by the kept output of tasks.", func(s worker.Stats) float64 { return float64(s.LogBytes) }),
		gauge("rota_worker_log_readers", "Open readers of the output of tasks.", func(s worker.Stats) float64 { return float64(s.Readers) }),
		gauge("rota_worker_leased", "1 while this worker's lease is valid.", func(worker.Stats) float64 {
			if w.Leased() {
				return 1
			}
			return 0
		}),
		count("rota_spans_lost_total", "Spans that were dropped because the queue was full or the collector did not accept them.", func(worker.Stats) uint64 { return lost() }),
		count("rota_worker_task_starts_total", "Calls of task functions.", func(s worker.Stats) uint64 { return s.Starts }),
		count("rota_worker_task_failures_total", "Calls of task functions that ended by themselves.", func(s worker.Stats) uint64 { return s.Failures }))
	return r
}
