package placement

import (
	"fmt"
	"testing"

	"github.com/rota-project/rota"
)

// loaded returns a planner with unit tasks, placed.
func loaded(b *testing.B, tasks, workers int) *Planner {
	b.Helper()
	p, _ := New(Options{})
	p.Reserve(tasks)
	for k := range workers {
		if err := p.SetWorker(rota.Worker{Name: fmt.Sprintf("worker-%05d", k)}); err != nil {
			b.Fatal(err)
		}
	}
	for k := range tasks {
		if err := p.SetTask(rota.Task{ID: fmt.Sprintf("task-%07d", k)}); err != nil {
			b.Fatal(err)
		}
	}
	return p
}

func BenchmarkFresh(b *testing.B) {
	p := loaded(b, 1_000_000, 2000)
	b.ReportAllocs()
	for b.Loop() {
		if n := len(p.Plan().Moves); n != 1_000_000 {
			b.Fatal(n)
		}
	}
}

func BenchmarkOneTask(b *testing.B) {
	p := loaded(b, 1_000_000, 2000)
	p.Commit(p.Plan())
	b.ReportAllocs()
	for b.Loop() {
		_ = p.SetTask(rota.Task{ID: "one"})
		plan := p.Plan()
		if len(plan.Moves) != 1 {
			b.Fatal(plan.Moves)
		}
		p.Commit(plan)
		p.RemoveTask("one")
		p.Commit(p.Plan())
	}
}

func BenchmarkOneWorker(b *testing.B) {
	p := loaded(b, 1_000_000, 2000)
	p.Commit(p.Plan())
	b.ReportAllocs()
	for b.Loop() {
		_ = p.SetWorker(rota.Worker{Name: "more"})
		plan := p.Plan()
		if len(plan.Moves) != 499 {
			b.Fatal(len(plan.Moves))
		}
		p.Commit(plan)
		p.RemoveWorker("more")
		p.Commit(p.Plan())
	}
}

// BenchmarkFreshRules places weights, resources and required labels.
func BenchmarkFreshRules(b *testing.B) {
	p, _ := New(Options{})
	const tasks = 300_000
	for k := range 2000 {
		_ = p.SetWorker(rota.Worker{
			Name: fmt.Sprintf("worker-%05d", k), Zone: []string{"a", "b", "c"}[k%3],
			Labels:   map[string]string{"disk": []string{"ssd", "hdd"}[k/3%2]},
			Capacity: map[string]float64{"cpus": 128},
		})
	}
	for k := range tasks {
		t := rota.Task{ID: fmt.Sprintf("task-%07d", k), Weight: float64(1 + k*7%13), Resources: map[string]float64{"cpus": 0.1}}
		switch k % 8 {
		case 0:
			t.Rules.Require = []string{"zone=" + []string{"a", "b", "c"}[k/8%3]}
		case 1:
			t.Rules.Require = []string{"disk=ssd"}
		}
		if err := p.SetTask(t); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(p.Plan().Moves); n != tasks {
			b.Fatal(n)
		}
	}
}
