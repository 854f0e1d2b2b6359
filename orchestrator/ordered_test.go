package orchestrator

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestOrdered holds the map against a plain list of its keys.
func TestOrdered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var m ordered[int, int]
		var want []int
		values := map[int]int{}
		for n := range rapid.IntRange(0, 60).Draw(t, "changes") {
			k := rapid.IntRange(0, 9).Draw(t, "key")
			switch rapid.SampledFrom([]string{"set", "set", "set", "remove", "remove"}).Draw(t, "change") {
			case "set":
				m.set(k, n)
				if values[k] = n; !slices.Contains(want, k) {
					want = append(want, k)
				}
			case "remove":
				m.remove(k)
				want = slices.DeleteFunc(want, func(x int) bool { return x == k })
			}
			if m.has(k) != slices.Contains(want, k) {
				t.Fatalf("has %d: %v", k, m.has(k))
			}
			var got []int
			for k, v := range m.all() {
				if got = append(got, k); v != values[k] {
					t.Fatalf("%d is %d, want %d", k, v, values[k])
				}
			}
			if !slices.Equal(got, want) || m.len() != len(want) || len(m.list) > 2*len(want) {
				t.Fatalf("%v (%d in %d), want %v", got, m.len(), len(m.list), want)
			}
		}
	})
}
