package jobs_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/scheduler/internal/jobs"
	"github.com/rota-project/rota/scheduler/internal/kind"
)

// TestMetrics: jobs are counted by how they end, once each, with how long they waited and ran.
func TestMetrics(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	n := newNode(t, "s", newStore(t), jobs.Config{Node: kind.Node{Metrics: r}})
	waits := n.run(t, command("true")) // no worker yet
	get := func(name string) (v float64) {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				full := f.GetName()
				for _, l := range m.GetLabel() {
					full += "," + l.GetValue()
				}
				if full == name {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
		}
		return -1
	}
	wants := func(list map[string]float64) {
		t.Helper()
		for name, want := range list {
			if got := get(name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
	}
	wants(map[string]float64{"rota_jobs_queued": 1, "rota_jobs_active": 0, "rota_jobs_kept": 1, "rota_jobs_ended_total,succeeded": 0})
	newHost(t, "w1", runner.Config{}, nil, n)
	n.state(t, waits, "succeeded")
	n.state(t, n.run(t, command("sh", "-c", "exit 3")), "failed")
	n.state(t, n.run(t, command("sh", "-c", "kill -9 $$")), "failed")
	wants(map[string]float64{
		"rota_jobs_queued": 0, "rota_jobs_active": 0, "rota_jobs_kept": 3, "rota_jobs_ended_total,succeeded": 1, "rota_jobs_ended_total,failed": 2,
		"rota_jobs_ended_total,lost": 0, "rota_job_wait_seconds": 3, "rota_job_run_seconds": 3,
	})
}
