package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCertRevoke: by file, by serial number and by name, into the list that others
// follow; the list of certificates says so.
func TestCertRevoke(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	rota := func(want int, args ...string) string {
		t.Helper()
		status, out, errs := run(t, "", nil, append(append([]string{"cert"}, args...), "--dir", dir)...)
		if status != want {
			t.Fatalf("rota cert %s: %d %s%s", strings.Join(args, " "), status, out, errs)
		}
		return out + errs
	}
	rota(0, "init")
	for _, name := range []string{"w1", "w2", "w3", "w4"} {
		rota(0, "issue", "worker", name)
	}
	serial := regexp.MustCompile(`(?m)^w2 .* ([0-9a-f]{20,}) `).FindStringSubmatch(rota(0, "list"))
	if serial == nil {
		t.Fatal("no serial number of w2")
	}
	rota(0, "revoke", "worker", "w1")
	rota(0, "revoke", serial[1])
	rota(0, "revoke", filepath.Join(dir, "worker-w3.crt"))
	if n := len(regexp.MustCompile(`(?m)^w[123] +worker +revoked `).FindAllString(rota(0, "list"), -1)); n != 3 {
		t.Errorf("%d are revoked: %s", n, rota(0, "list"))
	}
	text, err := os.ReadFile(filepath.Join(dir, "revoked"))
	if err != nil || strings.Count(string(text), "\nserial ") != 2 || !regexp.MustCompile(`(?m)^worker w1 until \S+Z$`).Match(text) {
		t.Errorf("%s, %v", text, err)
	}
	rota(0, "issue", "worker", "w1") // lets the name in again
	if now := rota(0, "list"); !regexp.MustCompile(`(?m)^w1 +worker +\d+d `).MatchString(now) {
		t.Errorf("issued again: %s", now)
	}
	other := filepath.Join(t.TempDir(), "list")
	rota(0, "revoke", "worker", "w4", "--file", other)
	if text, err := os.ReadFile(other); err != nil || !strings.Contains(string(text), "\nworker w4 until ") {
		t.Errorf("%s, %v", text, err)
	}
	for args, want := range map[string]int{"revoke": 2, "revoke nothing-such": 2, "revoke boss w1": 1, "revoke worker a/b": 2, "revoke worker w1 w2": 2} {
		rota(want, strings.Fields(args)...)
	}
}
