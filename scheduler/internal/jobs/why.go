package jobs

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/placement"
)

// How many workers GetJob answers unless it is asked for more, and at most.
const (
	whyWorkers    = 100
	maxWhyWorkers = placement.MaxRows
)

// explained says why a job is where it is, or why it waits.
type explained struct {
	rows     []placement.WorkerWhy // most of them, the nearest first
	all, fit int                   // workers that take jobs, and those that it is not on and could be
	why      string                // in one line, of one that waits
}

// explain says what each rule finds of each worker that takes jobs: of the one that the
// job is on first, then of those that could take it, the one that gets it first, then of
// those that the fewest rules keep it from. At most so many are returned. c.mu is held.
func (c *Control) explain(e *entry, most int) (x explained) {
	conditions, err := conditionsOf(e.spec)
	if err != nil {
		x.why = err.Error()
		return x
	}
	q := &question{id: e.job.ID, spec: &e.spec, conditions: conditions}
	if c.p.leading {
		q.leader = c.p.epoch
	}
	type place struct {
		w           *candidate
		chosen      bool
		first       placement.Obstacle
		jobs, stops int
		load        float64
	}
	var list []place
	var obstacles []placement.Obstacle
	for _, w := range c.candidates() {
		at := place{w: w, jobs: len(c.p.active[w.Name])}
		if _, at.chosen = c.p.active[w.Name][e.job.ID]; at.chosen {
			at.jobs--
		}
		for _, rule := range asks {
			if o := rule(&c.p, q, w, at.jobs, nil); o.Code != "" {
				at.stops++
				at.first = cmp.Or(at.first, o)
			}
		}
		at.load = w.load(at.jobs)
		list, obstacles = append(list, at), append(obstacles, at.first)
		if at.stops == 0 && !at.chosen {
			x.fit++
		}
	}
	slices.SortStableFunc(list, func(a, b place) int {
		switch {
		case a.chosen:
			return -1
		case b.chosen:
			return 1
		}
		return cmp.Or(a.stops-b.stops, cmp.Compare(a.load, b.load))
	})
	least := math.Inf(1)
	for _, at := range list {
		if at.chosen || at.stops == 0 || x.fit == 0 {
			least = min(least, at.load)
		}
	}
	for _, at := range list[:min(most, len(list))] {
		row := placement.WorkerWhy{Worker: at.w.Name, Chosen: at.chosen, Obstacle: at.first}
		tell := func(v placement.Finding) { row.Findings = append(row.Findings, v) }
		for _, rule := range asks {
			rule(&c.p, q, at.w, at.jobs, tell)
		}
		tell(placement.Finding{Rule: placement.ByLoad, Value: loadText(at.load), Limit: "the least is " + loadText(least)}.Weighed(at.load <= least))
		x.rows = append(x.rows, row)
	}
	switch x.all = len(list); {
	case x.all == 0:
		x.why = "no worker takes jobs"
	case x.fit == 0:
		x.why = placement.Summary(obstacles)
	} // else it is about to be placed, or waits for a time
	return x
}

// loadText is jobs for a strength of 1, with the one that is asked for.
func loadText(load float64) string { return strconv.FormatFloat(load, 'g', 3, 64) }

// tell puts what is explained into an answer.
func (x explained) tell(out *rotav1.JobDetail) {
	out.AllWorkers, out.FittingWorkers = int64(x.all), int64(x.fit)
	for _, row := range x.rows {
		out.Workers = append(out.Workers, convert.WhyRowToProto(row))
	}
}
