package placement

import (
	"strconv"
	"testing"

	"github.com/rota-project/rota"
)

// TestGhostIsNotCounted: a kind that is first asked for while a lost worker
// still holds something must not count that worker, or the order of turns would
// depend on history.
func TestGhostIsNotCounted(t *testing.T) {
	t.Parallel()
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetWorker(rota.Worker{Name: "w"}); err != nil {
		t.Fatal(err)
	}
	if err := p.SetTask(rota.Task{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	p.Commit(p.Plan())
	p.RemoveWorker("w")
	if err := p.SetTask(rota.Task{ID: "b", Kind: "x"}); err != nil {
		t.Fatal(err)
	}
	for _, d := range p.domains {
		if d.n != 0 {
			t.Errorf("kind %s counts %d workers", d.kind, d.n)
		}
	}
}

// TestStuckKeyEnds: trying out the moves of a key that may not go must not let
// a worker that is stuck have another turn in the same pass, for ever.
func TestStuckKeyEnds(t *testing.T) {
	t.Parallel()
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []rota.Worker{{Name: "w1"}, {Name: "w2", MaxTasks: 1}, {Name: "w3", MaxTasks: 1}} {
		if err := p.SetWorker(w); err != nil {
			t.Fatal(err)
		}
	}
	for k := range 60 {
		task := rota.Task{ID: string(rune('A' + k)), Key: "k", Weight: float64(1 + k%3)}
		if err := p.SetTask(task); err != nil {
			t.Fatal(err)
		}
		if err := p.Assign(rota.Instance{Task: task.ID}, "w1"); err != nil {
			t.Fatal(err)
		}
	}
	if plan := p.Plan(); len(plan.Moves) != 0 {
		t.Errorf("a key was torn: %v", plan.Moves)
	}
}

// TestNotBackAndForth: a budget of two let the first pass move 12 to make the
// best of one move, and the second take it back as part of a swap.
func TestNotBackAndForth(t *testing.T) {
	t.Parallel()
	p, err := New(Options{MaxMoves: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []rota.Worker{{Name: "w00"}, {Name: "w01", MaxTasks: 11}} {
		if err := p.SetWorker(w); err != nil {
			t.Fatal(err)
		}
	}
	load := []float64{-1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 7, 40, 40, 0, 0, 0, 0, 1}
	for k := range load {
		if err := p.SetTask(rota.Task{ID: strconv.Itoa(k)}); err != nil {
			t.Fatal(err)
		}
	}
	settles(t, p, load)
}
