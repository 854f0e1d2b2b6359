package limit

import "sync/atomic"

// Budget bounds how many calls are repeated although they may have run: each
// call earns a share of a repetition, each repetition costs one. It keeps a
// struggling fleet from being called ever more.
type Budget struct{ thousandths atomic.Int64 }

const (
	budgetMost  = 100_000 // a hundred repetitions may be saved up
	budgetFirst = 10_000  // ten are there at the beginning
)

// Begin saves up the first repetitions.
func (b *Budget) Begin() { b.thousandths.Store(budgetFirst) }

// Earn is called once a call.
func (b *Budget) Earn(share float64) {
	if share > 0 && b.thousandths.Load() < budgetMost {
		b.thousandths.Add(int64(share * 1000))
	}
}

// Spend takes one repetition if there is one.
func (b *Budget) Spend() bool {
	for {
		t := b.thousandths.Load()
		if t < 1000 {
			return false
		}
		if b.thousandths.CompareAndSwap(t, t-1000) {
			return true
		}
	}
}
