package userdir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/userdir"
)

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().Perm()
}

func TestSockets(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "rota")
	if err := userdir.Make(dir); err != nil || mode(t, dir) != 0o700 {
		t.Fatal(err, mode(t, dir))
	}
	path := filepath.Join(dir, "a.sock")
	l, err := userdir.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if mode(t, path) != 0o600 {
		t.Errorf("mode %v", mode(t, path))
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	c, err := userdir.Dialer(path)(t.Context(), "tcp", "nowhere:80")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := userdir.Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second one: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
	// What a killed process has left behind is in nobody's way.
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	last, err := userdir.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	next, err := userdir.Listen(t.Context(), filepath.Join(dir, "b.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "b.sock"), path); err != nil {
		t.Fatal(err)
	}
	_ = last.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("it has removed another's: %v", err)
	}
	_ = next.Close()
	if _, err := userdir.Listen(t.Context(), filepath.Join(dir, strings.Repeat("x", 200), "s")); err == nil {
		t.Error("a directory that is not there")
	}
}

func TestDirectoriesOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := userdir.Make(dir); err == nil || !strings.Contains(err.Error(), "chmod go-w "+dir) {
		t.Errorf("others may write to it: %v", err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := userdir.Make(file); err == nil {
		t.Error("a file")
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	secret := "a secret of the test"
	remove, err := userdir.WriteSecret(path, secret)
	if err != nil || mode(t, path) != 0o600 {
		t.Fatal(secret, err, mode(t, path))
	}
	if got, err := userdir.Secret(path); err != nil || got != secret {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := userdir.Secret(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("others may read it: %v", err)
	}
	other := "another one"
	removeOther, err := userdir.WriteSecret(path, other)
	if err != nil {
		t.Fatal(err)
	}
	remove()
	if got, err := userdir.Secret(path); err != nil || got != other {
		t.Errorf("another's is gone: %q, %v", got, err)
	}
	removeOther()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("it is left behind: %v", err)
	}
	for _, bad := range []string{"", "\n", "a\nb", strings.Repeat("x", 5000)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := userdir.Secret(path); err == nil {
			t.Errorf("%q passes for a secret: %q", bad, s)
		}
	}
}
