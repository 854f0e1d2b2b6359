//go:build unix

package secretfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestModes tries every mode of a file of one's own: what group or others may do
// anything with is refused, by a line that says how to mend it.
func TestModes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode := range fs.FileMode(0o1000) {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() != 0 && mode&0o400 == 0 {
			continue // it cannot be read at all
		}
		b, err := Read(path)
		if good := mode&0o077 == 0; good != (err == nil) || good != (string(b) == "secret") || good != (Check(path) == nil) {
			t.Fatalf("mode %04o: %q, %v", mode, b, err)
		}
		if err != nil && (!errors.Is(err, ErrOpen) || !strings.HasSuffix(err.Error(), "; chmod 600 "+path) || strings.Contains(err.Error(), "secret\n")) {
			t.Fatalf("mode %04o: %v", mode, err)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode        fs.FileMode
		owner, self int
		want        string // of the mending command; "" if it is good
	}{
		{0o600, 5, 5, ""},
		{0o400, 5, 5, ""},
		{0o640, 5, 5, "chmod 600"},
		{0o604, 5, 5, "chmod 600"},
		{0o640, 0, 0, "chmod 600"},
		{0o600, 0, 0, ""},
		{0o440, 0, 5, ""}, // root hands it to a group
		{0o640, 0, 5, ""},
		{0o660, 0, 5, "chmod 640"},
		{0o644, 0, 5, "chmod 640"},
		{0o600, 6, 5, "chown 5"},
		{0o644, 6, 5, "chown 5"},
		{0o600, 6, 0, "chown 0"},
	} {
		err := judge("f", c.mode, c.owner, c.self)
		if (c.want == "") != (err == nil) || err != nil && !strings.HasSuffix(err.Error(), "; "+c.want+" f") {
			t.Errorf("mode %04o of %d for %d: %v", c.mode, c.owner, c.self, err)
		}
	}
}

func TestOtherFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte{'x'}, maxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{Check(dir), func() error { _, err := Read(dir); return err }()} {
		if !errors.Is(err, syscall.EISDIR) || errors.Is(err, ErrOpen) {
			t.Errorf("a directory: %v", err)
		}
	}
	if _, err := Read(large); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("large: %v", err)
	}
	if b, err := ReadUpTo(large, maxSize+1); err != nil || len(b) != maxSize+1 {
		t.Errorf("as large as may be: %v", err)
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if _, err := Read(dir); err == nil {
		t.Error("a directory is read")
	}
	link := filepath.Join(dir, "link") // what it leads to counts
	if err := errors.Join(os.Symlink(large, link), os.Chmod(large, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := Check(link); !errors.Is(err, ErrOpen) {
		t.Errorf("through a link: %v", err)
	}
	if b, err := Read(os.DevNull); err != nil || len(b) > 0 {
		t.Errorf("a device: %q, %v", b, err)
	}
	pipe := filepath.Join(dir, "pipe") // as a shell makes it of <(...)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { _ = os.WriteFile(pipe, []byte("from a pipe"), 0o600) }()
	if b, err := Read(pipe); err != nil || string(b) != "from a pipe" {
		t.Errorf("a pipe: %q, %v", b, err)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/a/b.key": "/a/b.key", "a b": "'a b'", "it's": `'it'\''s'`, "-rf": "'./-rf'", "": "''"} {
		if got := quote(path); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}
