package logs_test

import (
	"testing"
	"time"

	"github.com/rota-project/rota/internal/logs"
)

// However many lines there are, the first few of each kind are written, and what is
// written and what is said to be left out are all of them together.
func TestSamplerCountsWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	const every, burst = 10 * time.Second, 3
	for name, tc := range map[string]struct {
		lines, kinds int
		apart        time.Duration
		most         int // lines of one kind
	}{
		"few":           {3, 1, 0, 3},
		"a flood":       {10_000, 1, time.Microsecond, burst},
		"for a while":   {1000, 1, 100 * time.Millisecond, burst + 10},
		"slow ones":     {20, 1, every, 20},
		"two kinds":     {10_000, 2, time.Microsecond, burst},
		"without bound": {10_000, 5000, time.Microsecond, burst},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := logs.NewSampler[int](every, burst)
			now := time.Now()
			written, all, left := map[int]int{}, 0, 0
			for i := range tc.lines {
				n, ok := s.Take(1+i%tc.kinds, now)
				if left += n; ok {
					written[1+i%tc.kinds]++
					all++
				}
				now = now.Add(tc.apart)
			}
			for k, n := range written {
				if n > tc.most && tc.kinds <= 2 {
					t.Errorf("%d lines of kind %d", n, k)
				}
			}
			if all > 100*burst+tc.lines/tc.kinds && tc.kinds > 100 {
				t.Errorf("%d lines of %d kinds", all, tc.kinds)
			}
			rest := s.Rest(now)
			for _, l := range rest {
				left += l.Lines
			}
			for _, l := range s.Rest(now.Add(every)) {
				left += l.Lines
			}
			if again := s.Rest(now.Add(10 * every)); len(again) != 0 {
				t.Errorf("%v is told again", again)
			}
			if all+left != tc.lines {
				t.Errorf("%d lines written, %d left out, of %d", all, left, tc.lines)
			}
			if len(written) < min(tc.kinds, 2) {
				t.Errorf("%d kinds have a line", len(written))
			}
		})
	}
}

// A flood of one kind takes nothing from another, and the line after it says how many
// were left out.
func TestSamplerKeepsKindsApart(t *testing.T) {
	t.Parallel()
	s := logs.NewSampler[string](time.Minute, 1)
	now := time.Now()
	for range 100 {
		s.Take("flood", now)
	}
	if _, ok := s.Take("other", now); !ok {
		t.Error("the other kind has no line")
	}
	if left, ok := s.Take("flood", now.Add(time.Minute)); !ok || left != 99 {
		t.Errorf("%v, %d left out", ok, left)
	}
}

// Kinds that have been quiet are forgotten for the sake of new ones.
func TestSamplerForgets(t *testing.T) {
	t.Parallel()
	s := logs.NewSampler[int](time.Second, 1)
	now := time.Now()
	for round := range 10 {
		for k := 1; k <= 100; k++ {
			if _, ok := s.Take(1000*round+k, now); !ok {
				t.Fatalf("round %d: kind %d has no line", round, k)
			}
		}
		now = now.Add(time.Minute)
	}
}
