package placement

import (
	"fmt"
	"math"
	"testing"

	"github.com/rota-project/rota"
	"pgregory.net/rapid"
)

// fewest tries every assignment of unit tasks to workers and returns the
// least number of running tasks that move for counts at the floor or the
// ceiling of the mean: the twin that is too dumb to be wrong.
func fewest(at []int, workers int) int {
	best := math.MaxInt
	counts := make([]int, workers)
	low, high := len(at)/workers, (len(at)+workers-1)/workers
	var try func(k, moves int)
	try = func(k, moves int) {
		if moves >= best {
			return
		}
		if k == len(at) {
			for _, n := range counts {
				if n < low || n > high {
					return
				}
			}
			best = moves
			return
		}
		for w := range workers {
			if counts[w] == high {
				continue
			}
			cost := 0
			if at[k] >= 0 && at[k] != w {
				cost = 1
			}
			counts[w]++
			try(k+1, moves+cost)
			counts[w]--
		}
	}
	try(0, 0)
	return best
}

// TestTwin compares the chosen moves of small unit worlds with the twin's.
func TestTwin(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		workers := rapid.IntRange(1, 4).Draw(t, "workers")
		for w := range workers {
			if err := p.SetWorker(rota.Worker{Name: name(w)}); err != nil {
				t.Fatal(err)
			}
		}
		at := rapid.SliceOfN(rapid.IntRange(-1, workers-1), 0, 9).Draw(t, "at")
		for k, w := range at {
			id := fmt.Sprintf("t%d", k)
			if err := p.SetTask(rota.Task{ID: id}); err != nil {
				t.Fatal(err)
			}
			if w >= 0 {
				if err := p.Assign(rota.Instance{Task: id}, name(w)); err != nil {
					t.Fatal(err)
				}
			}
		}
		plan := p.Plan()
		if want := fewest(at, workers); plan.Summary.Chosen != want || plan.Summary.Forced != 0 {
			t.Fatalf("%d moves for %v on %d workers, want %d", plan.Summary.Chosen, at, workers, want)
		}
	})
}

// TestWeightedBound holds the fullest worker to the mean plus the largest task
// or one percent of the mean, from any assignment, for any strengths of one
// size, and wants balance to end.
func TestWeightedBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		workers := rapid.IntRange(1, 7).Draw(t, "workers")
		for w := range workers {
			if err := p.SetWorker(rota.Worker{Name: name(w)}); err != nil {
				t.Fatal(err)
			}
		}
		weight := rapid.OneOf(rapid.Float64Range(0.001, 1), rapid.Float64Range(1, 1e6), rapid.SampledFrom([]float64{1, 2, 1e12, 1e17}))
		total, largest := 0.0, 0.0
		for k, x := range rapid.SliceOfN(weight, 1, 60).Draw(t, "weights") {
			id := fmt.Sprintf("t%d", k)
			if err := p.SetTask(rota.Task{ID: id, Weight: x, Group: []string{"", "g"}[k%2]}); err != nil {
				t.Fatal(err)
			}
			if w := rapid.IntRange(-1, workers-1).Draw(t, "at"); w >= 0 {
				if err := p.Assign(rota.Instance{Task: id}, name(w)); err != nil {
					t.Fatal(err)
				}
			}
			total, largest = total+x, max(largest, x)
		}
		p.Commit(p.Plan())
		mean := total / float64(workers)
		if top := p.Imbalance() * mean; top > (mean+max(largest, mean/100))*(1+1e-9) {
			t.Fatalf("the fullest worker has %g; mean %g, largest %g", top, mean, largest)
		}
		if again := p.Plan(); len(again.Moves) != 0 {
			t.Fatalf("%d moves after balance: %v", len(again.Moves), again.Moves)
		}
	})
}

// TestLoadSettles reports loads that stand still, and wants the plans to come
// to an end, and no instance ever back where it was.
func TestLoadSettles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Options{MaxMoves: rapid.IntRange(0, 3).Draw(t, "moves")})
		if err != nil {
			t.Fatal(err)
		}
		workers, tasks := rapid.IntRange(2, 5).Draw(t, "workers"), rapid.IntRange(1, 20).Draw(t, "tasks")
		for w := range workers {
			if err := p.SetWorker(rota.Worker{Name: name(w), MaxTasks: rapid.SampledFrom([]int{0, 0, tasks/workers + 1}).Draw(t, "max")}); err != nil {
				t.Fatal(err)
			}
		}
		load := make([]float64, tasks)
		for k := range tasks {
			load[k] = rapid.SampledFrom([]float64{-1, 0, 1, 7, 40, 41}).Draw(t, "load")
			if err := p.SetTask(rota.Task{ID: fmt.Sprint(k)}); err != nil {
				t.Fatal(err)
			}
		}
		settles(t, p, load)
	})
}

// settles commits plans while the loads of the tasks 0, 1, ... stand still,
// until there is nothing left to do.
func settles(t interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}, p *Planner, load []float64,
) {
	t.Helper()
	been := make([]map[string]bool, len(load))
	p.Commit(p.Plan())
	for round := 0; ; round++ {
		for k := range load {
			i := rota.Instance{Task: fmt.Sprint(k)}
			if w, ok := p.Where(i); ok {
				if been[k] == nil {
					been[k] = map[string]bool{}
				}
				been[k][w] = true
				p.SetLoad(i, w, load[k])
			}
		}
		plan := p.Plan()
		if len(plan.Moves) == 0 {
			return
		}
		if round > 200 {
			t.Fatalf("no end: %v", plan.Moves)
		}
		for _, m := range plan.Moves {
			var k int
			if _, err := fmt.Sscan(m.Instance.Task, &k); err != nil {
				t.Fatal(err)
			}
			if m.From != "" && been[k][m.To] {
				t.Fatalf("%s goes back to %s", m.Instance, m.To)
			}
		}
		p.Commit(plan)
	}
}
