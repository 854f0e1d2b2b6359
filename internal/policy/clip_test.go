package policy

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// cutText is a text that is cut at some byte, perhaps within a character.
var cutText = regexp.MustCompile(`\[:[^\]\n]+\] \+ "\s?[\[(]?(\.\.\.|…)`)

// TestOneClip wants texts to be cut by internal/text alone: a message of the API
// that carries half a character ends its stream.
func TestOneClip(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "bench") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if at := cutText.Find(source); at != nil {
			t.Errorf("%s: %s: use internal/text", path, at)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]bool{`s[:64] + "..."`: true, `s[:max] + " [...]"`: true, `ToValidUTF8(s[:32], "") + "..."`: false} {
		if got := cutText.MatchString(in); got != want {
			t.Errorf("%s: %v", in, got)
		}
	}
}
