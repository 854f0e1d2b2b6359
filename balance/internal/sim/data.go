package sim

import (
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
)

//go:embed testdata/*.json
var files embed.FS

// costs are the packages' costs, by name==version.
var costs = map[string]Package{}

// sets are the package sets that real requirements resolve to, and how often.
var sets []packageSet

type packageSet struct {
	names []string
	count int
}

var shares []float64

func read(name string, v any) error {
	b, err := files.ReadFile("testdata/" + name)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// load reads the data once; it is compiled in.
var load = sync.OnceValue(readAll)

func readAll() error {
	var raw map[string]map[string]struct {
		Install float64 `json:"install_time"`
		Disk    float64 `json:"disk_size"`
		IMS     float64 `json:"i-ms"`
		MS      float64 `json:"ms"`
		MB      float64 `json:"mb"`
	}
	if err := read("python_package_costs.json", &raw); err != nil {
		return err
	}
	for name, versions := range raw {
		for v, c := range versions {
			key := name + "==" + v
			// "ms" and "mb" are the package's own; "i-ms" counts its dependencies too.
			costs[key] = Package{Name: key, Install: c.Install, Import: max(c.MS, 0), MB: max(c.MB, 0), DiskMB: c.Disk / (1 << 20)}
		}
	}
	var deps map[string]map[string]map[string]int
	if err := read("python_package_deps.json", &deps); err != nil {
		return err
	}
	byKey := map[string]int{}
	for _, versions := range deps {
		for _, resolved := range versions {
			for key, n := range resolved {
				byKey[key] += n
			}
		}
	}
	keys := make([]string, 0, len(byKey))
	for k := range byKey {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		sets = append(sets, packageSet{strings.Split(k, ","), byKey[k]})
	}
	var probs map[string]struct{ Probability float64 }
	if err := read("azure_function_probabilities.json", &probs); err != nil {
		return err
	}
	for _, p := range probs {
		shares = append(shares, p.Probability)
	}
	sort.Sort(sort.Reverse(sort.Float64Slice(shares)))
	return nil
}

// RealFunctions returns the 424 functions of the Azure trace with their shares.
// Each is given a package set, drawn as often as real requirements have it, and
// a mean time, log-normal around 60 ms; both by the seed.
func RealFunctions(seed uint64) ([]Function, error) {
	if err := load(); err != nil {
		return nil, fmt.Errorf("the simulator's data: %w", err)
	}
	rnd := rand.New(rand.NewPCG(seed, 0xf00d))
	total := 0
	for _, s := range sets {
		total += s.count
	}
	fns := make([]Function, len(shares))
	for i, share := range shares {
		n := rnd.IntN(total)
		set := sets[0]
		for _, s := range sets {
			if n -= s.count; n < 0 {
				set = s
				break
			}
		}
		f := Function{Name: fmt.Sprintf("f%03d", i), Share: share, Exec: 60 * math.Exp(rnd.NormFloat64()*0.8)}
		for _, name := range set.names {
			if c, ok := costs[name]; ok {
				f.Packages = append(f.Packages, c)
			}
		}
		// The largest first, as a registry lists them.
		sort.SliceStable(f.Packages, func(a, b int) bool { return f.Packages[a].DiskMB > f.Packages[b].DiskMB })
		fns[i] = f
	}
	return fns, nil
}
