package placement

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/rota-project/rota"
	"pgregory.net/rapid"
)

// world is what a test knows of a planner, kept by plain means.
type world struct {
	tasks   map[string]rota.Task
	workers map[string]rota.Worker
	where   map[rota.Instance]string
	claims  map[string]map[string]float64
	opt     Options
}

func newWorld() *world {
	return &world{
		tasks: map[string]rota.Task{}, workers: map[string]rota.Worker{},
		where: map[rota.Instance]string{}, claims: map[string]map[string]float64{},
	}
}

func drawTask(t *rapid.T, id string) rota.Task {
	one := func(label string, in ...string) string { return rapid.SampledFrom(in).Draw(t, label) }
	u := rota.Task{
		ID: id, Kind: one("kind", "", "", "", "x"), Group: one("group", "", "", "g", "h"),
		Weight:    rapid.SampledFrom([]float64{0, 0, 1, 2, 3.5, 10}).Draw(t, "weight"),
		Priority:  rapid.SampledFrom([]float64{0, 0, 1, 5}).Draw(t, "priority"),
		Replicas:  rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "replicas"),
		Resources: rapid.SampledFrom([]map[string]float64{nil, nil, {"cpus": 0.1}, {"cpus": 0.5, "mem": 3}}).Draw(t, "resources"),
	}
	if one("require", "", "", "y") != "" {
		u.Rules.Require = []string{one("rule", "zone=a", "zone!=a", "disk", "!disk", "cores>4", "disk in (ssd,hdd)")}
	}
	if one("prefer", "", "", "y") != "" {
		u.Rules.Prefer = []rota.Preference{{Label: one("like", "zone=b", "disk=ssd"), Weight: 1}}
	}
	switch one("special", "", "", "", "", "key", "gang", "pin", "away", "shun", "near", "spread", "preempt", "herd") {
	case "key":
		u.Key, u.Rules = one("key", "k", "l"), rota.Rules{Require: u.Rules.Require}
	case "gang":
		u.Rules.Gang = one("gang", "m", "n")
	case "pin":
		u.Rules.Pinned = one("pinned", "w0", "w1", "nobody")
	case "away":
		u.Rules.Affinity = []rota.Affinity{{Group: one("far", "g", "h"), Anti: true, Required: true}}
	case "shun":
		u.Rules.Affinity = []rota.Affinity{{Task: one("foe", "t0", "t1", "t2"), Anti: true, Required: true}}
	case "near":
		u.Rules.Affinity = []rota.Affinity{{Task: one("friend", "t0", "t1", "t2"), Required: true}}
	case "herd":
		u.Rules.Affinity = []rota.Affinity{{Group: one("herd", "g", "h"), Weight: 2}}
	case "spread":
		u.Rules.Spread = &rota.Spread{Label: "zone", ByGroup: one("by", "", "g") != ""}
	case "preempt":
		u.Rules.Preempt = true
	}
	return u
}

func drawWorker(t *rapid.T, name string) rota.Worker {
	w := rota.Worker{
		Name: name, Zone: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "zone"),
		Labels:   rapid.SampledFrom([]map[string]string{nil, {"disk": "ssd", "cores": "8"}, {"disk": "hdd", "cores": "x"}}).Draw(t, "labels"),
		Kinds:    rapid.SampledFrom([][]string{nil, nil, {rota.DefaultKind}, {"x"}}).Draw(t, "kinds"),
		Capacity: rapid.SampledFrom([]map[string]float64{nil, nil, {"cpus": 1, "mem": 7}, {"cpus": 0.3}}).Draw(t, "capacity"),
		MaxTasks: rapid.SampledFrom([]int{0, 0, 0, 3, 6}).Draw(t, "max"),
		Strength: rapid.SampledFrom([]float64{0, 0, 2, 0.5}).Draw(t, "strength"),
		Ramp:     rapid.SampledFrom([]float64{0, 0, 0.5}).Draw(t, "ramp"),
	}
	switch rapid.IntRange(0, 9).Draw(t, "state") {
	case 0:
		w.Cordoned = true
	case 1:
		w.Draining = true
	}
	return w
}

// change makes one random change to the world and to the planner.
func (w *world) change(t *rapid.T, p *Planner) {
	id := fmt.Sprintf("t%d", rapid.IntRange(0, 11).Draw(t, "id"))
	name := fmt.Sprintf("w%d", rapid.IntRange(0, 5).Draw(t, "name"))
	i := rota.Instance{Task: id, Index: rapid.IntRange(0, 2).Draw(t, "index")}
	switch rapid.SampledFrom([]string{"task", "task", "task", "worker", "worker", "delete", "gone", "assign", "unassign", "load", "claim", "options"}).Draw(t, "change") {
	case "task":
		u := drawTask(t, id)
		if err := p.SetTask(u); err != nil {
			t.Fatal(err)
		}
		w.tasks[id] = u.Normalize()
		t.Logf("op %+v", u)
	case "worker":
		v := drawWorker(t, name)
		if err := p.SetWorker(v); err != nil {
			t.Fatal(err)
		}
		w.workers[name] = v
		t.Logf("op %+v", v)
	case "delete":
		p.RemoveTask(id)
		t.Logf("op delete %s", id)
		delete(w.tasks, id)
	case "gone":
		p.RemoveWorker(name)
		t.Logf("op gone %s", name)
		delete(w.workers, name)
		maps.DeleteFunc(w.where, func(_ rota.Instance, v string) bool { return v == name })
	case "assign":
		_, known := w.workers[name]
		if err := p.Assign(i, name); (err == nil) != known {
			t.Fatalf("assign to %s (known: %v): %v", name, known, err)
		}
		if known {
			w.where[i] = name
			t.Logf("op assign %s %s", i, name)
		}
	case "unassign":
		p.Unassign(i)
		t.Logf("op unassign %s", i)
		delete(w.where, i)
	case "load":
		v := rapid.SampledFrom([]float64{-1, 0, 1, 5, 50}).Draw(t, "load")
		p.SetLoad(i, name, v)
		t.Logf("op load %s %s %v", i, name, v)
	case "claim":
		amounts := rapid.SampledFrom([]map[string]float64{nil, {"cpus": 0.2}, {"cpus": 0.9, "disk": 1}, {"mem": 7}, {"cpus": 5}}).Draw(t, "claim")
		var u Use
		u.Add(amounts)
		p.Claim(name, u)
		w.claims[name] = amounts
		t.Logf("op claim %s %v", name, amounts)
	case "options":
		w.opt = Options{
			BalanceGroups: rapid.Bool().Draw(t, "groups"),
			MaxMoves:      rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "moves"),
			GroupBudget:   Budget{Count: rapid.SampledFrom([]int{0, 0, 1}).Draw(t, "budget")},
			ZoneBudget:    Budget{Count: rapid.SampledFrom([]int{0, 0, 0, 2}).Draw(t, "zone budget")},
			Hysteresis:    rapid.SampledFrom([]float64{0, 0, 0.1}).Draw(t, "hysteresis"),

			MaxMovesPerWorker: rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "moves of one"),
			MinWorkers:        rapid.SampledFrom([]int{0, 0, 0, 2}).Draw(t, "brake"),
			Freeze:            rapid.IntRange(0, 9).Draw(t, "freeze") == 0,
		}
		t.Logf("op %+v", w.opt)
		if err := p.SetOptions(w.opt); err != nil {
			t.Fatal(err)
		}
	}
}

// apply takes a plan into the world and checks that its moves fit.
func (w *world) apply(t *rapid.T, plan rota.Plan) {
	seen := map[rota.Instance]bool{}
	t.Logf("op plan %v\nop waiting %v", plan.Moves, plan.Waiting)
	for _, x := range plan.Waiting {
		if (x.Code == rota.NoPlace) != slices.Contains(Obstacles(), Code(x.Obstacle)) {
			t.Fatalf("%s: %q is no obstacle of %q", x.Code, x.Obstacle, x.Reason)
		}
	}
	for _, m := range plan.Moves {
		if seen[m.Instance] {
			t.Fatalf("%s moves twice", m.Instance)
		}
		seen[m.Instance] = true
		if at, ok := w.where[m.Instance]; ok && m.From != at {
			t.Fatalf("%s is on %s, the plan says %q", m.Instance, at, m.From)
		}
		if m.Reason == "" || m.From == m.To {
			t.Fatalf("move %+v", m)
		}
		if m.To == "" {
			delete(w.where, m.Instance)
		} else {
			w.where[m.Instance] = m.To
		}
	}
}

// budgets counts what a plan takes from where it may stay.
func (w *world) budgets(t *rapid.T, plan rota.Plan) {
	chosen, at, groups, zones := 0, map[string]int{}, map[string]int{}, map[string]int{}
	for _, m := range plan.Moves {
		drained := m.Code == rota.WorkerDrains
		if m.From == "" || m.Forced && !drained {
			continue
		}
		groups[w.tasks[m.Instance.Task].Group]++
		zones[w.workers[m.From].Zone]++
		if !drained {
			chosen++
			at[m.From]++
			at[m.To]++
		}
	}
	if most := w.opt.MaxMoves; most > 0 && chosen > most {
		t.Fatalf("%d moves chosen, at most %d", chosen, most)
	}
	for name, n := range at {
		if most := w.opt.MaxMovesPerWorker; most > 0 && n > most {
			t.Fatalf("%d moves of %s, at most %d", n, name, most)
		}
	}
	for name, n := range groups {
		if most := w.opt.GroupBudget.Count; name != "" && most > 0 && n > most {
			t.Fatalf("%d of group %s taken, at most %d", n, name, most)
		}
	}
	for name, n := range zones {
		if most := w.opt.ZoneBudget.Count; name != "" && most > 0 && n > most {
			t.Fatalf("%d of zone %s taken, at most %d", n, name, most)
		}
	}
}

// check looks for anything against the rules, the plain way.
func (w *world) check(t *rapid.T, p *Planner, plan rota.Plan) {
	waits := map[rota.Instance]bool{}
	for _, x := range plan.Waiting {
		waits[x.Instance] = true
	}
	ready := 0
	for _, v := range w.workers {
		if !v.Cordoned && !v.Draining {
			ready++
		}
	}
	for id, u := range w.tasks {
		for k := range u.Replicas {
			i := rota.Instance{Task: id, Index: k}
			at, ok := p.Where(i)
			if mine, has := w.where[i]; ok != has || at != mine {
				t.Fatalf("%s is on %q for the planner, on %q for the plans", i, at, mine)
			}
			if !ok && !waits[i] {
				t.Fatalf("%s is nowhere, and the plan says nothing of it", i)
			}
		}
	}
	if w.opt.Freeze || ready < w.opt.MinWorkers {
		return
	}
	paced := w.opt.GroupBudget.Count > 0 || w.opt.ZoneBudget.Count > 0
	count, used := map[string]int{}, map[string]map[string]amount{}
	for i, at := range w.where {
		u, ok := w.tasks[i.Task]
		if !ok || i.Index >= u.Replicas {
			t.Fatalf("%s is still on %s, and nothing declares it", i, at)
		}
		v := w.workers[at]
		if v.Draining && !waits[i] && !paced {
			t.Fatalf("%s is on %s, which drains", i, at)
		}
		if (v.Kinds != nil || rota.IsProgramKind(u.Kind)) && !slices.Contains(v.Kinds, u.Kind) || u.Rules.Pinned != "" && u.Rules.Pinned != at {
			t.Fatalf("%s may not be on %s", i, at)
		}
		for _, r := range u.Rules.Require {
			c, err := ParseCondition(r)
			if err != nil || !c.Met(&v) {
				t.Fatalf("%s is on %s against %s", i, at, r)
			}
		}
		count[at]++
		if used[at] == nil {
			used[at] = map[string]amount{}
		}
		for r, x := range u.Resources {
			used[at][r] = used[at][r].plus(toAmount(x))
		}
		for j, other := range w.where {
			if j != i && other == at {
				if j.Task == i.Task {
					t.Fatalf("%s and %s are both on %s", i, j, at)
				}
				for _, a := range u.Rules.Affinity {
					if a.Anti && a.Required && (a.Task == j.Task || a.Group != "" && a.Group == w.tasks[j.Task].Group) {
						t.Fatalf("%s keeps away from %s and is with it on %s", i, j, at)
					}
				}
			}
			if u.Key != "" && w.tasks[j.Task].Key == u.Key && j.Index == i.Index && other != at && !waits[i] && !waits[j] && !paced {
				t.Fatalf("%s and %s have one key, and are on %s and %s", i, j, at, other)
			}
			if g := u.Rules.Gang; g != "" {
				for k, o := range w.tasks {
					for n := range o.Replicas {
						if m := (rota.Instance{Task: k, Index: n}); o.Rules.Gang == g && w.where[m] == "" {
							t.Fatalf("%s runs without %s of its gang", i, m)
						}
					}
				}
			}
		}
	}
	for name, n := range count {
		v := w.workers[name]
		if v.MaxTasks > 0 && n > v.MaxTasks {
			t.Fatalf("%s holds %d, at most %d", name, n, v.MaxTasks)
		}
		for r, x := range used[name] {
			if v.Capacity != nil && toAmount(v.Capacity[r]).less(x.plus(toAmount(w.claims[name][r]))) && x != (amount{}) {
				t.Fatalf("%s gives %v of %s beside %v that others take", name, x.float(), r, w.claims[name][r])
			}
		}
	}
}

// rebuild tells another planner the same state, in another order.
func (w *world) rebuild(t *rapid.T, now *Planner) *Planner {
	p, err := New(w.opt)
	if err != nil {
		t.Fatal(err)
	}
	type fact func() error
	var facts, later, last []fact
	for _, u := range w.tasks {
		facts = append(facts, func() error { return p.SetTask(u) })
	}
	for _, v := range w.workers {
		facts = append(facts, func() error { return p.SetWorker(v) })
	}
	for name, amounts := range w.claims {
		facts = append(facts, func() error {
			var u Use
			u.Add(amounts)
			p.Claim(name, u)
			return nil
		})
	}
	for i, at := range w.where {
		later = append(later, func() error { return p.Assign(i, at) })
		if x := now.measured(now.find(i)); x >= 0 {
			last = append(last, func() error { p.SetLoad(i, at, x); return nil })
		}
	}
	for _, list := range [][]fact{facts, later, last} { // maps are in random order already
		for _, f := range list {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
}

// compare asks p and a planner rebuilt in another order for a plan.
func (w *world) compare(t *rapid.T, p *Planner) {
	type step struct {
		i  rota.Instance
		to string
	}
	of := func(p *Planner) (steps []step) {
		for _, m := range p.Plan().Moves {
			steps = append(steps, step{m.Instance, m.To})
		}
		return steps
	}
	for i, in := range p.insts {
		if in.task != none && (in.worker == none || p.workers[in.worker].gone) && p.measured(int32(i)) >= 0 {
			return // its load is remembered, and nobody can be told of it
		}
	}
	same := p.Clone()
	same.version++ // as if told of something: what balance took from where is forgotten
	if a, b := of(same), of(w.rebuild(t, p)); !slices.Equal(a, b) {
		t.Fatalf("the plan depends on history:\n%v\n%v", a, b)
	}
}

// TestRules changes a small world at random and holds every plan against its
// rules; each plan is also asked of a planner that was told of the same state
// in another order, and of a clone.
func TestRules(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld()
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			for range rapid.IntRange(1, 12).Draw(t, "changes") {
				w.change(t, p)
			}
			verify(t, p)
			before := p.Clone()
			plan := p.Plan()
			verify(t, p)
			if again := p.Plan(); !samePlan(plan, again) {
				t.Fatalf("asked twice:\n%v\n%v", plan, again)
			}
			if other := before.Plan(); !samePlan(plan, other) {
				t.Fatalf("a clone says\n%v\nnot\n%v", other, plan)
			}
			w.budgets(t, plan)
			w.apply(t, plan)
			p.Commit(p.Plan())
			verify(t, p)
			w.check(t, p, plan)
			w.compare(t, p)
		}
	})
}

// verify adds up what the planner keeps as sums.
func verify(t *rapid.T, p *Planner) {
	groups, shy := map[pair]int32{}, map[pair]int32{}
	for _, w := range p.order {
		k := &p.workers[w]
		load := amount{}
		used := make([]amount, len(p.resources))
		for r, name := range p.resources {
			used[r] = p.claims[k.name].taken[name]
		}
		for pos, e := range k.list {
			in := p.insts[e.inst]
			if in.worker != w || in.pos != int32(pos) {
				t.Fatalf("%s is in the list of %s and says %d, %d", p.instance(e.inst), k.name, in.worker, in.pos)
			}
			u := &p.tasks[in.task]
			load = load.plus(toAmount(u.weight))
			if u.demand != none {
				for _, n := range p.demands[u.demand].amounts {
					used[n.resource] = used[n.resource].plus(n.amount)
				}
			}
			if u.group != none {
				groups[pair{u.group, w}]++
			}
			if p.classes[u.class].shy {
				shy[pair{u.class, w}]++
			}
		}
		if load != k.load {
			t.Fatalf("%s weighs %v, not %v", k.name, load, k.load)
		}
		for r := range used {
			if used[r] != k.room[r].used {
				t.Fatalf("%s gives %v of %s, not %v", k.name, used[r], p.resources[r], k.room[r].used)
			}
		}
	}
	for pos, e := range p.nowhere {
		if in := p.insts[e.inst]; in.worker != none || in.pos != int32(pos) {
			t.Fatalf("%s is nowhere and says %d, %d", p.instance(e.inst), in.worker, in.pos)
		}
	}
	if !maps.Equal(groups, p.groupCount) {
		t.Fatalf("groups %v, not %v", groups, p.groupCount)
	}
	maps.DeleteFunc(p.shyCount, func(_ pair, n int32) bool { return n == 0 })
	if !maps.Equal(shy, p.shyCount) {
		t.Fatalf("shy %v, not %v", shy, p.shyCount)
	}
}

func samePlan(a, b rota.Plan) bool {
	return a.Summary == b.Summary && slices.Equal(a.Moves, b.Moves) && slices.Equal(a.Waiting, b.Waiting)
}
