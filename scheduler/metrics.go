package scheduler

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics serves what this scheduler counts, for Prometheus: as OpenMetrics, with
// exemplars, to those who ask for it.
func (s *Scheduler) Metrics() http.Handler {
	return promhttp.HandlerFor(s.measures.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Registry is where what else this node counts is registered.
func (s *Scheduler) Registry() *prometheus.Registry { return s.measures.registry }

// collector reads the view and the counters when it is asked.
type collector struct{ s *Scheduler }

var (
	descLeader  = prometheus.NewDesc("rota_leader", "1 if this scheduler leads.", nil, nil)
	descEpoch   = prometheus.NewDesc("rota_leader_epoch", "Epoch of the current leader.", nil, nil)
	descTasks   = prometheus.NewDesc("rota_tasks", "Declared tasks.", nil, nil)
	descGrants  = prometheus.NewDesc("rota_worker_grants", "Grants of a worker.", []string{"worker"}, nil)
	descWorker  = prometheus.NewDesc("rota_workers", "Workers by state: ready, cordoned, draining, leaving, lost.", []string{"state"}, nil)
	descState   = prometheus.NewDesc("rota_instances", "Instances of declared tasks by state: running, failing (ended by itself and restarted), waiting.", []string{"state"}, nil)
	descBalance = prometheus.NewDesc("rota_imbalance", "Weight per strength of the fullest ready worker, divided by the mean; 1 is even.", nil, nil)
	descHere    = prometheus.NewDesc("rota_sessions", "Workers whose session is with this scheduler.", nil, nil)
	descAge     = prometheus.NewDesc("rota_store_age_seconds", "Age of this scheduler's view of the store: the lag of its watch.", nil, nil)
	descMoving  = prometheus.NewDesc("rota_moves_under_way", "Moves in progress, as the leader sees it.", nil, nil)
	descUnread  = prometheus.NewDesc("rota_store_unread_values", "Values in the store that cannot be read and are set aside.", nil, nil)
	descUp      = prometheus.NewDesc("rota_store_member_up", "1 if this etcd member answers this scheduler.", []string{"endpoint"}, nil)
	descDB      = prometheus.NewDesc("rota_store_db_bytes", "Size of a member's database.", []string{"endpoint"}, nil)
	descQuota   = prometheus.NewDesc("rota_store_quota_bytes", "A member's quota, if it reports one.", []string{"endpoint"}, nil)
	descAlarms  = prometheus.NewDesc("rota_store_alarms", "Alarms that a member has raised.", []string{"endpoint"}, nil)
	descEvents  = prometheus.NewDesc("rota_events_recorded_total", "Events that this scheduler recorded.", nil, nil)
	descLeftOut = prometheus.NewDesc("rota_events_left_out_total", "Events left out because they were over this scheduler's budgets.", nil, nil)
	descEventTx = prometheus.NewDesc("rota_events_writes_total", "Transactions that wrote events.", nil, nil)
	descEventB  = prometheus.NewDesc("rota_events_written_bytes_total", "Bytes of events that were written.", nil, nil)
	descRefuse  = prometheus.NewDesc("rota_leader_transactions_refused_total", "Guarded transactions whose conditions did not hold.", nil, nil)
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descLeader, descEpoch, descAge, descTasks, descGrants, descWorker, descHere, descMoving, descState, descBalance, descRefuse,
		descUnread, descUp, descDB, descQuota, descAlarms, descEvents, descLeftOut, descEventTx, descEventB,
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
		gauge(descUnread, float64(len(v.Unread())))
		gauge(descTasks, float64(v.Tasks.Len()))
		gauge(descState, float64(v.Running()), "running")
		gauge(descState, float64(v.Failing()), "failing")
		gauge(descState, float64(max(0, v.Instances()-v.Running()-v.Failing())), "waiting")
		states, most, sum, ready := v.WorkerStates()
		for state, n := range states {
			gauge(descWorker, float64(n), state)
		}
		if even := sum / max(1, float64(ready)); even > 0 {
			gauge(descBalance, most/even)
		} else {
			gauge(descBalance, 1)
		}
		for name := range v.Sessions {
			if g := v.Grants[name]; g != nil {
				gauge(descGrants, float64(g.Len()), name)
			}
		}
	})
	for _, m := range s.StoreMembers() {
		if m.Err != nil {
			gauge(descUp, 0, m.Endpoint)
			continue
		}
		gauge(descUp, 1, m.Endpoint)
		gauge(descDB, float64(m.DBBytes), m.Endpoint)
		if m.QuotaBytes > 0 {
			gauge(descQuota, float64(m.QuotaBytes), m.Endpoint)
		}
		gauge(descAlarms, float64(len(m.Alarms)), m.Endpoint)
	}
	age, _ := s.Age()
	gauge(descAge, age.Seconds())
	gauge(descHere, float64(len(s.sessions.Workers())))
	gauge(descMoving, float64(s.stats.moving.Load()))
	count(descRefuse, s.stats.refusedTxns.Load())
	done := s.events.Counts()
	count(descEvents, done.Recorded)
	count(descLeftOut, done.LeftOut)
	count(descEventTx, done.Writes)
	count(descEventB, done.Bytes)
}
