package devcluster_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/auth/devcluster"
)

func home(t *testing.T) (dir string, lookup devcluster.Lookup) {
	t.Helper()
	dir = t.TempDir()
	return dir, func(k string) (string, bool) {
		if k == "HOME" {
			return dir, true
		}
		return "", false
	}
}

func publish(t *testing.T, lookup devcluster.Lookup, addr string) (remove func()) {
	t.Helper()
	remove, err := devcluster.Publish(lookup, devcluster.Cluster{GRPC: []string{addr}, HTTP: "127.0.0.1:1", Token: "secret of " + "x", PKI: "/pki"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	return remove
}

// files are all that is below dir.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			list = append(list, path)
		}
		return nil
	})
	return list
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir, lookup := home(t)
	if all := devcluster.All(lookup); len(all) != 0 {
		t.Errorf("found %v", all)
	}
	remove := publish(t, lookup, "127.0.0.1:50000")
	publish(t, lookup, "127.0.0.1:1234")
	publish(t, lookup, "[::1]:7")
	if all := devcluster.All(lookup); len(all) != 3 {
		t.Errorf("found %v", all)
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:50000": true, "localhost:50000": true, "localhost:1234": true, "127.0.0.1:1234": true, "localhost:7": true, "[::1]:7": true,
		"127.0.0.1:1": false, "10.0.0.1:50000": false, "example.org:50000": false, "127.0.0.1": false, "": false, "../x:50000": false,
	} {
		c, ok := devcluster.Find(lookup, addr)
		if ok != want || ok && (c.Token.Reveal() != "secret of x" || c.PKI != "/pki" || c.Text != "") {
			t.Errorf("%s: %+v, %v", addr, c, ok)
		}
	}
	remove()
	if _, ok := devcluster.Find(lookup, "127.0.0.1:50000"); ok {
		t.Error("found after it was removed")
	}
	if n := len(files(t, dir)); n != 2 {
		t.Errorf("%d files are left, want 2", n)
	}
}

// TestStale: a file that nobody holds is of a killed cluster. It is not found, and
// goes when another is published.
func TestStale(t *testing.T) {
	t.Parallel()
	dir, lookup := home(t)
	publish(t, lookup, "127.0.0.1:1")
	live := files(t, dir)[0]
	text, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(filepath.Dir(live), "127.0.0.1-2.json")
	if err := os.WriteFile(dead, []byte(strings.Replace(string(text), ":1", ":2", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := devcluster.Find(lookup, "127.0.0.1:2"); ok {
		t.Error("a dead one is found")
	}
	if all := devcluster.All(lookup); len(all) != 1 {
		t.Errorf("found %v", all)
	}
	publish(t, lookup, "127.0.0.1:3")
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the dead one's file is there: %v", err)
	}
	publish(t, lookup, "127.0.0.1:2") // where a dead one was
	if _, ok := devcluster.Find(lookup, "127.0.0.1:2"); !ok {
		t.Error("its successor is not found")
	}
}

// TestOthersMayRead: what others could have written or read is not used.
func TestOthersMayRead(t *testing.T) {
	t.Parallel()
	dir, lookup := home(t)
	publish(t, lookup, "127.0.0.1:1")
	file := files(t, dir)[0]
	for _, path := range []string{file, filepath.Dir(file)} {
		mode := os.FileMode(0o755)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, ok := devcluster.Find(lookup, "127.0.0.1:1"); ok {
			t.Errorf("%s may be read by others, and is used", path)
		}
		if path != file {
			if _, err := devcluster.Publish(lookup, devcluster.Cluster{GRPC: []string{"127.0.0.1:2"}}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
				t.Errorf("published where others may read: %v", err)
			}
		}
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := devcluster.Publish(func(string) (string, bool) { return "", false }, devcluster.Cluster{GRPC: []string{"127.0.0.1:2"}}); err == nil {
		t.Error("published nowhere")
	}
}

// TestSeveralSchedulers: a cluster of several schedulers is found by the address of each,
// and is one.
func TestSeveralSchedulers(t *testing.T) {
	t.Parallel()
	_, lookup := home(t)
	addrs := []string{"127.0.0.1:7", "127.0.0.1:8", "127.0.0.1:9"}
	remove, err := devcluster.Publish(lookup, devcluster.Cluster{GRPC: addrs, PKI: "/pki"})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range append(addrs, "localhost:9") {
		if c, ok := devcluster.Find(lookup, a); !ok || !slices.Equal(c.GRPC, addrs) {
			t.Errorf("%s: %v, %v", a, c.GRPC, ok)
		}
	}
	if all := devcluster.All(lookup); len(all) != 1 {
		t.Errorf("found %v", all)
	}
	remove()
	if _, ok := devcluster.Find(lookup, addrs[2]); ok {
		t.Error("found after it was removed")
	}
}
