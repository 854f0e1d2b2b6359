package policy

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

// once are concerns with one mechanism, and how a second one is known.
var once = []struct {
	place  string // that has it
	second *regexp.Regexp
	not    []string // files that do something else
	is     map[string]bool
}{
	{ // A message of the API that carries half a character ends its stream.
		place: "internal/text", second: regexp.MustCompile(`\[:[^\]\n]+\] \+ "\s?[\[(]?(\.\.\.|…)`),
		is: map[string]bool{`s[:64] + "..."`: true, `s[:max] + " [...]"`: true, `ToValidUTF8(s[:32], "") + "..."`: false},
	},
	{ // Pauses between tries.
		place: "internal/backoff", second: regexp.MustCompile(`min\((max\()?2\*(\w+\.)*\w+, |rand\.N\(\w*(pause|wait|delay)`),
		not: []string{
			"ownership/holder.go",                                               // a core imports nothing
			"internal/process/host_linux.go", "internal/process/sweep_linux.go", // they ask the kernel, nothing has failed
			"scheduler/internal/blame/docket.go", "store/etcd/watch.go", // how long others may take
		},
		is: map[string]bool{"pause = min(2*pause, most)": true, "w.pause = min(max(2*w.pause, first), last)": true, "rand.N(pause)": true, "min(2*3, n)": true, "min(n, 2*m)": false},
	},
	{ // What waits for one who takes it, and a signal that it is there.
		place: "internal/mailbox", second: regexp.MustCompile(`(?:queue|list) = append\((?:.|\n){0,80}signal <- struct`),
		is: map[string]bool{
			"b.queue = append(b.queue, f)\n\tb.mu.Unlock()\n\tselect {\n\tcase b.signal <- struct{}{}:": true,
			"m.queue = append(m.queue, j)\n\treturn":                                                    false,
		},
	},
	{ // Tables for people. What others wrote must not steer their terminals.
		place: "cmd/rota/internal/terminal", second: regexp.MustCompile(`"text/tabwriter"|runewidth\.`),
		is: map[string]bool{`"text/tabwriter"`: true, "runewidth.StringWidth(s)": true, `"text/template"`: false},
	},
}

// products gives f the product's Go files, with their names from the root.
func products(t *testing.T, f func(name string, source []byte)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "bench" || d.Name() == "test" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f(name, source)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOnce wants each of these concerns to have one mechanism.
func TestOnce(t *testing.T) {
	t.Parallel()
	products(t, func(name string, source []byte) {
		for _, c := range once {
			if at := c.second.Find(source); at != nil && !strings.HasPrefix(name, c.place+"/") && !slices.Contains(c.not, name) {
				t.Errorf("%s: %s: use %s", name, at, c.place)
			}
		}
	})
	for _, c := range once {
		for in, want := range c.is {
			if got := c.second.MatchString(in); got != want {
				t.Errorf("%s: %s: %v", c.place, in, got)
			}
		}
	}
}

// TestErrorsNameTheirField: the text of an error about a field has its name, as people see
// nothing else of it.
func TestErrorsNameTheirField(t *testing.T) {
	t.Parallel()
	about := regexp.MustCompile(`\bFieldStatus\("(?:[^"]*\.)?([^".]+)", (?:fmt\.Sprintf\()?("(?:[^"\\]|\\.)*")`)
	n := 0
	products(t, func(name string, source []byte) {
		for _, m := range about.FindAllSubmatch(source, -1) {
			if n++; !bytes.Contains(m[2], m[1]) {
				t.Errorf("%s: %s does not name %s", name, m[2], m[1])
			}
		}
	})
	if n < 20 {
		t.Errorf("%d errors were found", n)
	}
}
