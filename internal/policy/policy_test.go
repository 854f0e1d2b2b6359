package policy_test

import (
	"encoding/json"
	"errors"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rota-project/rota"

// layers are where packages stand, from the ground up. A package stands where the
// longest path stands that is its own or one above it. It may import what stands below
// it, and rooms of its own house: what shares its first folder.
var layers = [][]string{
	{""},
	{"internal", "api/rota/v1", "api/jsonpb"},
	{"auth", "placement", "ownership", "balance", "job", "console"},
	{"store", "gateway", "orchestrator", "engine"},
	{"api"},
	{"program"},
	{"worker"},
	{"compat"},
	{"scheduler"},
	{"peer"},
	{"cmd", "examples", "test"},
}

// layer answers where a package stands, and false if nothing says so.
func layer(name string) (at int, ok bool) {
	longest := -1
	for n, all := range layers {
		for _, path := range all {
			if (name == path || path != "" && strings.HasPrefix(name, path+"/")) && len(path) > longest {
				at, longest = n, len(path)
			}
		}
	}
	return at, longest >= 0
}

// placed is where a package stands in the house: internal/HOUSE and internal/HOUSE/ROOM
// are rooms of HOUSE, which other houses may enter and programs outside may not.
func placed(name string) string {
	if room, ok := strings.CutPrefix(name, "internal/"); ok {
		house, _, _ := strings.Cut(room, "/")
		if _, is := layer(house); is {
			return room
		}
	}
	return name
}

// doors are all packages that a program outside can import.
var doors = []string{
	"", "api/rota/v1", "auth", "auth/pki", "balance",
	"compat/mesosgot", "compat/olscheduler", "console", "engine",
	"gateway", "orchestrator", "ownership", "peer", "placement",
	"program", "scheduler", "scheduler/server", "scheduler/source",
	"store", "store/etcd", "store/memory", "worker",
}

// TestDoors: nothing is public by accident.
func TestDoors(t *testing.T) {
	t.Parallel()
	var public []string
	for _, p := range packages(t) {
		name, _ := ours(p.ImportPath)
		if p.Name == "main" || len(p.GoFiles) == 0 || strings.HasPrefix(name, "test/") || slices.Contains(strings.Split(name, "/"), "internal") {
			continue
		}
		public = append(public, name)
	}
	slices.Sort(public)
	if !slices.Equal(public, doors) {
		t.Errorf("can be imported from outside: %q\nmay be: %q", public, doors)
	}
}

// TestDoorsHaveExamples: each with its output, so that it runs.
func TestDoorsHaveExamples(t *testing.T) {
	t.Parallel()
	for _, door := range doors {
		files, err := filepath.Glob(filepath.Join("../..", door, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		runs := false
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range doc.Examples(f) {
				runs = runs || e.Output != "" || e.EmptyOutput
			}
		}
		if !runs {
			t.Errorf("%q has no example that runs", door)
		}
	}
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

// TestImportsPointDown holds every package to its layer.
func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, p := range packages(t) {
		name, _ := ours(p.ImportPath)
		here := placed(name)
		mine, stands := layer(here)
		if !stands {
			t.Errorf("%s stands in no layer: give it one, or a house", name)
			continue
		}
		house, _, _ := strings.Cut(here, "/")
		for _, i := range p.Imports {
			other, ok := ours(i)
			if !ok {
				continue
			}
			checked++
			there := placed(other)
			theirs, _ := layer(there)
			its, _, _ := strings.Cut(there, "/")
			if theirs > mine || theirs == mine && its != house {
				t.Errorf("%s imports %s, which does not stand below it", name, other)
			}
		}
	}
	if checked < 200 {
		t.Errorf("%d imports checked: that cannot be all", checked)
	}
}

// TestSidesKeepApart: a worker carries nothing of a scheduler, and a scheduler nothing
// that runs work.
func TestSidesKeepApart(t *testing.T) {
	t.Parallel()
	all := map[string]pkg{}
	for _, p := range packages(t) {
		name, _ := ours(p.ImportPath)
		all[name] = p
	}
	var carries func(name string, seen map[string]bool)
	carries = func(name string, seen map[string]bool) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, i := range all[name].Imports {
			if other, ok := ours(i); ok {
				carries(other, seen)
			}
		}
	}
	schedulers := []string{"store", "scheduler", "scheduler/internal/view", "scheduler/internal/sessions", "scheduler/internal/kind", "scheduler/internal/jobs", "gateway"}
	workers := []string{"worker", "internal/worker/exec", "internal/worker/agent", "internal/worker/line", "internal/worker/supervise"}
	for side, others := range map[string][]string{
		"worker": schedulers, "internal/worker/exec": schedulers, "internal/worker/agent": schedulers, "internal/worker/supervise": schedulers,
		"scheduler": workers, "scheduler/server": workers,
	} {
		seen := map[string]bool{}
		carries(side, seen)
		if len(seen) < 5 {
			t.Errorf("%s carries %d packages: that cannot be all", side, len(seen))
		}
		for _, other := range others {
			if seen[other] {
				t.Errorf("%s carries %s", side, other)
			}
		}
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

// traced are the packages that may make spans: houses that take a provider of them through
// their Config. Only the binary sets an SDK up, and nobody uses the global provider.
var traced = []string{"gateway", "gateway/internal/outcome", "internal/tracing", "internal/worker/agent", "scheduler", "scheduler/internal/jobs", "scheduler/internal/kind", "scheduler/server", "worker"}

// TestSpansAreMadeByFew: cores and tools know nothing of tracing.
func TestSpansAreMadeByFew(t *testing.T) {
	t.Parallel()
	const api, sets = "go.opentelemetry.io/otel", "cmd/rota/internal/otlp"
	for _, p := range packages(t) {
		name, _ := ours(p.ImportPath)
		if name == sets || name == "internal/tracing/otlptest" {
			continue
		}
		for _, i := range p.Imports {
			switch {
			case !strings.HasPrefix(i, "go.opentelemetry.io/"):
			case i == api, strings.HasPrefix(i, api+"/sdk"), strings.HasPrefix(i, api+"/exporters"), !strings.HasPrefix(i, api):
				t.Errorf("%s imports %s, which only %s may", name, i, sets)
			case !slices.Contains(traced, name):
				t.Errorf("%s imports %s, and is none of those that make spans: %q", name, i, traced)
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
