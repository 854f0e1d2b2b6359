package gateway

import "sync/atomic"

// budget bounds how many calls are repeated although they may have run: each
// call earns a share of a repetition, each repetition costs one. It keeps a
// struggling fleet from being called ever more.
type budget struct{ thousandths atomic.Int64 }

const (
	budgetMost  = 100_000 // a hundred repetitions may be saved up
	budgetFirst = 10_000  // ten are there at the beginning
)

func (b *budget) init() { b.thousandths.Store(budgetFirst) }

// earn is called once a call.
func (b *budget) earn(share float64) {
	if share > 0 && b.thousandths.Load() < budgetMost {
		b.thousandths.Add(int64(share * 1000))
	}
}

// spend takes one repetition if there is one.
func (b *budget) spend() bool {
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
