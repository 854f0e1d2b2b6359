package signin

import "testing"

// TestLocal: of whatever stands in for a path, none leads a browser away.
func TestLocal(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/", "/tasks", "/tasks?state=running&text=a%20b", "/tasks/a%2Fb#why", "/a//b"} {
		if !local(path) {
			t.Errorf("%q is refused", path)
		}
	}
	for _, path := range []string{
		"", "tasks", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example", "/\r/evil.example", " /x",
		"https://evil.example", "https:/evil.example", "javascript:alert(1)", "/\x00", "/é", "/a\x7f", "///evil.example", "/%zz", "/" + string(make([]byte, maxReturn)),
	} {
		if local(path) {
			t.Errorf("%q is taken", path)
		}
	}
}
