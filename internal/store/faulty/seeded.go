package faulty

import (
	"math/rand/v2"
	"time"
)

// Rates say how often what goes wrong: parts of all calls, from 0 to 1.
type Rates struct {
	Delay, Refuse, Lose, Late float64
	// Compact is of batches and of watches that begin.
	Compact float64
	// Cut is of batches whose watch ends with ErrInjected.
	Cut float64
	// MaxDelay and MaxLate bound how long.
	MaxDelay, MaxLate time.Duration
}

// Seeded decides by chance: what becomes of a call follows from the seed and the
// call alone, not from the order in which goroutines come. At most one of Refuse,
// Lose, Late, Compact and Cut happens to a call.
func Seeded(seed uint64, r Rates) Decide {
	return func(c Call) Fault {
		h := uint64(14695981039346656037) // FNV-1a
		mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
		mix(byte(c.Kind))
		for i := range len(c.Key) {
			mix(c.Key[i])
		}
		for i := range 8 {
			mix(byte(c.Seq >> (8 * i)))
		}
		rng := rand.New(rand.NewPCG(seed, h))
		upTo := func(d time.Duration) time.Duration {
			if d <= 0 {
				return 0
			}
			return 1 + time.Duration(rng.Int64N(int64(d)))
		}
		var f Fault
		if rng.Float64() < r.Delay {
			f.Delay = upTo(r.MaxDelay)
		}
		x := rng.Float64()
		hit := func(rate float64) bool {
			x -= rate
			return x < 0 && x >= -rate
		}
		if c.Kind == Watch || c.Kind == Batch {
			f.Compact = hit(r.Compact)
			f.Refuse = hit(r.Cut)
			return f
		}
		f.Refuse = hit(r.Refuse)
		f.Lose = hit(r.Lose)
		if hit(r.Late) {
			f.Late = upTo(r.MaxLate)
		}
		return f
	}
}
