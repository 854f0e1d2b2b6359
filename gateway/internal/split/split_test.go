package split_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/rota-project/rota/gateway/internal/split"
)

// Of any number of calls in a row the second gets its share, but for one call.
func TestSharesAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]float64{0, 1, 0.5, 0.1, 0.01, 0.999, 1.0 / 3, rapid.Float64Range(0, 1).Draw(t, "part")}).Draw(t, "one")
		var c split.Counter
		s := split.Of(part)
		for range rapid.IntRange(0, 500).Draw(t, "before") {
			c.Second(s)
		}
		n, got := rapid.IntRange(1, 2000).Draw(t, "calls"), 0
		for range n {
			if c.Second(s) {
				got++
			}
		}
		if math.Abs(float64(got)-part*float64(n)) > 1.001 {
			t.Fatalf("%v of %d calls: %d", part, n, got)
		}
	})
}

func TestSharesAreExactTogether(t *testing.T) {
	t.Parallel()
	var c split.Counter
	var got atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if c.Second(split.Of(0.25)) {
					got.Add(1)
				}
			}
		})
	}
	all.Wait()
	if got.Load() != 2000 {
		t.Errorf("%d of 8000, want 2000", got.Load())
	}
}

// Who is the second's stays so when the share grows.
func TestHolds(t *testing.T) {
	t.Parallel()
	n := 0
	for h := range uint64(100_000) {
		small, large := split.Of(0.1).Holds(h), split.Of(0.3).Holds(h)
		if small && !large {
			t.Fatalf("%d has left", h)
		}
		if split.Of(0).Holds(h) || !split.Of(1).Holds(h) {
			t.Fatalf("%d: none or all", h)
		}
		if small {
			n++
		}
	}
	if n < 9_000 || n > 11_000 {
		t.Errorf("%d of 100000, want about a tenth", n)
	}
}
