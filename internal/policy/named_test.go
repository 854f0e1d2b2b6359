package policy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNamedTestsExist: each test that SECURITY.md names is there, in a
// package of the name before it if there is one.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	root, declared := filepath.Join("..", ".."), regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(\w+ \*testing\.[TF]\)`)
	there := map[string][]string{} // the directories of a test, by name
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			there[string(m[1])] = append(there[string(m[1])], filepath.Base(filepath.Dir(path)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(?:([\\w/]+)\\.)?((?:Test|Fuzz)[A-Z]\\w*)`")
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := named.FindAllStringSubmatch(string(text), -1)
	if len(all) < 50 {
		t.Errorf("only %d tests are named", len(all))
	}
	for _, m := range all {
		in, test := filepath.Base(m[1]), m[2]
		if dirs := there[test]; len(dirs) == 0 || in != "." && !slices.Contains(dirs, in) {
			t.Errorf("%s is in %v", m[0], dirs)
		}
	}
}
