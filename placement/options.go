package placement

import (
	"math"

	"github.com/rota-project/rota"
)

// Options limit the moves that balance may make. The zero value moves as much as an even
// load needs, and has no brake.
type Options struct {
	// MaxMoves is the maximum number of moves that balance may choose in one pass. Moves
	// that a loss or a rule forces are not counted. Zero means no limit; too small a limit
	// leaves a new worker nearly empty for many passes.
	MaxMoves int
	// MaxMovesPerWorker bounds the chosen moves to and from any one worker in
	// one pass. Zero means no limit.
	MaxMovesPerWorker int
	// Hysteresis is the minimum gain of a balancing move, as a fraction of the mean load:
	// by so much the load of the fuller worker drops. Zero means any gain; 0.05 ignores
	// differences below 5% of the mean.
	Hysteresis float64
	// BalanceGroups allows moves whose only purpose is to spread a group evenly over the
	// workers. Otherwise groups influence which worker and which task a move takes, but
	// never cause a move.
	BalanceGroups bool
	// GroupBudget is the maximum number of a group's running instances that one pass may
	// take from their workers, not counting losses.
	GroupBudget Budget
	// ZoneBudget is the same for the instances that run in one zone.
	ZoneBudget Budget
	// MinWorkers is the brake in a mass failure: with fewer ready workers, nothing is moved
	// or placed. Zero means no brake.
	MinWorkers int
	// Freeze keeps every placed instance on its worker. Instances without a worker are
	// still placed.
	Freeze bool
	// LoadBlend is the share of measured load in the weight of an instance; the rest is its
	// declared weight. Zero means one half; the maximum is 1.
	LoadBlend float64
	// LoadBand is the deviation from the mean load, as a fraction, below which measured
	// load causes no moves. Zero means 0.1.
	LoadBand float64
}

// Budget is a number or a fraction of the whole, whichever is greater; a fraction is
// rounded up. The zero Budget means no limit.
type Budget struct {
	Count    int
	Fraction float64 // 0 to 1
}

func (b Budget) limit(whole int) int {
	if b == (Budget{}) {
		return math.MaxInt
	}
	return max(b.Count, int(math.Ceil(b.Fraction*float64(whole)-1e-9)))
}

func (o Options) validate() error {
	for _, f := range []struct {
		name string
		n    int
	}{
		{"max_moves", o.MaxMoves},
		{"max_moves_per_worker", o.MaxMovesPerWorker},
		{"min_workers", o.MinWorkers},
		{"group_budget.count", o.GroupBudget.Count},
		{"zone_budget.count", o.ZoneBudget.Count},
	} {
		if f.n < 0 {
			return &rota.FieldError{Field: f.name, Value: f.n, Want: "zero or more"}
		}
	}
	for _, f := range []struct {
		name string
		v    float64
	}{
		{"hysteresis", o.Hysteresis},
		{"load_blend", o.LoadBlend},
		{"load_band", o.LoadBand},
		{"group_budget.fraction", o.GroupBudget.Fraction},
		{"zone_budget.fraction", o.ZoneBudget.Fraction},
	} {
		if !(f.v >= 0 && f.v <= 1) {
			return &rota.FieldError{Field: f.name, Value: f.v, Want: "0 to 1"}
		}
	}
	return nil
}
