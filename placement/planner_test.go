package placement

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rota-project/rota"
	"pgregory.net/rapid"
)

// optimum is the least number of moves of running unit instances that leaves
// counts at the floor or the ceiling of the mean: quotas, the ceilings to the
// fullest holders.
func optimum(held []int, total int) int {
	held = slices.Clone(held)
	slices.Sort(held)
	slices.Reverse(held)
	moves, low, extra := 0, total/len(held), total%len(held)
	for k, h := range held {
		quota := low
		if k < extra {
			quota++
		}
		moves += max(0, h-quota)
	}
	return moves
}

func name(k int) string { return fmt.Sprintf("w%02d", k) }

// TestUnitMovesAreLeast joins and removes workers and tasks at random, several
// at once, and compares with the optimum.
func TestUnitMovesAreLeast(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		alive := map[string]bool{}
		where := map[rota.Instance]string{}
		back := map[string]bool{} // came back in this round with empty hands
		tasks := 0
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				n := name(rapid.IntRange(0, 9).Draw(t, "worker"))
				if alive[n] {
					p.RemoveWorker(n)
					delete(alive, n)
					back[n] = true
				} else if err := p.SetWorker(rota.Worker{Name: n}); err != nil {
					t.Fatal(err)
				} else {
					alive[n] = true
				}
			}
			for range rapid.IntRange(0, 30).Draw(t, "tasks") {
				if err := p.SetTask(rota.Task{ID: fmt.Sprintf("t%d", tasks)}); err != nil {
					t.Fatal(err)
				}
				tasks++
			}
			for range rapid.IntRange(0, 5).Draw(t, "gone") {
				i := rota.Instance{Task: fmt.Sprintf("t%d", rapid.IntRange(0, max(1, tasks)).Draw(t, "which"))}
				p.RemoveTask(i.Task)
				delete(where, i)
			}
			held := map[string]int{}
			orphans := map[rota.Instance]bool{}
			for i, w := range where {
				if alive[w] && !back[w] {
					held[w]++
				} else {
					orphans[i] = true
				}
			}
			var counts []int
			for w := range alive {
				counts = append(counts, held[w])
			}
			total, _ := p.Len()
			plan := p.Plan()
			chosen := 0
			for _, m := range plan.Moves {
				if m.To == "" {
					continue
				}
				if !alive[m.To] {
					t.Fatalf("to %q, which is not there", m.To)
				}
				if w, ok := where[m.Instance]; ok && !orphans[m.Instance] {
					if w != m.From {
						t.Fatalf("%s is on %s, the move says %s", m.Instance, w, m.From)
					}
					chosen++
				}
				where[m.Instance] = m.To
			}
			p.Commit(plan)
			clear(back)
			if len(alive) == 0 {
				clear(where)
				if len(plan.Waiting) != total {
					t.Fatalf("%d wait of %d, without workers", len(plan.Waiting), total)
				}
				continue
			}
			if want := optimum(counts, total); chosen != want {
				t.Fatalf("%d moves for balance, want %d (held %v, %d tasks)", chosen, want, counts, total)
			}
			held = map[string]int{}
			for i, w := range where {
				held[w]++
				if got, ok := p.Where(i); !ok || got != w {
					t.Fatalf("%s is on %q, want %q", i, got, w)
				}
			}
			if len(where) != total {
				t.Fatalf("%d placed of %d", len(where), total)
			}
			for w := range alive {
				if n := held[w]; n != total/len(alive) && n != (total+len(alive)-1)/len(alive) {
					t.Fatalf("%s holds %d of %d on %d workers", w, n, total, len(alive))
				}
			}
			if again := p.Plan(); len(again.Moves) != 0 {
				t.Fatalf("the plan after the plan has %d moves: %v", len(again.Moves), again.Moves)
			}
		}
	})
}
