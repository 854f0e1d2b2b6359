package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// sample is a metric's value, or of a histogram how many it has counted.
func sample(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
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
			if full != name {
				continue
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				return m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				return float64(m.GetHistogram().GetSampleCount())
			default:
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// TestMetrics: what happens is counted where docs/metrics.md says, once.
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		sc := newScheduler(t, "s1", st, scheduler.Config{})
		wants := func(when string, list map[string]float64) {
			t.Helper()
			for name, want := range list {
				if got := sample(t, sc.Registry(), name); got != want {
					t.Errorf("%s: %s is %v, want %v", when, name, got, want)
				}
			}
		}
		o := newOwners(t)
		w1 := newWorker(t, "w1", o, worker.Config{}, sc)
		if !w1.Joined(t.Context()) {
			t.Fatal("not joined")
		}
		svc := sc.Service("")
		t.Cleanup(svc.Close)
		apply := func(list ...rota.Task) {
			if _, err := svc.ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(list)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute) // the barrier
		apply(rota.Task{ID: "a"}, rota.Task{ID: "b", Weight: 3}, rota.Task{ID: "c", Mode: rota.Available}, rota.Task{ID: "waits", Kind: "nobodys"})
		time.Sleep(time.Minute)
		wants("at first", map[string]float64{
			"rota_leader": 1, "rota_leader_changes_total": 1, "rota_tasks": 4, "rota_instances,running": 3, "rota_instances,waiting": 1, "rota_instances,failing": 0,
			"rota_waiting_instances,lacks-kind": 1, "rota_waiting_instances,not-pinned": 0, "rota_schedule_to_start_seconds": 3, "rota_handover_gap_seconds": 0,
			"rota_moves_total,unplaced": 3, "rota_moves_total,worker-drains": 0, "rota_workers,ready": 1, "rota_workers,lost": 0, "rota_imbalance": 1, "rota_sessions": 1, "rota_task_restarts_total": 0,
		})
		w2 := newWorker(t, "w2", o, worker.Config{}, sc)
		if !w2.Joined(t.Context()) {
			t.Fatal("not joined")
		}
		if _, err := svc.DrainWorker(auth.Inside(t.Context()), &rotav1.WorkerRequest{Name: "w1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wants("drained", map[string]float64{
			"rota_instances,running": 3, "rota_workers,ready": 1, "rota_workers,draining": 1, "rota_schedule_to_start_seconds": 3, "rota_handover_gap_seconds": 2, // c has none
		})
		if got := sample(t, sc.Registry(), "rota_moves_total,worker-drains") + sample(t, sc.Registry(), "rota_moves_total,fills-up"); got != 3 {
			t.Errorf("%v moves by the drain", got)
		}
		if err := w1.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		wants("left", map[string]float64{"rota_sessions_ended_total,left": 1, "rota_sessions_ended_total,died": 0, "rota_sessions_ended_total,lost": 0, "rota_workers,ready": 1})
		// A function that ends by itself again and again.
		failing, err := worker.New(worker.Config{Name: "w3", Connect: func(ctx context.Context, _ []string) (worker.Stream, error) { return sc.Sessions().Dial(ctx), nil }})
		if err != nil {
			t.Fatal(err)
		}
		if err := failing.HandleTask("fails", func(context.Context, worker.Assigned) error { return errors.New("no") }); err != nil {
			t.Fatal(err)
		}
		failing.Start()
		t.Cleanup(func() { _ = failing.Stop(context.Background()) })
		apply(rota.Task{ID: "fails", Kind: "fails"})
		time.Sleep(time.Minute)
		if n := sample(t, sc.Registry(), "rota_task_restarts_total"); n < 3 || n > float64(failing.Stats().Starts) || failing.Stats().Failures < 3 {
			t.Errorf("%v restarts, the worker says %+v", n, failing.Stats())
		}
		wants("failing", map[string]float64{"rota_instances,failing": 1, "rota_instances,running": 3, "rota_instances,waiting": 1})
		for _, name := range []string{"rota_pass_seconds", "rota_commit_seconds", "rota_store_seconds,txn", "rota_store_seconds,keep_alive", "rota_store_seconds,range"} {
			if sample(t, sc.Registry(), name) <= 0 {
				t.Errorf("%s has counted nothing", name)
			}
		}
		// What was recorded of all that, and a flood of which the budgets leave most out.
		recorded := sample(t, sc.Registry(), "rota_events_recorded_total")
		if writes, bytes := sample(t, sc.Registry(), "rota_events_writes_total"), sample(t, sc.Registry(), "rota_events_written_bytes_total"); recorded < 10 || writes < 3 || writes > recorded || bytes < 50*recorded {
			t.Errorf("%v events in %v writes of %v bytes", recorded, writes, bytes)
		}
		wants("before the flood", map[string]float64{"rota_events_left_out_total": 0})
		flood := make([]rota.Task, 1000)
		for i := range flood {
			flood[i].ID = fmt.Sprintf("flood-%d", i)
		}
		apply(flood...)
		time.Sleep(time.Minute)
		if n := sample(t, sc.Registry(), "rota_events_left_out_total"); n < 500 {
			t.Errorf("%v events of a flood are left out", n)
		}
		if text := fmt.Sprint(failing.Stats()); strings.Contains(text, "fails") {
			t.Error("a task is named")
		}
	})
}
