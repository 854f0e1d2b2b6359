package jobs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/tracing"
)

// measures are what is counted of jobs. What ends is counted by the scheduler that leads,
// so that the sum over all schedulers is right.
type measures struct {
	wait, run prometheus.Histogram
	ended     *prometheus.CounterVec
	due       *prometheus.CounterVec
}

func newMeasures(c *Control, to prometheus.Registerer) measures {
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: []float64{0.01, 0.1, 1, 10, 60, 600, 3600},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		})
	}
	m := measures{
		wait:  seconds("rota_job_wait_seconds", "Time from a job's submission until its first attempt runs, as the leader sees it."),
		run:   seconds("rota_job_run_seconds", "Duration of attempts of jobs, as the leader sees it."),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rota_jobs_ended_total", Help: "Jobs that ended, by state, as the leader sees them."}, []string{"state"}),
	}
	m.due = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rota_job_schedule_times_total", Help: "Times of schedules of jobs that came, by what became of them, as the leader sees them.",
	}, []string{"result"})
	for _, r := range []string{resultFired, resultSkipped, resultMissed} {
		m.due.WithLabelValues(r)
	}
	for _, s := range []job.State{job.Succeeded, job.Failed, job.Stopped, job.TimedOut, job.Lost} {
		m.ended.WithLabelValues(string(s))
	}
	depth := func(name, help string, of func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return float64(of())
		})
	}
	if to != nil {
		to.MustRegister(m.wait, m.run, m.ended, m.due,
			depth("rota_jobs_queued", "Jobs that wait for a worker.", func() int { return c.p.queued }),
			depth("rota_jobs_active", "Jobs that are placed on a worker and have not ended.", func() (n int) {
				for _, jobs := range c.p.active {
					n += len(jobs)
				}
				return n
			}),
			depth("rota_jobs_kept", "Jobs in the store, including those that have ended.", func() int { return len(c.p.entries) }))
	}
	return m
}

// changed counts what became of a job. c.mu is held.
func (m *measures) changed(old, next *entry) {
	if old == nil || next == nil || old.job.State == next.job.State {
		return
	}
	a, ok := next.job.Current()
	if ok && next.job.State == job.Running && a.Number == 1 && !a.Result.Started.IsZero() {
		observe(m.wait, next.job, a.Result.Started.Sub(next.job.Created))
	}
	if !old.job.State.Done() && next.job.State.Done() {
		m.ended.WithLabelValues(string(next.job.State)).Inc()
		if r := a.Result; ok && !r.Started.IsZero() && !r.Ended.IsZero() {
			observe(m.run, next.job, r.Ended.Sub(r.Started))
		}
		// Most are over before their begin is told.
		if ok && old.job.State != job.Running && a.Number == 1 && !a.Result.Started.IsZero() {
			observe(m.wait, next.job, a.Result.Started.Sub(next.job.Created))
		}
	}
}

// observe counts a time, with the job's trace as an exemplar if that is recorded.
func observe(h prometheus.Histogram, j job.Job, d time.Duration) {
	seconds := max(0, d.Seconds())
	by, can := h.(prometheus.ExemplarObserver)
	sc, ok := tracing.Parse(j.Trace, "")
	if !can || !ok || !sc.IsSampled() {
		h.Observe(seconds)
		return
	}
	by.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": sc.TraceID().String()})
}
