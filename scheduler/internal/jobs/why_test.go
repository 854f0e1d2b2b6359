package jobs

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
)

// TestTableAgreesWithPlacing: whatever the workers and the job are like, the first row of
// the table is the worker that gets the job, rows fit if no rule stops the job there, and
// the reason of a row is the first thing that does.
func TestTableAgreesWithPlacing(t *testing.T) {
	t.Parallel()
	seen := map[placement.Code]bool{}
	placed := 0
	rapid.Check(t, func(r *rapid.T) {
		c, _ := still(t)
		delete(c.p.sessions, "w")
		delete(c.p.workers, "w")
		if rapid.Bool().Draw(r, "counted") {
			c.cfg.Capacity.Lead()
			c.cfg.Capacity.Open(7)
		}
		all := rapid.IntRange(0, 6).Draw(r, "workers")
		for n := range all {
			name := fmt.Sprint("w", n)
			s := &storepb.Session{Name: name, Incarnation: "i", Strength: float64(rapid.IntRange(0, 3).Draw(r, "strength")), Labels: map[string]string{"disk": rapid.SampledFrom([]string{"ssd", "hdd"}).Draw(r, "disk")}}
			if rapid.Bool().Draw(r, "counts") {
				s.Capacity = map[string]float64{"cpus": float64(rapid.IntRange(0, 3).Draw(r, "cpus")), "memory": 2}
			}
			c.p.sessions[name] = &view.Session{ID: 3, Mod: 4, Session: s}
			c.p.workers[name] = &storepb.JobWorker{Name: name, Incarnation: "i", Any: rapid.Bool().Draw(r, "any"), Commands: []string{rapid.SampledFrom([]string{"x", "y"}).Draw(r, "lists")}, Slots: int64(rapid.IntRange(0, 3).Draw(r, "slots"))}
			c.p.nodes[name] = &storepb.Node{Draining: rapid.IntRange(0, 5).Draw(r, "drains") == 0, Cordoned: rapid.IntRange(0, 5).Draw(r, "cordoned") == 0}
			c.p.active[name] = map[string]struct{}{}
			for k := range rapid.IntRange(0, 2).Draw(r, "jobs") {
				id := fmt.Sprint(name, " ", k)
				c.p.active[name][id] = struct{}{}
				c.p.account.Take(id, name, map[string]float64{"cpus": 1})
			}
		}
		spec := job.Spec{Argv: []string{"x"}, Resources: map[string]float64{}}
		if rapid.Bool().Draw(r, "needs cpus") {
			spec.Resources["cpus"] = 1
		}
		if rapid.Bool().Draw(r, "needs memory") {
			spec.Resources["memory"] = float64(rapid.IntRange(1, 3).Draw(r, "memory"))
		}
		if rapid.Bool().Draw(r, "requires") {
			spec.Require = []string{"disk=ssd"}
		}
		if rapid.IntRange(0, 3).Draw(r, "named") == 0 {
			spec.Worker = "w1"
		}
		id := uuid.Of("job")
		e := &entry{spec: spec, class: classOf(spec), job: job.New(id, time.Unix(1, 0))}

		x := c.explain(e, 100)
		got := c.batch().choose(id, spec, c.candidates())
		if x.all != all || len(x.rows) != all || (got != nil) != (x.fit > 0) {
			r.Fatalf("%d of %d rows, %d fit; chosen is %v", len(x.rows), all, x.fit, got)
		}
		if got != nil {
			placed++
			if x.rows[0].Worker != got.Name {
				r.Fatalf("the first row is %+v, the job gets to %s", x.rows[0], got.Name)
			}
		}
		before := 0
		for _, row := range x.rows {
			first, stops, order := placement.Obstacle{}, map[placement.Rule]bool{}, 0
			for _, f := range row.Findings {
				at := slices.Index(placement.Rules(), f.Rule)
				if at < order || f.Value == "" || f.Limit == "" || (f.Outcome == placement.Stops) != (f.Obstacle.Code != "") {
					r.Fatalf("%s: %+v", row.Worker, f)
				}
				order = at
				if f.Outcome == placement.Stops {
					stops[f.Rule] = true
					seen[f.Obstacle.Code] = true
					if first.Code == "" {
						first = f.Obstacle
					}
				}
			}
			if first != row.Obstacle || len(stops) < before {
				r.Fatalf("%s: first stopped by %+v, told is %+v; %d rules, %d before", row.Worker, first, row.Obstacle, len(stops), before)
			}
			before = len(stops)
		}
	})
	for _, code := range []placement.Code{placement.Draining, placement.Cordoned, placement.NotPinned, placement.LacksCommand, placement.FailsLabel, placement.LacksResource, placement.NotCounted, placement.JobsFull} {
		if !seen[code] {
			t.Errorf("no worker was ever %s", code)
		}
	}
	if placed == 0 {
		t.Error("no job was ever placed")
	}
}

// TestTableOfPlaced: the worker that a job is on comes first, and does not count the job
// against itself.
func TestTableOfPlaced(t *testing.T) {
	t.Parallel()
	c, s := still(t)
	id := c.queue(t, "one", 2)
	j, err := c.p.entries[id].job.Place("w", "i1", s.ID, 9, time.Unix(2, 0))
	if err != nil {
		t.Fatal(err)
	}
	e := *c.p.entries[id]
	e.job, e.stateMod = j, e.stateMod+1
	c.set(id, &e)
	x := c.explain(&e, 10)
	if len(x.rows) != 1 || !x.rows[0].Chosen || x.rows[0].Obstacle.Code == placement.LacksResource || x.fit != 0 {
		t.Errorf("%+v", x)
	}
}
