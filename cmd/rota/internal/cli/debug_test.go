package cli

import (
	"path"
	"strings"
	"testing"
)

// TestFolder: no name of a scheduler leads out of its folder, and no two share one.
func TestFolder(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, name := range []string{"s1", "", ".", "..", "...", "a/b", "a%2Fb", "../../x", "a b", "\x00\n", "ü", `a\b`, "a..b"} {
		f := folder(name)
		if f == "" || path.Clean("x/"+f) != "x/"+f || strings.ContainsAny(f, "/\\\x00\n ") {
			t.Errorf("%q has the folder %q", name, f)
		}
		if other, there := seen[f]; there {
			t.Errorf("%q and %q share %q", name, other, f)
		}
		seen[f] = name
	}
}

// TestElsewhere: who listens on all addresses is where it was reached.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ addr, near, want string }{
		{"10.0.0.1:3000", "h", "10.0.0.1:3000"},
		{"0.0.0.0:3000", "h", "h:3000"},
		{"[::]:3000", "::1", "[::1]:3000"},
		{":3000", "h", "h:3000"},
		{":3000", "", ":3000"},
		{"nonsense", "h", "nonsense"},
	} {
		if got := elsewhere(c.addr, c.near); got != c.want {
			t.Errorf("%s near %s: %s, want %s", c.addr, c.near, got, c.want)
		}
	}
}

// TestNoArguments: what a job or a worker is started with stays out of a bundle.
func TestNoArguments(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "a": "a", "a b c": "a (redacted)"} {
		if got := strings.Join(withoutArguments(strings.Fields(text)), " "); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
