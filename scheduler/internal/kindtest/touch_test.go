package kindtest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	root = "../../.."
	here = "scheduler/internal/kindtest"
)

// sources gives f every file that somebody writes, by its name from the root.
func sources(t *testing.T, f func(name string, text []byte)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if path != root && strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		case !slices.Contains([]string{".go", ".proto", ".yaml", ".ts", ".tsx", ".md"}, filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		seen++
		f(filepath.ToSlash(name), text)
		return err
	})
	if err != nil || seen < 500 {
		t.Fatalf("%d files: %v", seen, err)
	}
}

// TestTouchesNothing counts the files outside this folder that probes had to touch.
func TestTouchesNothing(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile(`kindtest|rota\.test\.Probe|probeworkers/|"probes/"`)
	own := 0
	var touched []string
	sources(t, func(name string, text []byte) {
		switch {
		case !named.Match(text):
		case strings.HasPrefix(name, here+"/"):
			own++
		case name != "ARCHITECTURE.md" && name != "CHANGELOG.md": // which name the example
			touched = append(touched, name)
		}
	})
	if own < 3 || len(touched) > 0 {
		t.Errorf("%d files here name probes, and %d elsewhere: %q", own, len(touched), touched)
	}
}

// touches is what a kind of work of the product has outside its own rooms: where, and how
// that of jobs is known there. It is said in ARCHITECTURE.md, too.
var touches = map[string]*regexp.Regexp{
	"api/rota/v1/rota.yaml":           regexp.MustCompile(`rota\.v1\.Jobs\.`),
	"internal/api/rest/handler.go":    regexp.MustCompile(`RegisterJobsHandlerClient`),
	"store/keys.go":                   regexp.MustCompile(`JobsPrefix`),
	"scheduler/server/server.go":      regexp.MustCompile(`attachJobs`),
	"scheduler/server/policy.go":      regexp.MustCompile(`jobs\.Policy`),
	"scheduler/internal/events":       regexp.MustCompile(`JobQueued`),
	"scheduler/internal/pools":        regexp.MustCompile(`job\.Spec`),
	"auth/kinds.go":                   regexp.MustCompile(`JobKind`),
	"cmd/rota/internal/role":          regexp.MustCompile(`agent\.New`),
	"cmd/rota/internal/cli":           regexp.MustCompile(`NewJobsClient`),
	"console/web/src/screens":         regexp.MustCompile(`Job`),
	"scheduler/server/matrix_test.go": regexp.MustCompile(`Jobs_RunJob`),
	"scheduler/server/audit_test.go":  regexp.MustCompile(`Jobs_RunJob`),
	"scheduler/server/away_test.go":   regexp.MustCompile(`Jobs_`),
	"scheduler/internal/storepb":      regexp.MustCompile(`message JobSpec`),
	"api/rota/v1":                     regexp.MustCompile(`service Jobs`),
}

// TestWhatJobsTouch: what is said of a kind of work of the product is so, and nothing else
// attaches jobs by name.
func TestWhatJobsTouch(t *testing.T) {
	t.Parallel()
	wired := regexp.MustCompile(`"[^"]*/(scheduler/internal/jobs|internal/worker/agent)"`)
	found := map[string]bool{}
	var said []byte
	sources(t, func(name string, text []byte) {
		if name == "ARCHITECTURE.md" {
			said = text
		}
		listed := false
		for place, jobs := range touches {
			if name == place || strings.HasPrefix(name, place+"/") {
				listed = true
				found[place] = found[place] || jobs.Match(text)
			}
		}
		if !listed && wired.Match(text) && filepath.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(name, "bench/") && !strings.HasPrefix(name, "test/") {
			t.Errorf("%s attaches jobs by name: is that part of the plug, or does every kind of work have to?", name)
		}
	})
	for place := range touches {
		if !found[place] {
			t.Errorf("jobs are not in %s", place)
		}
		if !bytes.Contains(said, []byte("`"+place+"`")) {
			t.Errorf("ARCHITECTURE.md does not name `%s` where it says what a kind of work touches", place)
		}
	}
}
