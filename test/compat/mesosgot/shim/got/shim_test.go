package mesosgot

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// names are the exported names that the sources in a folder declare, without methods.
func names(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(files), err)
	}
	all := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					all[d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						all[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, n := range s.Names {
							all[n.Name] = true
						}
					}
				}
			}
		}
	}
	maps.DeleteFunc(all, func(name string, _ bool) bool { return !token.IsExported(name) })
	return all
}

// TestEveryName: the shims have every name of compat/mesosgot that the old package, or
// one of its drivers, has.
func TestEveryName(t *testing.T) {
	t.Parallel()
	got := names(t, ".")
	drivers := []string{
		"ExecutorConfig", "ExecutorDriver", "NewMesosExecutorDriver", "SchedulerConfig", "SchedulerDriver", "NewMesosSchedulerDriver",
		"Status", "DriverRunning", "DriverStopped", "DriverAborted",
	}
	own := []string{"DefaultMaster", "Local"} // the old one has none of these
	for _, name := range slices.Sorted(maps.Keys(names(t, "../../../../../compat/mesosgot"))) {
		if !got[name] && !slices.Contains(drivers, name) && !slices.Contains(own, name) {
			t.Errorf("the shim has no %s", name)
		}
	}
}
