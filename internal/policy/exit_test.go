package policy_test

import (
	"bytes"
	"go/ast"
	"go/format"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	ends = regexp.MustCompile(`\b(os\.Exit|syscall\.Exit|log\.Fatal\w*|cfg\.Exit)\(`)
	says = regexp.MustCompile(`logs\.(Last|Flush)\(|Fprint\w*\(os\.Stderr`)
)

// TestWhoeverEndsAProcessSaysWhy: a function of the product that ends the process
// writes to standard error itself, whatever logger there is.
func TestWhoeverEndsAProcessSaysWhy(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	found := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		name = filepath.ToSlash(name)
		if d.IsDir() {
			switch name {
			case "bench", "examples", "test/e2e", ".git", "internal/parts":
				return filepath.SkipDir
			}
			return nil
		}
		// What main ends has said why already: cli.Run prints each error.
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") || name == "cmd/rota/main.go" {
			return nil
		}
		set := token.NewFileSet()
		file, err := goparser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			var body bytes.Buffer
			if err := format.Node(&body, set, f.Body); err != nil {
				return err
			}
			if !ends.Match(body.Bytes()) {
				continue
			}
			found++
			if !says.Match(body.Bytes()) {
				t.Errorf("%s: %s ends the process and does not say why on standard error", name, f.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 4 {
		t.Errorf("only %d functions end the process: the search is wrong", found)
	}
}
