package sim_test

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/balance/internal/sim"
)

var (
	update = flag.Bool("update", false, "run everything and rewrite the table and the picture in docs")
	seeds  = flag.Int("seeds", 20, "how many seeds -update runs")
)

// Rules were tuned on the seeds from 1 on; those from otherSeeds on only check.
const otherSeeds = 101

// small is the usual scenario, short enough for every test run.
func small() sim.Scenario {
	sc := sim.Scenarios()[0]
	sc.Calls = 30_000
	return sc
}

func TestOneSeedOneResult(t *testing.T) {
	t.Parallel()
	sc := small()
	sc.Calls = 5000
	a, err := sim.Compare(sc, sim.Pickers(), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	b, err := sim.Compare(sc, sim.Pickers(), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Error("two runs of the same seeds differ")
	}
	if a[0].Runs[0] == a[0].Runs[1] {
		t.Error("two seeds do not differ")
	}
}

// The world is right where the result is known.
func TestKnownWorlds(t *testing.T) {
	t.Parallel()
	fleet := sim.Fleet{Workers: 1, Cores: 1, MemoryMB: 1000, CacheMB: 1000, KeepAlive: 1e9, Sandbox: 50, SandboxMB: 10}
	fn := sim.Function{Name: "f", Share: 1, Exec: 10}
	// One core that is a tenth busy: hardly any waiting, one cold start for ever.
	r := sim.Run(fleet, sim.Workload{Functions: []sim.Function{fn}, Calls: 20_000, Load: 0.1}, &sim.Rule{Rule: balance.Random{}}, 1)
	if r.Cold != 0 || r.Mean < 9.5 || r.Mean > 11.5 {
		t.Errorf("an idle core: %+v", r)
	}
	// M/G/1: the mean wait at load ρ is ρ·E[S²]/(2·E[S]·(1−ρ)); here E[S²] = E[S]²·e^0.25.
	r = sim.Run(fleet, sim.Workload{Functions: []sim.Function{fn}, Calls: 400_000, Load: 0.5}, &sim.Rule{Rule: balance.Random{}}, 1)
	if want := 10 + 0.5*10*1.284/(2*0.5); r.Mean < want*0.95 || r.Mean > want*1.05 {
		t.Errorf("a half busy core: mean %.2f, theory %.2f", r.Mean, want)
	}
	// No instance outlives its call: every call is cold.
	fleet.KeepAlive = -1
	r = sim.Run(fleet, sim.Workload{Functions: []sim.Function{fn}, Calls: 1000, Load: 0.05}, &sim.Rule{Rule: balance.Random{}}, 1)
	if r.Cold < 0.99 || r.Cold > 1.01 {
		t.Errorf("without keep-alive %.2f of the calls are cold", r.Cold)
	}
}

func TestTheDataIsThere(t *testing.T) {
	t.Parallel()
	fns, err := sim.RealFunctions(1)
	if err != nil {
		t.Fatal(err)
	}
	sum, pkgs := 0.0, 0
	for _, f := range fns {
		sum += f.Share
		pkgs += len(f.Packages)
		for i := 1; i < len(f.Packages); i++ {
			if f.Packages[i].DiskMB > f.Packages[0].DiskMB {
				t.Fatalf("%s: the largest package is not the first", f.Name)
			}
		}
	}
	if len(fns) != 424 || sum < 0.999 || sum > 1.001 || fns[0].Share < 0.27 || pkgs < 424 {
		t.Errorf("%d functions, shares sum to %.3f, the first %.3f, %d packages", len(fns), sum, fns[0].Share, pkgs)
	}
}

// smart is ahead of the others where docs/policies.md says so.
func TestSmartIsAhead(t *testing.T) {
	t.Parallel()
	rows, err := sim.Compare(small(), sim.Pickers(), 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	smart := rows[0]
	if smart.Picker != "smart" {
		t.Fatalf("the first picker is %s", smart.Picker)
	}
	for _, r := range rows[1:] {
		if r.P80.Mean < smart.P80.Mean {
			t.Errorf("%s has a p80 of %.1f ms, smart %.1f", r.Picker, r.P80.Mean, smart.P80.Mean)
		}
		if r.P99.Mean < smart.P99.Mean {
			t.Errorf("%s has a p99 of %.0f ms, smart %.0f", r.Picker, r.P99.Mean, smart.P99.Mean)
		}
		if r.Cold.Mean < smart.Cold.Mean {
			t.Errorf("%s has %.2f%% cold starts, smart %.2f%%", r.Picker, 100*r.Cold.Mean, 100*smart.Cold.Mean)
		}
		affine := []string{"pkg-aware", "hashing-bounded", "PASch (twin)", "Hiku (twin)", "CH bounded (twin)"}
		if slices.Contains(affine, r.Picker) && r.Uneven.Mean < smart.Uneven.Mean {
			t.Errorf("%s has an unevenness of %.3f, smart %.3f", r.Picker, r.Uneven.Mean, smart.Uneven.Mean)
		}
	}
}

// TestReport rewrites the table and the picture with -update, and otherwise
// holds both to having all scenarios and rules.
func TestReport(t *testing.T) {
	const doc, picture = "../../../docs/policies.md", "../../../docs/policies.svg"
	const begin, end = "<!-- made by go test ./balance/internal/sim -run Report -update -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", doc)
	}
	if *update {
		scs := sim.Scenarios()
		rows, others := map[string][]sim.Row{}, map[string][]sim.Row{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		run := func(into map[string][]sim.Row, sc sim.Scenario, pickers []sim.Picker, first uint64, seeds int) {
			wg.Go(func() {
				r, err := sim.Compare(sc, pickers, first, seeds)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				into[sc.Name] = r
			})
		}
		for _, sc := range scs {
			run(rows, sc, sim.Pickers(), 1, *seeds)
			run(others, sc, sim.Contenders(), otherSeeds, 2**seeds)
		}
		wg.Wait()
		table := "\n" + sim.Report(scs, rows, *seeds) + "### Other seeds\n\n" +
			"`smart` was not tuned on these seeds. The first row has its mean p80, p99, cold starts and unevenness; the others say on how many of the\n" +
			strconv.Itoa(2**seeds) + " seeds it is ahead in each.\n\n" + sim.Check(scs, others, otherSeeds, 2**seeds)
		if err := os.WriteFile(doc, []byte(before+begin+table+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(picture, []byte(sim.Picture(scs, rows)), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, p := range sim.Pickers() {
		want := len(sim.Scenarios())
		if slices.ContainsFunc(sim.Contenders(), func(c sim.Picker) bool { return c.Name() == p.Name() }) {
			want++ // the other seeds
		}
		if n := strings.Count(rest, "| "+p.Name()+" |"); n != want {
			t.Errorf("%s has %d rows of %s, want %d: run with -update", doc, n, p.Name(), want)
		}
	}
	if _, err := os.Stat(picture); err != nil {
		t.Error(err)
	}
}
