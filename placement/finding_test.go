package placement

import (
	"slices"
	"testing"

	"github.com/rota-project/rota"
	"pgregory.net/rapid"
)

// TestTableAgreesWithPlacement: what the table says of a worker is what placement does.
// A worker that no rule stops is one that the pass may give the instance to, and no
// other is; the first rule that stops it is the reason that is told; and what is alone in
// being placed goes to a worker that passes, or waits because none does.
func TestTableAgreesWithPlacement(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld()
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			for range rapid.IntRange(1, 12).Draw(t, "changes") {
				w.change(t, p)
			}
			for id := range w.tasks {
				for _, why := range p.Why(id, len(w.workers)).Instances {
					w.table(t, p, why)
				}
			}
			w.alone(t, p)
			p.Commit(p.Plan())
		}
	})
}

// table holds the table of an instance to the rules of a pass.
func (w *world) table(t *rapid.T, p *Planner, why InstanceWhy) {
	i := p.find(why.Instance)
	at := p.insts[i].worker
	fit, stops := 0, 0
	seen := map[string]bool{}
	for n, row := range why.Workers {
		k := p.byName[row.Worker]
		seen[row.Worker] = true
		if row.Chosen != (k == at) || row.Chosen && n != 0 {
			t.Fatalf("%s: %s is chosen: %v, row %d", why.Instance, row.Worker, row.Chosen, n)
		}
		first, rules, order := Obstacle{}, map[Rule]bool{}, -1
		for _, f := range row.Findings {
			at := slices.Index(Rules(), f.Rule)
			if at < order {
				t.Fatalf("%s on %s: %s comes after a later rule", why.Instance, row.Worker, f.Rule)
			}
			order = at
			if f.Value == "" || f.Limit == "" || (f.Outcome == Stops) != (f.Obstacle.Code != "") {
				t.Fatalf("%s on %s: %+v", why.Instance, row.Worker, f)
			}
			if f.Outcome == Stops {
				rules[f.Rule] = true
				if first.Code == "" {
					first = f.Obstacle
				}
			}
		}
		if first != row.Obstacle {
			t.Fatalf("%s on %s: the first that stops it is %+v, told is %+v", why.Instance, row.Worker, first, row.Obstacle)
		}
		if row.Chosen {
			continue
		}
		if may := p.workers[k].ready() && p.feasible(i, k); may != (len(rules) == 0) {
			t.Fatalf("%s may be placed on %s: %v; the table stops it by %v", why.Instance, row.Worker, may, rules)
		}
		if len(rules) == 0 {
			fit++
		}
		if len(rules) < stops {
			t.Fatalf("%s: %s is nearer to pass than the row before", why.Instance, row.Worker)
		}
		stops = len(rules)
	}
	if why.All != len(w.workers) || len(seen) != why.All || why.Fit != fit {
		t.Fatalf("%s: %d of %d workers could take it; the table has %d of %d", why.Instance, why.Fit, why.All, fit, len(w.workers))
	}
}

// alone places one instance while all else stays as it is, as far as there is one that
// goes its way alone.
func (w *world) alone(t *rapid.T, p *Planner) {
	p = p.Clone()
	if err := p.SetOptions(Options{Freeze: true}); err != nil {
		t.Fatal(err)
	}
	p.Commit(p.Plan())
	var ids []string
	for id, u := range w.tasks {
		if u.Key == "" && u.Rules.Gang == "" && !u.Rules.Preempt && u.Replicas == 1 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		c := p.Clone()
		c.Unassign(rota.Instance{Task: id})
		if !slices.ContainsFunc(c.nowhere, func(e entry) bool { return c.instance(e.inst).Task != id }) {
			placed(t, c, id, len(w.workers))
		}
	}
}

// placed holds what becomes of the only thing that is to be placed to its table.
func placed(t *rapid.T, c *Planner, id string, workers int) {
	for _, why := range c.Why(id, workers).Instances {
		can := map[string]bool{}
		for _, row := range why.Workers {
			can[row.Worker] = row.Obstacle.Code == ""
		}
		if why.Next != nil && why.Next.To != "" {
			if !can[why.Next.To] {
				t.Fatalf("%s is placed on %s, which the table stops", why.Instance, why.Next.To)
			}
		} else if why.Fit > 0 {
			t.Fatalf("%s is placed nowhere, and %d workers pass", why.Instance, why.Fit)
		}
	}
}

// TestTableIsBounded: however many workers and instances there are, an explanation has
// some thousands of rows, the chosen and the nearest first, and says how many there are.
func TestTableIsBounded(t *testing.T) {
	t.Parallel()
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 300 {
		w := rota.Worker{Name: text("w%03d", n), Zone: "a"}
		if n%3 == 0 {
			w.Kinds, w.Zone = []string{"other"}, "b"
		}
		if err := p.SetWorker(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.SetTask(rota.Task{ID: "many", Replicas: 250, Rules: rota.Rules{Require: []string{"zone=a"}}}); err != nil {
		t.Fatal(err)
	}
	p.Commit(p.Plan())
	rows := 0
	for n, why := range p.Why("many", 100).Instances {
		rows += len(why.Workers)
		if why.All != 300 || !why.Workers[0].Chosen == (n < 200) {
			t.Errorf("%+v", why)
		}
	}
	if rows > MaxRows {
		t.Errorf("%d rows", rows)
	}
	if err := p.SetTask(rota.Task{ID: "one", Rules: rota.Rules{Require: []string{"zone=a"}}}); err != nil {
		t.Fatal(err)
	}
	p.Commit(p.Plan())
	why := p.Why("one", 250).Instances[0]
	if len(why.Workers) != 250 || why.All != 300 || why.Fit != 199 || why.Workers[199].Obstacle.Code != "" || why.Workers[200].Obstacle.Code != LacksKind {
		t.Errorf("%d rows, %d of %d fit, %+v", len(why.Workers), why.Fit, why.All, why.Workers[200])
	}
}
