// Package purity holds packages to being pure: values in, values out, no
// clock, no network, no file, no random source, nothing that runs beside.
//
// It is called by the tests of packages that promise it (ownership, placement,
// the tables of store) and must never be part of a program.
package purity

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// pure are the packages of the standard library that compute and do nothing else.
var pure = []string{
	"bytes", "cmp", "container/heap", "container/list", "container/ring", "encoding", "encoding/base64",
	"encoding/binary", "encoding/hex", "encoding/json", "errors", "fmt", "hash", "hash/crc32", "hash/fnv", "iter",
	"maps", "math", "math/big", "math/bits", "math/cmplx", "reflect", "regexp", "slices", "sort", "strconv",
	"strings", "unicode", "unicode/utf16", "unicode/utf8", "unsafe",
}

// timeless is what may be named of package time: words for lengths of time, and
// nothing that reads a clock or waits for it.
var timeless = []string{
	"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour",
	"Month", "Weekday", "ParseDuration",
}

// printing are the functions of package fmt that write to a file or read one.
var printing = []string{"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"}

// Check reports everything in the package of directory dir, its tests apart,
// that could make it impure, as "file:line: what". Packages of the same module
// are checked too, as far as dir imports them. allowed names further packages
// that may be imported; they are not looked into.
func Check(dir string, allowed ...string) ([]string, error) {
	root, module, err := moduleOf(dir)
	if err != nil {
		return nil, err
	}
	c := checker{root: root, module: module, allowed: allowed, seen: map[string]bool{}}
	if err := c.dir(dir); err != nil {
		return nil, err
	}
	slices.Sort(c.found)
	return c.found, nil
}

type checker struct {
	root, module string
	allowed      []string
	seen         map[string]bool // directories
	found        []string
}

func (c *checker) dir(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("purity: %w", err)
	}
	if c.seen[dir] {
		return nil
	}
	c.seen[dir] = true
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("purity: reading the package: %w", err)
	}
	files := 0
	for _, e := range entries {
		if !goFile(e) {
			continue
		}
		files++
		if err := c.file(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if files == 0 {
		return fmt.Errorf("purity: %s: no Go files", dir)
	}
	return nil
}

func goFile(e fs.DirEntry) bool {
	return !e.IsDir() && strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go")
}

func (c *checker) file(path string) error {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("purity: %w", err)
	}
	report := func(at token.Pos, format string, args ...any) {
		where := path
		if rel, err := filepath.Rel(c.root, path); err == nil {
			where = filepath.ToSlash(rel)
		}
		c.found = append(c.found, fmt.Sprintf("%s:%d: ", where, set.Position(at).Line)+fmt.Sprintf(format, args...))
	}
	limited := map[string]string{} // local name of an imported package that is pure in part
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("purity: %w", err)
		}
		inside, ours := strings.CutPrefix(name+"/", c.module+"/")
		switch {
		case slices.Contains(c.allowed, name):
		case name == "time" || name == "fmt":
			limited[name] = name
			if spec.Name != nil {
				limited[spec.Name.Name] = name
				if spec.Name.Name == "." {
					report(spec.Pos(), "imports %s without its name", name)
				}
			}
		case ours:
			if err := c.dir(filepath.Join(c.root, filepath.FromSlash(inside))); err != nil {
				return err
			}
		case !slices.Contains(pure, name):
			report(spec.Pos(), "imports %s", name)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n.Pos(), "starts a goroutine")
		case *ast.SelectorExpr:
			pkg, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			switch name := n.Sel.Name; {
			case limited[pkg.Name] == "time" && !slices.Contains(timeless, name),
				limited[pkg.Name] == "fmt" && slices.Contains(printing, name):
				report(n.Pos(), "uses %s.%s", limited[pkg.Name], name)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
				report(n.Pos(), "prints")
			}
		}
		return true
	})
	return nil
}

// moduleOf finds the module that dir belongs to.
func moduleOf(dir string) (root, module string, err error) {
	root, err = filepath.Abs(dir)
	if err != nil {
		return "", "", fmt.Errorf("purity: %w", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(root, "go.mod"))
		if err == nil {
			for line := range strings.Lines(string(text)) {
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
					return root, strings.TrimSpace(name), nil
				}
			}
			return "", "", fmt.Errorf("purity: %s names no module", filepath.Join(root, "go.mod"))
		}
		up := filepath.Dir(root)
		if up == root {
			return "", "", fmt.Errorf("purity: %s is in no module", dir)
		}
		root = up
	}
}
