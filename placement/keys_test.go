package placement

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rota-project/rota"

	"pgregory.net/rapid"
)

// TestKeysFindTheirPlace: where nothing but keys and replicas is in the way, and
// there is a worker for each replica, everything runs, and all of one key and index
// on one worker, whatever was where before.
func TestKeysFindTheirPlace(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const most = 4
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"w0", "w1", "w2", "w3", "w4", "w5"}
		there := map[string]bool{}
		set := func(name string, in bool) {
			there[name] = in
			if !in {
				p.RemoveWorker(name)
				return
			}
			if err := p.SetWorker(rota.Worker{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range names {
			set(n, true)
		}
		tasks := map[string]rota.Task{}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "task")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				p.RemoveTask(id)
				delete(tasks, id)
			case 1, 2:
				n := rapid.SampledFrom(names).Draw(t, "worker")
				gone := 0
				for _, in := range there {
					if !in {
						gone++
					}
				}
				if !there[n] || gone < len(names)-most {
					set(n, !there[n])
				}
			default:
				u := rota.Task{
					ID: id, Key: rapid.SampledFrom([]string{"", "k", "k", "l"}).Draw(t, "key"),
					Replicas: rapid.IntRange(1, most).Draw(t, "replicas"), Weight: float64(rapid.IntRange(1, 5).Draw(t, "weight")),
				}.Normalize()
				if err := p.SetTask(u); err != nil {
					t.Fatal(err)
				}
				tasks[id] = u
			}
			plan := p.Plan()
			p.Commit(plan)
			if len(plan.Waiting) > 0 {
				t.Fatalf("%v wait", plan.Waiting)
			}
			homes := map[string]string{}
			for _, u := range tasks {
				var at []string
				for n := range u.Replicas {
					w, ok := p.Where(rota.Instance{Task: u.ID, Index: n})
					if !ok || slices.Contains(at, w) {
						t.Fatalf("instance %d of %s is on %q, the others are on %v", n, u.ID, w, at)
					}
					at = append(at, w)
					if u.Key == "" {
						continue
					}
					key := fmt.Sprint(u.Key, n)
					if h, ok := homes[key]; ok && h != w {
						t.Fatalf("key %s has instances %d on %s and on %s", u.Key, n, h, w)
					}
					homes[key] = w
				}
			}
		}
	})
}
