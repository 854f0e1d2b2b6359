package policy_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/rota-project/rota"

// rank is where a package stands: it may import those of a lower rank only. The
// longest path that fits counts, and packages that nothing here names are free.
var rank = map[string]int{
	"":                  0,
	"ownership":         1,
	"placement":         1,
	"process":           1,
	"process/words":     2,
	"store":             1,
	"store/storepb":     1,
	"store/memory":      2,
	"store/etcd":        2,
	"store/faulty":      2,
	"store/table":       2,
	"store/record":      3,
	"view":              4,
	"sessions":          5,
	"service":           5,
	"worker":            5,
	"worker/exec":       6,
	"scheduler":         6,
	"server":            7,
	"internal/role":     8,
	"internal/cli":      9,
	"cmd/rota":          10,
	"scheduler/simtest": 10,
}

type pkg struct {
	ImportPath, Doc, Name string
	Imports               []string
	GoFiles               []string
}

func packages(t *testing.T) (list []pkg) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Name,Imports,GoFiles", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 30 {
		t.Fatalf("%d packages: that cannot be all", len(list))
	}
	return list
}

func ours(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, module)
	return strings.TrimPrefix(rest, "/"), ok
}

// TestImportsPointDown holds the packages to their ranks.
func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, p := range packages(t) {
		name, _ := ours(p.ImportPath)
		mine, ranked := rank[name]
		if !ranked {
			continue
		}
		for _, i := range p.Imports {
			other, ok := ours(i)
			if !ok {
				continue
			}
			if theirs, ranked := rank[other]; ranked {
				checked++
				if theirs >= mine {
					t.Errorf("%s imports %s, which does not stand below it", name, other)
				}
			}
		}
	}
	if checked < 30 {
		t.Errorf("%d imports checked: that cannot be all", checked)
	}
}

// TestCoresStandAlone: whoever imports a core gets nothing else along.
func TestCoresStandAlone(t *testing.T) {
	t.Parallel()
	alone := map[string]bool{"": true, "ownership": true, "placement": true, "orchestrator": true}
	for _, p := range packages(t) {
		name, _ := ours(p.ImportPath)
		if !alone[name] {
			continue
		}
		for _, i := range p.Imports {
			first, _, _ := strings.Cut(i, "/")
			if other, ok := ours(i); ok && !alone[other] || !ok && strings.Contains(first, ".") {
				t.Errorf("%s imports %s", name, i)
			}
		}
	}
}

// TestEveryPackageSaysWhatItIsFor: generated code apart.
func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 || strings.HasSuffix(p.ImportPath, "pb") || strings.HasSuffix(p.ImportPath, "/v1") ||
			strings.Contains(p.ImportPath, "/testdata/") {
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no doc comment", p.ImportPath)
		}
	}
}

// TestNothingIsReplaced: what is built is what others get who import it.
func TestNothingIsReplaced(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		if strings.HasPrefix(strings.TrimSpace(line), "replace") {
			t.Errorf("go.mod: %s", line)
		}
	}
}
