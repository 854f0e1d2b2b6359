package suite

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Library is an old library whose suite is the tests beside its sources, in one package.
type Library struct {
	Base    string        // what the path of its module ends in
	Package string        // the package's name
	Shim    string        // folder of this repository that has its names
	Limit   time.Duration // of each test
	Endless time.Duration // of each test that is written down as endless
}

// tries is how often a test that fails, and should not, is tried: old suites wait for
// times that are short on a busy machine.
const tries = 3

// Try runs the suite of a checkout, each test in a process of its own.
func (l Library) Try(ctx context.Context, p Place) ([]Result, error) {
	m, err := l.module(ctx, p)
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(p.Dir, "suite.test")
	results, left, err := m.buildTests(ctx, binary)
	if err != nil || left == 0 {
		return results, err
	}
	r := runner{binary: binary, dir: m.Dir}
	names, err := r.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		limit := l.Limit
		switch k := find(p.Known, name); {
		case k != nil && k.Outcome == Unrun:
			results = append(results, Result{Name: name, Outcome: Unrun})
			continue
		case k != nil && k.Outcome == Endless:
			limit = l.Endless
		}
		var got []Result
		for range tries {
			if got, err = r.one(ctx, name, limit); err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(got, func(r Result) bool { return r.Outcome == Fails && find(p.Known, r.Name) == nil }) {
				break
			}
		}
		results = append(results, got...)
	}
	return results, nil
}

// module makes a module of the old path: the shim and the checkout's tests.
func (l Library) module(ctx context.Context, p Place) (*Module, error) {
	m, err := NewModule(ctx, p)
	if err != nil {
		return nil, err
	}
	if m.old == nil {
		return nil, Unusable("%s: no checkout of %s: it has no go.mod", p.Checkout, l.Base)
	}
	if path.Base(m.old.Module.Path) != l.Base {
		return nil, Unusable("%s: no checkout of %s: its module is %q", p.Checkout, l.Base, m.old.Module.Path)
	}
	sources, err := filepath.Glob(filepath.Join(p.Checkout, "*.go"))
	if err != nil {
		return nil, err
	}
	tests, is := 0, false
	for _, file := range sources {
		if strings.HasSuffix(file, "_test.go") {
			tests++
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly)
		is = is || err == nil && f.Name.Name == l.Package
	}
	switch {
	case !is:
		return nil, Unusable("%s: no checkout of %s: it has no package %s", p.Checkout, l.Base, l.Package)
	case tests == 0:
		return nil, Unusable("%s: it has no tests", p.Checkout)
	}
	for _, file := range sources {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(m.Dir, filepath.Base(file)), raw, 0o600) //nolint:gosec // a temporary folder
		}
		if err != nil {
			return nil, err
		}
	}
	data := filepath.Join(p.Checkout, "testdata")
	if _, err := os.Stat(data); err == nil {
		if err := copyFiles(filepath.Join(m.Dir, "testdata"), data, func(string) bool { return true }); err != nil {
			return nil, err
		}
	}
	return m, errors.Join(m.copyShim(m.Dir, l.Shim), m.Write(m.old.Module.Path))
}

// fault is a line of the go command about a file of the suite.
var fault = regexp.MustCompile(`(?m)^(?:\./)?([^\s:/]+_test\.go):\d+(?::\d+)?: (.*)$`)

// buildTests builds the suite. A file that does not compile is left out, with what the
// compiler says of it.
func (m *Module) buildTests(ctx context.Context, binary string) (unbuilt []Result, left int, err error) {
	for {
		tests, err := filepath.Glob(filepath.Join(m.Dir, "*_test.go"))
		if err != nil || len(tests) == 0 {
			return unbuilt, 0, err
		}
		_, err = goTool(ctx, m.Dir, "test", "-c", "-mod=mod", "-vet=off", "-gcflags=-e", "-o", binary, ".")
		var failed *toolError
		if !errors.As(err, &failed) {
			return unbuilt, len(tests), err
		}
		gone := map[string]bool{}
		for _, f := range fault.FindAllStringSubmatch(failed.said, -1) {
			if gone[f[1]] {
				continue
			}
			gone[f[1]] = true
			unbuilt = append(unbuilt, Result{f[1], Unbuilt, f[2]})
			if err := os.Remove(filepath.Join(m.Dir, f[1])); err != nil {
				return nil, 0, err
			}
		}
		if len(gone) == 0 {
			return nil, 0, err
		}
	}
}

// runner runs tests of a test binary.
type runner struct{ binary, dir string }

// grace is how much later than its own limit a test's process is killed.
const grace = 10 * time.Second

// list is the names of the tests and examples.
func (r runner) list(ctx context.Context) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, "-test.list=.") //nolint:gosec // built before
	cmd.Dir, cmd.WaitDelay = r.dir, 5*time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(errors.New("the suite does not list its tests"), ctx.Err(), err)
	}
	for name := range strings.Lines(string(out)) {
		if name = strings.TrimSpace(name); strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Example") {
			names = append(names, name)
		}
	}
	return names, nil
}

// one runs one test, and answers what came of it or of those that it has in it.
func (r runner) one(ctx context.Context, name string, limit time.Duration) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, limit+grace)
	defer cancel()
	test := exec.CommandContext(ctx, r.binary, "-test.v=test2json", "-test.run=^"+name+"$", "-test.timeout="+limit.String()) //nolint:gosec // built before
	test.Dir, test.WaitDelay = r.dir, 5*time.Second
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	test.Stdout, test.Stderr = to, to
	err = test.Start()
	_ = to.Close()
	if err != nil {
		_ = from.Close()
		return nil, err
	}
	// A test that lets go of what it started leaves the pipe open: it is read until
	// shortly after the test's end.
	all, done := context.WithCancel(context.WithoutCancel(ctx))
	defer done()
	jsons := exec.CommandContext(all, "go", "tool", "test2json")
	jsons.Stdin, jsons.WaitDelay = from, 5*time.Second
	out, err := jsons.StdoutPipe()
	if err == nil {
		err = jsons.Start()
	}
	_ = from.Close()
	if err != nil {
		cancel()
		return nil, errors.Join(err, test.Wait())
	}
	ended := make(chan error, 1)
	go func() {
		ended <- test.Wait()
		select {
		case <-time.After(grace):
			done()
		case <-all.Done():
		}
	}()
	tree := read(out)
	_ = jsons.Wait() // what it has read counts
	failed := <-ended
	return tree.results(name, failed, ctx.Err() != nil), nil
}

// event is an event of test2json.
type event struct {
	Action string `json:"Action"`
	Test   string `json:"Test"`
	Output string `json:"Output"`
}

// tree is what is known of the tests of one run.
type tree struct {
	names []string // in order of their beginning; the empty one is the process's own
	said  map[string][]string
	ended map[string]Outcome
}

// mostSaid is how many of a test's last lines are kept.
const mostSaid = 200

func read(out io.Reader) *tree {
	t := &tree{said: map[string][]string{}, ended: map[string]Outcome{}}
	outcomes := map[string]Outcome{"pass": Passes, "fail": Fails, "skip": Skipped}
	lines := bufio.NewReader(out)
	for {
		raw, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(raw, &e) == nil {
			if _, known := t.said[e.Test]; !known {
				t.said[e.Test] = nil
				t.names = append(t.names, e.Test)
			}
			if o, ends := outcomes[e.Action]; ends {
				t.ended[e.Test] = o
			}
			if said := strings.TrimSpace(e.Output); said != "" && !strings.HasPrefix(said, "=== ") && !strings.HasPrefix(said, "--- ") {
				t.said[e.Test] = append(t.said[e.Test], said)
				t.said[e.Test] = t.said[e.Test][max(0, len(t.said[e.Test])-mostSaid):]
			}
		}
		if err != nil {
			return t
		}
	}
}

// results are what came of the tests that have no others in them, and of those that
// failed by themselves, if the process ended with an error or without.
func (t *tree) results(name string, failed error, late bool) (list []Result) {
	var all []string
	for _, n := range t.names {
		all = append(all, t.said[n]...)
	}
	for _, said := range all {
		late = late || strings.HasPrefix(said, "panic: test timed out")
	}
	ending := fmt.Sprintf("its process said nothing: %v", failed)
	wrong := map[string]bool{} // tests in which one failed
	for _, n := range slices.Backward(t.names) {
		if n == "" {
			continue
		}
		o, ended := t.ended[n]
		if !ended {
			o = Fails
			if late {
				o = Endless
			}
		}
		parent := slices.ContainsFunc(t.names, func(other string) bool { return strings.HasPrefix(other, n+"/") })
		if parent && (o == Passes || o == Skipped || wrong[n]) {
			continue
		}
		r := Result{Name: n, Outcome: o}
		switch o {
		case Fails:
			r.Why = why(t.said[n])
			if r.Why == "" {
				r.Why = cmp.Or(why(all), ending)
			}
		case Endless:
			r.Why = "it did not end in its time"
		case Skipped:
			r.Why = why(t.said[n])
		}
		if o == Fails || o == Endless {
			for up := path.Dir(n); up != "."; up = path.Dir(up) {
				wrong[up] = true
			}
		}
		list = append(list, r)
	}
	slices.Reverse(list)
	if len(list) == 0 || failed != nil && !slices.ContainsFunc(list, func(r Result) bool { return r.Outcome != Passes && r.Outcome != Skipped }) {
		o := Fails
		if late {
			o = Endless
		}
		list = append(list, Result{name, o, cmp.Or(why(all), ending)})
	}
	return list
}

// why is the part of what a test said that says why it failed.
func why(said []string) string {
	for i, s := range said {
		if strings.Contains(s, "_test.go:") || strings.HasPrefix(s, "panic: ") {
			return line(strings.Join(said[i:], " "))
		}
	}
	return line(strings.Join(said[max(0, len(said)-5):], " "))
}
