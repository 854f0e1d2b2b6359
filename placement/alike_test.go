package placement

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rota-project/rota"
	"pgregory.net/rapid"
)

// TestAlike places many plain tasks at once, and wants the plan that placing
// them one by one gives, which a second domain brings about.
func TestAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Options{Freeze: true})
		if err != nil {
			t.Fatal(err)
		}
		workers := rapid.IntRange(1, 6).Draw(t, "workers")
		for w := range workers {
			if err := p.SetWorker(rota.Worker{
				Name: name(w), MaxTasks: rapid.SampledFrom([]int{0, 0, 3, 9}).Draw(t, "max"),
				Cordoned: rapid.IntRange(0, 5).Draw(t, "cordoned") == 0,
			}); err != nil {
				t.Fatal(err)
			}
		}
		other := rapid.SampledFrom([]float64{1, 1, 2.5}).Draw(t, "other")
		for k := range rapid.IntRange(0, 40).Draw(t, "tasks") {
			u := rota.Task{ID: fmt.Sprintf("t%d", k)}
			if rapid.IntRange(0, 6).Draw(t, "odd") == 0 {
				u.Weight = other
			}
			if err := p.SetTask(u); err != nil {
				t.Fatal(err)
			}
			if w := rapid.IntRange(-3, workers-1).Draw(t, "at"); w >= 0 {
				if err := p.Assign(rota.Instance{Task: u.ID}, name(w)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if rapid.Bool().Draw(t, "lose") {
			p.RemoveWorker(name(0))
		}
		slow := p.Clone()
		if err := slow.SetTask(rota.Task{ID: "decoy", Priority: -1, Rules: rota.Rules{Require: []string{"nobody"}}}); err != nil {
			t.Fatal(err)
		}
		fast, want := p.Plan(), slow.Plan()
		verify(t, p)
		if !slices.Equal(fast.Moves, want.Moves) {
			t.Fatalf("%v\nnot\n%v", fast.Moves, want.Moves)
		}
		if n := len(want.Waiting) - 1; len(fast.Waiting) != n {
			t.Fatalf("%d wait, not %d", len(fast.Waiting), n)
		}
		if err := p.SetOptions(Options{}); err != nil { // and then balance
			t.Fatal(err)
		}
		plan := p.Plan()
		verify(t, p)
		p.Commit(plan)
		verify(t, p)
		if again := p.Plan(); len(again.Moves) > 0 {
			t.Fatalf("the plan after the plan: %v", again.Moves)
		}
	})
}
