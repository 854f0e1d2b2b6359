package placement

import (
	"math"
	"math/bits"
)

// amount is a non-negative sum in billionths, 128 bits wide. Sums of floats
// depend on the order of their additions, and then the same cluster reached by
// two ways would give two plans; sums of amounts do not. Three times 0.1 is 0.3.
type amount struct{ hi, lo uint64 }

// maxAmount is the largest value that is told from greater ones.
const maxAmount = 1e18

// toAmount rounds v, which is finite and not negative, to billionths.
func toAmount(v float64) amount {
	x := min(v, maxAmount) * 1e9
	if x < 1<<63 {
		return amount{0, uint64(x + 0.5)}
	}
	hi := math.Floor(x / (1 << 64))
	return amount{uint64(hi), uint64(x - hi*(1<<64))}
}

func (a amount) plus(b amount) amount {
	lo, c := bits.Add64(a.lo, b.lo, 0)
	hi, _ := bits.Add64(a.hi, b.hi, c)
	return amount{hi, lo}
}

func (a amount) minus(b amount) amount {
	lo, c := bits.Sub64(a.lo, b.lo, 0)
	hi, _ := bits.Sub64(a.hi, b.hi, c)
	return amount{hi, lo}
}

func (a amount) less(b amount) bool {
	return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo
}

func (a amount) float() float64 {
	if a.hi == 0 {
		return float64(a.lo) / 1e9
	}
	return (float64(a.hi)*(1<<64) + float64(a.lo)) / 1e9
}
