package placement

import (
	"math"

	"github.com/rota-project/rota"
)

// Options say how much may move for balance's sake. The zero value moves what
// it takes to be even and has no brake.
type Options struct {
	// MaxMoves is the most moves that balance may choose in one pass. What a
	// loss or a rule demands is not counted. Zero means no limit; too small a
	// limit leaves a new worker nearly empty for many passes.
	MaxMoves int
	// MaxMovesPerWorker bounds the chosen moves to and from any one worker in
	// one pass. Zero means no limit.
	MaxMovesPerWorker int
	// Hysteresis is the least gain for which balance moves something: the part
	// of the mean by which the fuller of the two workers gets emptier. Zero
	// means any gain; 0.05 leaves differences below 5% of the mean alone.
	Hysteresis float64
	// BalanceGroups makes moves only to even out the tasks of a group over the
	// workers. Otherwise groups decide which worker and which task a move
	// takes, but are never the cause of one.
	BalanceGroups bool
	// GroupBudget is how many running instances of one group may be taken from
	// their worker in one pass, other than by a loss.
	GroupBudget Budget
	// ZoneBudget is the same for the instances that run in one zone.
	ZoneBudget Budget
	// MinWorkers is the brake against mass failure: with fewer workers ready,
	// nothing moves and nothing is placed. Zero means no brake.
	MinWorkers int
	// Freeze keeps everything that is somewhere where it is. What is nowhere
	// is still placed.
	Freeze bool
	// LoadBlend is the part of measured load in what an instance counts for;
	// the rest is its declared weight. Zero means one half; the greatest is 1.
	LoadBlend float64
	// LoadBand is the part of the mean by which workers may differ from it
	// before measured load moves anything. Zero means 0.1.
	LoadBand float64
}

// Budget is a number or a part of a whole, whichever is greater; a part is
// rounded up. The zero Budget is no limit.
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
