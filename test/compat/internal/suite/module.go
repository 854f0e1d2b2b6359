package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// rota is the path of this module.
const rota = "github.com/rota-project/rota"

// Module is a temporary module.
type Module struct {
	Dir string
	p   Place
	old *gomod
	use string // version of Go
	n   int    // of stands

	requires, replaces []string
}

// gomod is what go mod edit -json says of a go.mod, as far as it counts here.
type gomod struct {
	Module  atVersion `json:"Module"`
	Go      string    `json:"Go"`
	Require []struct {
		atVersion

		Indirect bool `json:"Indirect"`
	} `json:"Require"`
	Exclude []atVersion `json:"Exclude"`
	Replace []struct {
		Old atVersion `json:"Old"`
		New atVersion `json:"New"`
	} `json:"Replace"`
}

type atVersion struct {
	Path    string `json:"Path"`
	Version string `json:"Version"`
}

// readMod reads the go.mod in a folder.
func readMod(ctx context.Context, dir, file string) (*gomod, error) {
	raw, err := goTool(ctx, dir, "mod", "edit", "-json", file)
	if err != nil {
		return nil, err
	}
	m := &gomod{}
	return m, json.Unmarshal(raw, m)
}

// NewModule begins a module in a temporary folder; Write ends it. What the checkout's
// go.mod requires, if it has one, it does, too.
func NewModule(ctx context.Context, p Place) (*Module, error) {
	dir, err := os.MkdirTemp(p.Dir, "module-")
	if err != nil {
		return nil, err
	}
	m := &Module{Dir: dir, p: p}
	ours, err := readMod(ctx, dir, filepath.Join(p.Repo, "go.mod"))
	if err != nil {
		return nil, err
	}
	m.use = ours.Go
	file := filepath.Join(p.Checkout, "go.mod")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if m.old, err = readMod(ctx, dir, file); err != nil {
		return nil, Unusable("%v", err)
	}
	if version.Compare("go"+m.old.Go, "go"+m.use) > 0 {
		m.use = m.old.Go
	}
	return m, nil
}

// Stand has a folder of this repository stand in the place of another module, for what
// is built in m.
func (m *Module) Stand(path, shim string) error {
	m.n++
	name := "stand-" + strconv.Itoa(m.n)
	dir := filepath.Join(m.Dir, name)
	if err := m.copyShim(dir, shim); err != nil {
		return err
	}
	m.requires = append(m.requires, path+" v0.0.0")
	m.replaces = append(m.replaces, path+" => ./"+name)
	text := fmt.Sprintf("module %s\n\ngo %s\n\nrequire %s v0.0.0\n", path, m.use, rota)
	return os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o600)
}

// copyShim copies the Go files of a folder of this repository, and of those in it.
func (m *Module) copyShim(dir, shim string) error {
	return copyFiles(dir, filepath.Join(m.p.Repo, filepath.FromSlash(shim)), func(name string) bool {
		return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
	})
}

// copyFiles copies the regular files of a tree whose names are wanted.
func copyFiles(to, from string, want func(name string) bool) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !want(d.Name()) {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(path) //nolint:gosec // the user's own checkout
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		return os.WriteFile(target, raw, 0o600) //nolint:gosec // a temporary folder
	})
}

// Write writes the module's go.mod, in which this repository stands for rota, and its
// go.sum.
func (m *Module) Write(path string) error {
	b := &bytes.Buffer{}
	say := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	say("module %s\n\ngo %s\n", path, m.use)
	stands := map[string]bool{path: true, rota: true}
	for _, r := range append(m.requires, rota+" v0.0.0") {
		name, _, _ := strings.Cut(r, " ")
		stands[name] = true
		say("require %s", r)
	}
	for _, r := range append(m.replaces, rota+" => "+strconv.Quote(m.p.Repo)) {
		say("replace %s", r)
	}
	if m.old != nil {
		for _, r := range m.old.Require {
			if !r.Indirect && !stands[r.Path] { // the rest follows from these and from rota's own
				say("require %s %s", r.Path, r.Version)
			}
		}
		for _, r := range m.old.Exclude {
			say("exclude %s %s", r.Path, r.Version)
		}
		for _, r := range m.old.Replace {
			if stands[r.Old.Path] {
				continue
			}
			there := r.New.Path
			if r.New.Version == "" && !filepath.IsAbs(there) {
				there = filepath.Join(m.p.Checkout, there)
			}
			say("replace %s %s => %s %s", r.Old.Path, r.Old.Version, strconv.Quote(there), r.New.Version)
		}
	}
	if err := os.WriteFile(filepath.Join(m.Dir, "go.mod"), b.Bytes(), 0o600); err != nil {
		return err
	}
	var sums []byte
	for _, dir := range []string{m.p.Repo, m.p.Checkout} {
		raw, err := os.ReadFile(filepath.Join(dir, "go.sum"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		sums = append(append(sums, raw...), '\n')
	}
	return os.WriteFile(filepath.Join(m.Dir, "go.sum"), sums, 0o600) //nolint:gosec // a temporary folder
}

// Build builds the program of some files in a folder of the module.
func (m *Module) Build(ctx context.Context, dir, program string, files ...string) error {
	_, err := goTool(ctx, dir, append([]string{"build", "-mod=mod", "-o", program}, files...)...)
	return err
}

// toolLimit bounds each run of the go command, which may have to compile everything.
const toolLimit = 15 * time.Minute

// goTool runs the go command in a folder. Its error has what it said.
func goTool(ctx context.Context, dir string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // of this package
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GO111MODULE=on", "GOWORK=off")
	cmd.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return out, &toolError{args[0], errors.Join(ctx.Err(), err), said.String() + string(out)}
	}
	return out, nil
}

// toolError is a run of the go command that failed.
type toolError struct {
	what string
	err  error
	said string
}

func (e *toolError) Error() string { return fmt.Sprintf("go %s: %v: %s", e.what, e.err, line(e.said)) }

func (e *toolError) Unwrap() error { return e.err }
