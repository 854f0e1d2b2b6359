package etcd_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota/store/etcd"
)

// TestSocket: the embedded etcd is reached by a unix socket that other users of
// the machine cannot come near, however deep the data directory is, and leaves
// nothing behind.
func TestSocket(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{
		"short":       filepath.Join(t.TempDir(), "d"),
		"deep":        filepath.Join(t.TempDir(), strings.Repeat("deeper/", 30), "d"),
		"odd":         filepath.Join(t.TempDir(), "a b%20?#é", "d"),
		"a long name": filepath.Join(t.TempDir(), strings.Repeat("x", 200)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var last string
			for _, killed := range []bool{true, false} { // one start that is killed, and one after it
				e, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: dir, NoSync: true})
				if err != nil {
					t.Fatal(err)
				}
				u, err := url.Parse(e.Endpoints()[0])
				if err != nil || u.Scheme != "unix" || !filepath.IsAbs(u.Path) || len(u.Path) > 103 {
					t.Fatalf("it listens on %s, %v", e.Endpoints()[0], err)
				}
				info, err := os.Stat(filepath.Dir(u.Path))
				if err != nil || info.Mode().Perm() != 0o700 {
					t.Errorf("the socket's directory: %v, %v", info.Mode(), err)
				}
				s := open(t, etcd.Config{Endpoints: e.Endpoints(), Root: "x/"})
				if _, _, _, err := s.Get(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				_ = s.Close()
				var left []byte
				note := filepath.Join(dir, "run", "elsewhere")
				if killed {
					left, _ = os.ReadFile(note)
				}
				if err := e.Stop(); err != nil {
					t.Error(err)
				}
				if conn, err := net.Dial("unix", u.Path); err == nil {
					_ = conn.Close()
					t.Error("it still listens")
				}
				if len(left) > 0 { // as if it had been killed
					last = string(left)
					if err := os.Mkdir(last, 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(note, left, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := os.Lstat(u.Path); !os.IsNotExist(err) {
					t.Errorf("the socket is left: %v", err)
				}
			}
			if last != "" {
				if _, err := os.Lstat(last); !os.IsNotExist(err) {
					t.Errorf("what the killed start left is still there: %v", err)
				}
			}
		})
	}
	loose := t.TempDir()
	if err := os.Chmod(loose, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: loose}); err == nil || !strings.Contains(err.Error(), "chmod go-w "+loose) {
		t.Errorf("a directory that all may write to: %v", err)
	}
	if os.Geteuid() != 0 {
		return // only root may give directories away; userdir's own tests know all owners
	}
	theirs := t.TempDir()
	if err := os.Chown(theirs, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Embed(t.Context(), etcd.EmbedConfig{DataDir: theirs}); err == nil || !strings.Contains(err.Error(), "data_dir: "+theirs+" belongs to user 65534") {
		t.Errorf("a directory of another user: %v", err)
	}
}
