package main

import (
	"fmt"
	"runtime"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
)

// cases are the rows of the table.
var cases = []struct {
	what, bar string
	run       func(runs int) result
}{
	{"1,000,000 x 2,000 fresh", "300 ms", func(n int) result { return fresh(n, 1_000_000, 2000) }},
	{"1,000,000 x 2,000 one worker more", "60 ms", func(n int) result { return more(n, 1_000_000, 2000) }},
	{"1,000,000 x 2,000 one worker less", "60 ms", func(n int) result { return less(n, 1_000_000, 2000) }},
	{"100,000 x 10,000 fresh", "-", func(n int) result { return fresh(n, 100_000, 10_000) }},
	{"100,000 x 10,000 one worker more", "15 ms", func(n int) result { return more(n, 100_000, 10_000) }},
	{"100,000 x 10,000 one worker less", "15 ms", func(n int) result { return less(n, 100_000, 10_000) }},
	{"1,000,000 x 2,000 one task added", "50 us", func(n int) result { return result{ours: oneTask(n, true)} }},
	{"1,000,000 x 2,000 one task removed", "50 us", func(n int) result { return result{ours: oneTask(n, false)} }},
	{"1,000,000 x 2,000 with rules, fresh", "1 s", func(n int) result { return ruled(n, true) }},
	{"1,000,000 x 2,000 with rules, one worker less", "150 ms", func(n int) result { return ruled(n, false) }},
}

func workerName(k int) string { return fmt.Sprintf("worker-%05d", k) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// unit returns a planner with unit tasks, nothing placed.
func unit(tasks, workers int) *placement.Planner {
	p, err := placement.New(placement.Options{})
	must(err)
	p.Reserve(tasks)
	for k := range workers {
		must(p.SetWorker(rota.Worker{Name: workerName(k)}))
	}
	for k := range tasks {
		must(p.SetTask(rota.Task{ID: fmt.Sprintf("task-%07d", k)}))
	}
	return p
}

// want fails if a plan does less than it should: a benchmark that runs no work
// is worth nothing.
func want(plan rota.Plan, moves int) {
	if len(plan.Moves) != moves {
		panic(fmt.Sprintf("%d moves, want %d", len(plan.Moves), moves))
	}
}

func fresh(runs, tasks, workers int) result {
	p := unit(tasks, workers)
	ours := measure(runs, nil, func() { want(p.Plan(), tasks) })
	p = nil
	runtime.GC()
	g := newGroup(tasks, workers)
	return result{ours, measure(runs, g.prepare, g.balance)}
}

// more and less count the change, the plan and making it so.
func more(runs, tasks, workers int) result {
	p := unit(tasks, workers)
	p.Commit(p.Plan())
	ours := measure(runs, func() {
		p.RemoveWorker("more")
		p.Commit(p.Plan())
	}, func() {
		must(p.SetWorker(rota.Worker{Name: "more"}))
		plan := p.Plan()
		want(plan, tasks/(workers+1))
		p.Commit(plan)
	})
	p = nil
	runtime.GC()
	g := newGroup(tasks, workers)
	g.settle()
	g.join("more")
	return result{ours, measure(runs, g.prepare, g.balance)}
}

func less(runs, tasks, workers int) result {
	p := unit(tasks, workers)
	p.Commit(p.Plan())
	name := workerName(workers / 2)
	ours := measure(runs, func() {
		must(p.SetWorker(rota.Worker{Name: name}))
		p.Commit(p.Plan())
	}, func() {
		p.RemoveWorker(name)
		plan := p.Plan()
		want(plan, tasks/workers)
		p.Commit(plan)
	})
	p = nil
	runtime.GC()
	g := newGroup(tasks, workers)
	g.settle()
	g.leave(workers / 2)
	return result{ours, measure(runs, g.prepare, g.balance)}
}

// oneTask changes a thousand tasks one by one and answers for one of them: the
// change, the plan and making it so.
func oneTask(runs int, add bool) cost {
	const times = 1000
	p := unit(1_000_000, 2000)
	p.Commit(p.Plan())
	ids := make([]string, times)
	for k := range ids {
		ids[k] = fmt.Sprintf("one-%04d", k)
	}
	added := func() {
		for _, id := range ids {
			must(p.SetTask(rota.Task{ID: id}))
			plan := p.Plan()
			if len(plan.Moves) == 0 {
				panic("nothing placed")
			}
			p.Commit(plan)
		}
	}
	removed := func() {
		for _, id := range ids {
			p.RemoveTask(id)
			plan := p.Plan()
			if len(plan.Moves) == 0 {
				panic("nothing stopped")
			}
			p.Commit(plan)
		}
	}
	prepare, run := removed, added
	if !add {
		prepare, run = added, removed
	} else {
		added()
	}
	c := measure(runs, prepare, run)
	return cost{c.time / times, c.bytes / times, c.allocs / times}
}

// withRules is a million tasks with weights, resources, required zones and disks
// and preferred racks, on workers in three zones with labels and capacities.
func withRules(tasks, workers int) *placement.Planner {
	p, err := placement.New(placement.Options{})
	must(err)
	p.Reserve(tasks)
	for k := range workers {
		must(p.SetWorker(rota.Worker{
			Name: workerName(k), Zone: []string{"a", "b", "c"}[k%3],
			Labels:   map[string]string{"disk": []string{"ssd", "hdd"}[k/3%2], "cores": fmt.Sprint(8 << (k % 3))},
			Capacity: map[string]float64{"cpus": 128, "mem_mib": 1 << 20},
		}))
	}
	for k := range tasks {
		t := rota.Task{
			ID: fmt.Sprintf("task-%07d", k), Weight: float64(1 + k*7%13),
			Resources: map[string]float64{"cpus": 0.1, "mem_mib": float64(int(64) << (k % 3))},
		}
		switch k % 8 {
		case 0:
			t.Rules.Require = []string{"zone=" + []string{"a", "b", "c"}[k/8%3]}
		case 1:
			t.Rules.Require = []string{"disk=ssd"}
		case 2:
			t.Rules.Require = []string{"zone!=c", "cores>8"}
		}
		must(p.SetTask(t))
	}
	return p
}

func ruled(runs int, isFresh bool) result {
	const tasks, workers = 1_000_000, 2000
	p := withRules(tasks, workers)
	if isFresh {
		ours := measure(runs, nil, func() { want(p.Plan(), tasks) })
		p = nil
		runtime.GC()
		g := newGroup(tasks, workers)
		g.differ()
		return result{ours, measure(1, g.prepare, g.balance)}
	}
	p.Commit(p.Plan())
	p.Commit(p.Plan())
	name := workerName(workers / 2)
	return result{ours: measure(runs, func() {
		must(p.SetWorker(rota.Worker{
			Name: name, Zone: []string{"a", "b", "c"}[workers/2%3],
			Labels:   map[string]string{"disk": []string{"ssd", "hdd"}[workers/2/3%2], "cores": fmt.Sprint(8 << (workers / 2 % 3))},
			Capacity: map[string]float64{"cpus": 128, "mem_mib": 1 << 20},
		}))
		p.Commit(p.Plan())
	}, func() {
		p.RemoveWorker(name)
		plan := p.Plan()
		if len(plan.Moves) < 300 || len(plan.Waiting) > 0 {
			panic(fmt.Sprint(len(plan.Moves), " moves, ", len(plan.Waiting), " wait"))
		}
		p.Commit(plan)
	})}
}

// memory is what a planner with a million placed unit tasks keeps for each,
// without the bytes of its id.
func memory() float64 {
	const tasks = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p := unit(tasks, 2000)
	p.Commit(p.Plan())
	p.Plan()
	runtime.GC()
	runtime.ReadMemStats(&after)
	ids := float64(tasks * 16) // 12 bytes, in the allocator's 16
	each := (float64(after.HeapAlloc) - float64(before.HeapAlloc) - ids) / tasks
	runtime.KeepAlive(p)
	return each
}
