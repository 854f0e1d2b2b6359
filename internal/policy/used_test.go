package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const home = "github.com/rota-project/rota"

// unused are exported names that no other package needs, each with its reason.
var unused = map[string]string{
	"auth.ReasonForeign": "clients decide by it",
	"balance.P2C":        "a rule, as RuleByName and its others",
	"engine.State":       "the type of a field of Copy",
	"placement.Budgets":  "one of Obstacles", "placement.NoWorkers": "one of Obstacles",
	"program.Gob": "an Encoding", "program.Proto": "an Encoding",
	"program.IsWorker": "for mains that do more than Serve", "program.WithCapacity": "an option of InProcess and Local",
	"worker.Pusher":                           "what a Connector's Stream may be besides",
	"internal/api/bound.Proto":                "beside JSON",
	"internal/program/demo/lift.FromElevator": "beside ToElevator",
}

// A package's own tests do not count, but for the model of rota top, which they alone use
// without a terminal.

// forPrograms are what a door shows for the programs of others: defaults, limits and errors.
var forPrograms = regexp.MustCompile(`^(Default|Max|Min|Err)|Error$`)

func isDoor(p string) bool { return !strings.Contains(p+"/", "/internal/") }

// exported are the names that a package shows: each with those that it is used with, which
// are its own package's names in its type, and for a constant those of its group.
type exported struct {
	with   map[string][]string
	usedBy map[string]bool
}

// TestExportedNamesHaveUsers: a name that is exported is used by another package, be it a
// test or an example, or is part of something that is.
func TestExportedNamesHaveUsers(t *testing.T) {
	t.Parallel()
	packages := map[string]*exported{}
	called := map[string]string{} // packages by their paths
	var files []*ast.File
	of := func(p string) *exported {
		if packages[p] == nil {
			packages[p] = &exported{map[string][]string{}, map[string]bool{}}
		}
		return packages[p]
	}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		dir := path.Join(home, filepath.ToSlash(rel))
		files = append(files, f)
		top, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
		if strings.HasSuffix(file, "_test.go") || strings.Contains(file, ".pb.") || strings.HasSuffix(file, "_grpc.pb.go") || f.Name.Name == "main" || top == "bench" || top == "test" || top == "examples" {
			return nil
		}
		called[dir] = f.Name.Name
		of(dir).declare(f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		uses(f, called, of)
	}
	seen := 0
	for p, e := range packages {
		e.spread()
		for name := range e.with {
			seen++
			full := strings.TrimPrefix(strings.TrimPrefix(p, home), "/") + "." + name
			if p == home+"/cmd/rota/internal/top" || isDoor(p) && forPrograms.MatchString(name) {
				continue
			}
			if reason := unused[full]; e.usedBy[name] == (reason != "") {
				t.Errorf("%s: used elsewhere is %v, the reason not to be is %q", full, e.usedBy[name], reason)
			}
		}
	}
	if seen < 1000 {
		t.Errorf("%d exported names: that cannot be all", seen)
	}
}

// uses notes what a file uses of other packages.
func uses(f *ast.File, called map[string]string, of func(string) *exported) {
	names := map[string]string{}
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil || !strings.HasPrefix(p, home) {
			continue
		}
		name := called[p]
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = p
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && names[x.Name] != "" {
				of(names[x.Name]).usedBy[s.Sel.Name] = true
			}
		}
		return true
	})
}

// declare notes what a file exports.
func (e *exported) declare(f *ast.File) {
	add := func(name string, types ...ast.Node) {
		if !ast.IsExported(name) {
			return
		}
		e.with[name] = append(e.with[name], idents(types...)...)
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				add(d.Name.Name, d.Type)
			} else if r := idents(d.Recv.List[0].Type); len(r) > 0 && d.Name.IsExported() { // it is a part of its receiver
				e.with[r[0]] = append(e.with[r[0]], idents(d.Type)...)
			}
		case *ast.GenDecl:
			var group []string
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					add(s.Name.Name, s.Type)
				case *ast.ValueSpec:
					for _, n := range s.Names {
						if s.Type != nil {
							add(n.Name, s.Type)
						} else {
							add(n.Name)
						}
						group = append(group, n.Name)
					}
				}
			}
			if d.Tok == token.CONST { // the values of a type belong together
				for _, n := range group {
					if ast.IsExported(n) {
						e.with[n] = append(e.with[n], group...)
					}
				}
			}
		}
	}
	for name := range e.with {
		if !ast.IsExported(name) {
			delete(e.with, name)
		}
	}
}

func idents(nodes ...ast.Node) (names []string) {
	for _, n := range nodes {
		ast.Inspect(n, func(n ast.Node) bool {
			if i, ok := n.(*ast.Ident); ok {
				names = append(names, i.Name)
			}
			return true
		})
	}
	return names
}

// spread notes that what a used name consists of is used too.
func (e *exported) spread() {
	var mark func(string)
	done := map[string]bool{}
	mark = func(name string) {
		if done[name] {
			return
		}
		done[name], e.usedBy[name] = true, true
		for _, n := range e.with[name] {
			mark(n)
		}
	}
	for name := range e.usedBy {
		mark(name)
	}
}
