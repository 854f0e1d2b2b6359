package sim

import (
	"math"
	"slices"

	"github.com/rota-project/rota/balance"
)

// Scenario is a fleet and how it is called.
type Scenario struct {
	Name     string
	Fleet    Fleet
	Load     float64
	Burst    float64
	Calls    int
	ByOption string // for people
}

// Scenarios are those of the table in docs/policies.md.
func Scenarios() []Scenario {
	base := Fleet{Workers: 16, Cores: 4, MemoryMB: 2048, CacheMB: 1024, KeepAlive: 60_000, Sandbox: 80, SandboxMB: 24}
	mixed := base
	mixed.Slow = 4
	small := base
	small.MemoryMB, small.CacheMB = 768, 384
	return []Scenario{
		{Name: "usual", Fleet: base, Load: 0.5, Burst: 1, Calls: 80_000, ByOption: "16 workers of 4 cores, half busy"},
		{Name: "bursts", Fleet: base, Load: 0.5, Burst: 3, Calls: 80_000, ByOption: "The same fleet; in alternate periods of ten seconds, three times as many calls"},
		{Name: "little memory", Fleet: small, Load: 0.4, Burst: 1, Calls: 80_000, ByOption: "A third of the memory and of the package cache"},
		{Name: "mixed fleet", Fleet: mixed, Load: 0.45, Burst: 1, Calls: 80_000, ByOption: "A quarter of the workers are half as fast"},
	}
}

// Pickers are those of the table: the rules, and the twins of published ones.
func Pickers() []Picker {
	ps := []Picker{}
	for _, n := range []string{"smart", "pull", "pkg-aware", "least-loaded", "p2c", "least-latency", "hashing-bounded", "round-robin", "random"} {
		threshold := uint(0)
		if n == "pkg-aware" {
			threshold = 4 // as many as a worker has cores
		}
		r, err := balance.RuleByName(n, threshold)
		if err != nil {
			continue // the names are this package's own, and tested
		}
		ps = append(ps, &Rule{Rule: r})
	}
	return append(ps, &pasch{Threshold: 4}, &hiku{}, &chbl{})
}

// Stat is a mean over seeds with the half width of its 95% confidence interval.
type Stat struct{ Mean, CI float64 }

// Row is one picker's results over all seeds of a scenario.
type Row struct {
	Picker                            string
	Mean, P50, P80, P99, Cold, Uneven Stat
	Runs                              []Result
}

// Contenders are smart and the rules that know of warmth, packages or names: those
// that come near it.
func Contenders() []Picker {
	return slices.DeleteFunc(Pickers(), func(p Picker) bool {
		return slices.Contains([]string{"least-loaded", "p2c", "least-latency", "round-robin", "random"}, p.Name())
	})
}

// Compare runs the scenario with every picker on the same seeds, from first on.
func Compare(sc Scenario, pickers []Picker, first uint64, seeds int) ([]Row, error) {
	rows := make([]Row, len(pickers))
	for seed := first; seed < first+uint64(seeds); seed++ {
		fns, err := RealFunctions(seed)
		if err != nil {
			return nil, err
		}
		for i, p := range pickers {
			r := Run(sc.Fleet, Workload{Functions: fns, Calls: sc.Calls, Load: sc.Load, Burst: sc.Burst}, p, seed)
			rows[i].Picker = p.Name()
			rows[i].Runs = append(rows[i].Runs, r)
		}
	}
	for i := range rows {
		r := &rows[i]
		r.Mean = stat(r.Runs, func(x Result) float64 { return x.Mean })
		r.P50 = stat(r.Runs, func(x Result) float64 { return x.P50 })
		r.P80 = stat(r.Runs, func(x Result) float64 { return x.P80 })
		r.P99 = stat(r.Runs, func(x Result) float64 { return x.P99 })
		r.Cold = stat(r.Runs, func(x Result) float64 { return x.Cold })
		r.Uneven = stat(r.Runs, func(x Result) float64 { return x.Uneven })
	}
	return rows, nil
}

// Ahead counts on how many of the same seeds r is better than o: in p80, p99, cold
// starts and evenness.
func (r *Row) Ahead(o *Row) (counts [4]int) {
	for i, a := range r.Runs {
		b := o.Runs[i]
		for k, less := range []bool{a.P80 < b.P80, a.P99 < b.P99, a.Cold < b.Cold, a.Uneven < b.Uneven} {
			if less {
				counts[k]++
			}
		}
	}
	return counts
}

func stat(runs []Result, of func(Result) float64) Stat {
	n := float64(len(runs))
	mean, sq := 0.0, 0.0
	for _, r := range runs {
		mean += of(r) / n
	}
	for _, r := range runs {
		sq += (of(r) - mean) * (of(r) - mean)
	}
	if n < 2 {
		return Stat{mean, math.Inf(1)}
	}
	// Student's t for 95% is 2.09 at 20 seeds and below that for more.
	return Stat{mean, 2.09 * math.Sqrt(sq/(n-1)/n)}
}
