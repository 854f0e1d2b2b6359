package suite_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/test/compat/internal/suite"
)

// library is go-orchestrator, whose shim is quick to build. The checkouts of these tests
// are stand-ins of our own.
var library = suite.Library{
	Base: "go-orchestrator", Package: "orchestrator", Shim: "test/compat/go-orchestrator/shim",
	Limit: time.Minute, Endless: time.Second,
}

// checkout writes a stand-in of a checkout.
func checkout(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// picture is all that there is in a folder.
func picture(t *testing.T, dir string) string {
	t.Helper()
	b := &strings.Builder{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "%s %s %s", path, i.Mode(), i.ModTime())
		if d.Type().IsRegular() {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(b, " %x", sha256.Sum256(raw))
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// try runs the suite of a stand-in, and wants nothing written into it.
func try(t *testing.T, l suite.Library, dir, known string) (status int, stdout, stderr string) {
	t.Helper()
	before := picture(t, dir)
	var out, errs bytes.Buffer
	status = suite.Run(t.Context(), "go-orchestrator", dir, known, l.Try, &out, &errs)
	if after := picture(t, dir); after != before {
		t.Errorf("the checkout is\n%s\nand was\n%s", after, before)
	}
	return status, out.String(), errs.String()
}

func wants(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(text) {
			t.Errorf("want %s in\n%s", p, text)
		}
	}
}

const (
	module  = "module example.com/old/go-orchestrator\n\ngo 1.15\n"
	sources = "package orchestrator\n\n// All of this is left out: it would not compile.\nfunc broken() int {}\n"
	head    = `package orchestrator_test

import (
	"context"
	"testing"
	"time"

	orchestrator "example.com/old/go-orchestrator"
)

type none struct{}

func (none) List(context.Context, interface{}) ([]interface{}, error)    { return nil, nil }
func (none) Add(context.Context, interface{}, interface{}) error    { return nil }
func (none) Remove(context.Context, interface{}, interface{}) error { return nil }

var _ orchestrator.Communicator = none{}
var _ = time.Second
`
	good = head + `
func TestGood(t *testing.T) {
	o := orchestrator.New(none{})
	o.AddWorker("w")
	o.AddTask(1)
	t.Run("a term", func(t *testing.T) {
		if err := o.NextTerm(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("expects", func(t *testing.T) {
		if got := o.ListExpectedTasks(); len(got) != 1 || got[0] != (orchestrator.Task{Name: 1, Instances: 1}) {
			t.Fatal(got)
		}
	})
}
`
)

// TestOutcomes has a suite with everything that there can be in one.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	dir := checkout(t, map[string]string{
		"go.mod": module, "orchestrator.go": sources, "good_test.go": good,
		"bad_test.go": `package orchestrator_test

import (
	"os"
	"testing"
)

func TestBad(t *testing.T) {
	t.Run("inner", func(t *testing.T) { t.Errorf("want more, got less") })
	t.Run("fine", func(t *testing.T) {})
}

func TestListed(t *testing.T) { t.Error("as is known") }

func TestMended(t *testing.T) {}

func TestPanics(t *testing.T) { panic("not this") }

func TestExits(t *testing.T) { os.Exit(3) }

func TestHangs(t *testing.T) {
	t.Run("for ever", func(t *testing.T) { select {} })
}

func TestSkips(t *testing.T) { t.Skip("no moon") }

func TestNotRun(t *testing.T) { t.Error("it was run") }
`,
		"other_test.go": "package orchestrator_test\n\nimport \"testing\"\n\nfunc TestOther(t *testing.T) { helper(t); missing() }\n\nfunc helper(t *testing.T) {}\n",
		"needs_test.go": "package orchestrator_test\n\nimport \"testing\"\n\nfunc TestNeeds(t *testing.T) { helper(t) }\n",
	})
	l := library
	l.Limit = 10 * time.Second
	status, out, errs := try(t, l, dir, `
# all of these are known
fails TestListed another rule
fails TestMended it was once
endless TestGone nobody knows
=unrun TestNotRun says nothing of the library
unbuilt needs_test.go goes with the other
`)
	if status != 1 || errs != "" {
		t.Errorf("status %d, %s", status, errs)
	}
	wants(t, out,
		`^ok +TestGood/a_term$`, `^ok +TestGood/expects$`, `^ok +TestBad/fine$`,
		`^FAIL +TestBad/inner +fails: bad_test.go:9: want more, got less$`,
		`^differs +TestListed +fails: another rule$`,
		`^FAIL +TestMended +is written down as fails, and is so no more: passes$`,
		`^FAIL +TestPanics +fails: panic: not this`, `^FAIL +TestExits +fails: its process said nothing: exit status 3$`,
		`^FAIL +TestHangs/for_ever +endless: `, `^FAIL +TestSkips +skipped: bad_test.go:\d+: no moon$`,
		`^ok +TestNotRun +unrun, as there: says nothing of the library$`,
		`^FAIL +other_test.go +unbuilt: undefined: missing$`,
		`^differs +needs_test.go +unbuilt: goes with the other$`,
		`^FAIL +TestGone +is written down as endless, and is not in this checkout$`,
	)
	if n := strings.Count(out, "\n"); n != 14 {
		t.Errorf("%d lines, want 14:\n%s", n, out)
	}
}

// TestAsWrittenDown: the status is 0 if what differs is what is known, also of a suite
// that does not end.
func TestAsWrittenDown(t *testing.T) {
	t.Parallel()
	dir := checkout(t, map[string]string{
		"go.mod": module, "orchestrator.go": sources, "testdata/x": "text",
		"good_test.go": good + "\nfunc TestHangs(t *testing.T) { select {} }\n",
	})
	status, out, errs := try(t, library, dir, "=endless TestHangs has no end")
	if status != 0 || errs != "" {
		t.Errorf("status %d, %s", status, errs)
	}
	wants(t, out, `^ok +TestHangs +endless, as there: has no end$`)
}

// TestBusy: a test that is too hasty for a busy machine is tried again.
func TestBusy(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	dir := checkout(t, map[string]string{
		"go.mod": module, "orchestrator.go": sources,
		"busy_test.go": fmt.Sprintf(`package orchestrator

import (
	"os"
	"testing"
)

func TestBusy(t *testing.T) {
	if _, err := os.Stat(%q); err != nil {
		_ = os.WriteFile(%[1]q, nil, 0o600)
		t.Fatal("not in time")
	}
}
`, mark),
	})
	if status, out, errs := try(t, library, dir, ""); status != 0 {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

// TestUnusable: a folder that is no checkout, or none that can be tried, is status 2
// with the reason.
func TestUnusable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"empty":         {nil, `it has no go.mod`},
		"another":       {map[string]string{"go.mod": "module example.com/x\n", "x.go": "package orchestrator\n", "x_test.go": "package x\n"}, `its module is "example.com/x"`},
		"a bad file":    {map[string]string{"go.mod": "modul x\n"}, `go mod: `},
		"no package":    {map[string]string{"go.mod": module, "x.go": "package x\n", "x_test.go": "package x\n"}, `has no package orchestrator`},
		"without tests": {map[string]string{"go.mod": module, "x.go": "package orchestrator\n"}, `it has no tests`},
	} {
		status, out, errs := try(t, library, checkout(t, c.files), "")
		if status != 2 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: status %d, %q, want %q", name, status, errs, c.want)
		}
	}
	for name, want := range map[string]string{"": "ROTA_COMPAT_GO_ORCHESTRATOR: want the folder", "/nowhere/at/all": "not a folder"} {
		var out, errs bytes.Buffer
		if status := suite.Run(t.Context(), "go-orchestrator", name, "", library.Try, &out, &errs); status != 2 || !strings.Contains(errs.String(), want) {
			t.Errorf("%q: status %d, %s", name, status, &errs)
		}
	}
}

// TestNothingTried: a suite of which nothing compiles is no success.
func TestNothingTried(t *testing.T) {
	t.Parallel()
	dir := checkout(t, map[string]string{
		"go.mod": module, "orchestrator.go": sources, "x_test.go": "package orchestrator\n\nvar x int = \"\"\n",
	})
	status, out, errs := try(t, library, dir, "unbuilt x_test.go is of another time")
	if status != 1 || !strings.Contains(errs, "nothing was tried") || !strings.HasPrefix(out, "differs") {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

// TestListOfDifferences: what is wrong with a list is told with its line.
func TestListOfDifferences(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"fails TestX":                     "line 1 of the list of differences: want OUTCOME NAME REASON",
		"\nfine TestX why":                `line 2 of the list of differences: "fine": want fails`,
		"fails A b\n# c\nfails A b c d e": "line 3 of the list of differences: A is in it twice",
	} {
		if _, err := suite.ParseKnown(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
