package scheduler

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/version/metric"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// measures are what a scheduler counts and times as it goes. Whatever only the leader
// sees is counted by whoever leads.
type measures struct {
	registry *prometheus.Registry

	changes  prometheus.Counter
	passes   prometheus.Histogram
	commits  prometheus.Histogram
	store    *prometheus.HistogramVec
	starts   prometheus.Histogram
	gaps     prometheus.Histogram
	restarts prometheus.Counter
	moves    *prometheus.CounterVec
	waiting  *prometheus.GaugeVec
	ended    *prometheus.CounterVec
}

// histogram is the options of a duration: native buckets, and a few classic ones.
func histogram(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: []float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

// How a worker's session ends, as it is counted.
const (
	endedLeft = "left" // in order
	endedDied = "died" // its process is known to have died
	endedLost = "lost" // its lease ended
)

func howEnded(s *view.Session) string {
	switch {
	case s.GetDied():
		return endedDied
	case s.GetLeaving():
		return endedLeft
	}
	return endedLost
}

func newMeasures() *measures {
	m := &measures{
		registry: prometheus.NewRegistry(),
		changes:  prometheus.NewCounter(prometheus.CounterOpts{Name: "rota_leader_changes_total", Help: "Changes of the leader that this scheduler has seen."}),
		passes:   prometheus.NewHistogram(histogram("rota_pass_seconds", "Duration of a planning pass, by the leader.")),
		commits:  prometheus.NewHistogram(histogram("rota_commit_seconds", "Duration of a guarded transaction, by the leader.")),
		store:    prometheus.NewHistogramVec(histogram("rota_store_seconds", "Duration of a request to the store."), []string{"request"}),
		starts:   prometheus.NewHistogram(histogram("rota_schedule_to_start_seconds", "Time from a task's declaration until an instance of it runs, as the leader sees it.")),
		gaps:     prometheus.NewHistogram(histogram("rota_handover_gap_seconds", "Time for which a moving instance did not run, as the leader sees it.")),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{Name: "rota_task_restarts_total", Help: "Restarts of task functions that ended by themselves, as the leader sees them."}),
		moves:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rota_moves_total", Help: "Moves planned by this scheduler, by reason."}, []string{"reason"}),
		waiting:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rota_waiting_instances", Help: "Instances that no worker may take, by reason, as of the leader's last pass."}, []string{"reason"}),
		ended:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rota_sessions_ended_total", Help: "Sessions of workers that ended, by how, as the leader sees them."}, []string{"reason"}),
	}
	for code := range rota.NoPlace {
		m.moves.WithLabelValues(code.String())
	}
	m.setWaiting(nil)
	for _, reason := range []string{endedLeft, endedDied, endedLost} {
		m.ended.WithLabelValues(reason)
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metric.Build(),
		m.changes, m.passes, m.commits, m.store, m.starts, m.gaps, m.restarts, m.moves, m.waiting, m.ended)
	return m
}

// planned counts a pass.
func (m *measures) planned(plan rota.Plan, took time.Duration) {
	m.passes.Observe(took.Seconds())
	for _, move := range plan.Moves {
		m.moves.WithLabelValues(move.Code.String()).Inc()
	}
	m.setWaiting(plan.Waiting)
}

// setWaiting says what waits now.
func (m *measures) setWaiting(list []rota.Waiting) {
	waiting := map[string]int{}
	for _, w := range list {
		waiting[cmp.Or(w.Obstacle, w.Code.String())]++
	}
	for _, code := range placement.Obstacles() {
		m.waiting.WithLabelValues(string(code)).Set(float64(waiting[string(code)]))
	}
	for _, code := range []rota.ReasonCode{rota.GangWaits, rota.TooFewWorkers, rota.StaysForNow} {
		m.waiting.WithLabelValues(code.String()).Set(float64(waiting[code.String()]))
	}
}

// maxIdle is of how many instances at once it is timed how long they run nowhere.
const maxIdle = 100_000

// idle is what runs nowhere, since when, and whether it is new. It is the leader's.
type idle struct {
	m     *measures
	since map[rota.Instance]idleSince
}

type idleSince struct {
	at  time.Time
	new bool
}

func (d *idle) begin(i rota.Instance, at time.Time, isNew bool) {
	if _, ok := d.since[i]; !ok && len(d.since) < maxIdle {
		d.since[i] = idleSince{at, isNew}
	}
}

// end is told that an instance runs.
func (d *idle) end(i rota.Instance, at time.Time) {
	s, ok := d.since[i]
	if !ok {
		return
	}
	delete(d.since, i)
	to := d.m.gaps
	if s.new {
		to = d.m.starts
	}
	to.Observe(at.Sub(s.at).Seconds())
}

// learn takes in what changed. The view stands still.
func (d *idle) learn(v *view.View, delta *view.Delta, now time.Time) {
	for _, c := range delta.Tasks {
		was, is := replicas(c.Old), replicas(c.New)
		for n := was; n < is; n++ {
			d.begin(rota.Instance{Task: c.Key, Index: n}, now, true)
		}
		for n := is; n < was && len(d.since) > 0; n++ {
			delete(d.since, rota.Instance{Task: c.Key, Index: n})
		}
	}
	runs := func(i rota.Instance) bool {
		worker, g := v.Owner(i)
		if g == nil || v.Sessions[worker] == nil {
			return false
		}
		a, ok := v.Ack(worker, i)
		return ok && a.Generation == g.Generation && a.State == ownership.Running
	}
	stops := func(i rota.Instance) {
		if t, ok := v.Tasks.Get(i.Task); ok && i.Index < replicas(t) && !runs(i) {
			d.begin(i, now, false)
		}
	}
	for _, c := range delta.Sessions {
		if t := v.Grants[c.Name]; c.New == nil && t != nil {
			for g := range t.All() {
				stops(g.Instance)
			}
		}
	}
	for _, changes := range delta.Acks {
		for _, c := range changes {
			if c.New == nil {
				continue
			}
			if c.Old != nil && c.Old.Generation == c.New.Generation && c.New.Restarts > c.Old.Restarts {
				d.m.restarts.Add(float64(c.New.Restarts - c.Old.Restarts))
			}
			switch c.New.State {
			case ownership.Running:
				d.end(c.New.Instance, now)
			case ownership.Stopped:
				stops(c.New.Instance)
			default:
			}
		}
	}
	for _, changes := range delta.Grants {
		for _, c := range changes {
			if c.New == nil {
				stops(c.Old.Instance)
			}
		}
	}
}

// timed is a store whose requests are timed. It says when the store is full.
type timed struct {
	store.Store
	seconds *prometheus.HistogramVec
	full    chan<- struct{}
}

func (t timed) since(request string, began time.Time) {
	t.seconds.WithLabelValues(request).Observe(time.Since(began).Seconds())
}

func (t timed) Range(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	defer t.since("range", time.Now())
	return t.Store.Range(ctx, prefix)
}

func (t timed) Get(ctx context.Context, key string) (kv store.KV, ok bool, revision int64, err error) {
	defer t.since("get", time.Now())
	return t.Store.Get(ctx, key)
}

func (t timed) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (ok bool, revision int64, err error) {
	defer t.since("txn", time.Now())
	ok, revision, err = t.Store.Txn(ctx, conds, ops)
	if errors.Is(err, store.ErrNoSpace) {
		select {
		case t.full <- struct{}{}:
		default:
		}
	}
	return ok, revision, err
}

func (t timed) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, time.Duration, error) {
	defer t.since("grant", time.Now())
	return t.Store.Grant(ctx, ttl)
}

func (t timed) KeepAlive(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	defer t.since("keep_alive", time.Now())
	return t.Store.KeepAlive(ctx, id)
}

func (t timed) Revoke(ctx context.Context, id store.LeaseID) error {
	defer t.since("revoke", time.Now())
	return t.Store.Revoke(ctx, id)
}
