package scheduler

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics serves what this scheduler counts, for Prometheus.
func (s *Scheduler) Metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{s})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// collector reads the view and the counters when it is asked.
type collector struct{ s *Scheduler }

var (
	descLeader = prometheus.NewDesc("rota_leader", "1 if this scheduler leads.", nil, nil)
	descEpoch  = prometheus.NewDesc("rota_leader_epoch", "Epoch of the leader, whoever it is.", nil, nil)
	descTasks  = prometheus.NewDesc("rota_tasks", "Declared tasks.", nil, nil)
	descGrants = prometheus.NewDesc("rota_worker_grants", "Grants of a worker.", []string{"worker"}, nil)
	descWorker = prometheus.NewDesc("rota_workers", "Living workers.", nil, nil)
	descHere   = prometheus.NewDesc("rota_sessions", "Workers whose session is with this scheduler.", nil, nil)
	descAge    = prometheus.NewDesc("rota_store_age_seconds", "How long ago this scheduler's picture was surely that of the store.", nil, nil)
	descMoving = prometheus.NewDesc("rota_moves_under_way", "Moves under way, as far as this scheduler leads.", nil, nil)
	descPasses = prometheus.NewDesc("rota_passes_total", "Passes of the planner by this scheduler.", nil, nil)
	descMoves  = prometheus.NewDesc("rota_moves_total", "Moves planned by this scheduler.", nil, nil)
	descTxns   = prometheus.NewDesc("rota_leader_transactions_total", "Guarded transactions by this scheduler.", nil, nil)
	descRefuse = prometheus.NewDesc("rota_leader_transactions_refused_total", "Guarded transactions whose conditions did not hold.", nil, nil)
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descLeader, descEpoch, descAge, descTasks, descGrants, descWorker, descHere, descMoving, descPasses, descMoves, descTxns, descRefuse,
	} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	s := c.s
	s.view.Read(func() {
		v := s.view
		leads := 0.0
		if v.Leader != nil {
			gauge(descEpoch, float64(v.Leader.Epoch))
			if v.Leader.Name == s.cfg.Name {
				leads = 1
			}
		}
		gauge(descLeader, leads)
		gauge(descTasks, float64(v.Tasks.Len()))
		gauge(descWorker, float64(len(v.Sessions)))
		for name := range v.Sessions {
			if g := v.Grants[name]; g != nil {
				gauge(descGrants, float64(g.Len()), name)
			}
		}
	})
	age, _ := s.Age()
	gauge(descAge, age.Seconds())
	gauge(descHere, float64(len(s.sessions.Workers())))
	gauge(descMoving, float64(s.stats.moving.Load()))
	count(descPasses, s.stats.passes.Load())
	count(descMoves, s.stats.moves.Load())
	count(descTxns, s.stats.txns.Load())
	count(descRefuse, s.stats.refusedTxns.Load())
}
