//go:build unix

package source_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/source"
)

// write writes a file in place.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rested reads what is to be had once the file has had its rest.
func rested(t *testing.T, s *source.Source, want string) {
	t.Helper()
	wants(t, s, "unchanged")
	time.Sleep(source.Rest)
	wants(t, s, want)
}

func TestFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "list.csv")
		s := source.File(path, 0, 0, parse)
		if s.Every != time.Second || !strings.Contains(s.Name, path) {
			t.Errorf("%+v", s)
		}
		wants(t, s, "no such file")
		write(t, path, "a b")
		rested(t, s, "a b")
		wants(t, s, "unchanged")
		write(t, path, "a c") // of the same size
		rested(t, s, "a c")
		write(t, path, "a bad")
		rested(t, s, "bad list")
		wants(t, s, "bad list")
		write(t, path, "a d")
		rested(t, s, "a d")
		wants(t, s, "unchanged")
		s.Reset()
		wants(t, s, "a d")
		write(t, path, "")
		rested(t, s, "source: empty")
		write(t, path, "\n")
		rested(t, s, "")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		wants(t, s, "no such file")
		write(t, path, "e")
		rested(t, s, "e")
		// Put in its place whole, as editors do.
		write(t, path+"~", "f")
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
		rested(t, s, "f")
		// Touched, and no more.
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		rested(t, s, "unchanged")
	})
}

// TestFileAsOld: a file that was written long ago is taken when it is first seen.
func TestFileAsOld(t *testing.T) {
	t.Parallel()
	// The time of a change cannot be set: that of a file of the system's is old.
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/etc/passwd", "/etc/group", exe} {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < time.Hour || time.Since(source.Changed(info)) < time.Hour {
			continue
		}
		s := source.File(path, 0, 0, func(string, io.Reader) ([]rota.Task, error) { return nil, errors.New("read") })
		wants(t, s, "read")
		return
	}
	t.Log("everything on this machine is new")
}

// TestFileSilent: other content under the same size and time is noticed.
func TestFileSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "list")
		s := source.File(path, 0, 0, parse)
		at := time.Now()
		for _, id := range []string{"a", "b", "c"} {
			write(t, path, id)
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
			rested(t, s, id)
			wants(t, s, "unchanged")
		}
	})
}

// TestFileInPlace: whatever the pace at which a list is written in place, shorter
// than the rest, no part of it is ever taken for it; one that never ends is told of.
func TestFileInPlace(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			chance := rand.New(rand.NewPCG(seed, 1))
			path := filepath.Join(t.TempDir(), "list")
			s := source.File(path, time.Second, 0, parse)
			write(t, path, "t0 t1 t2 t3 t4 t5 t6 t7 t8 t9 ")
			rested(t, s, "t0 t1 t2 t3 t4 t5 t6 t7 t8 t9")
			f, err := os.Create(path) // empty from here on
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			written := make(chan struct{})
			go func() {
				defer close(written)
				for n := range 20 {
					time.Sleep(time.Duration(chance.Int64N(int64(source.Rest))))
					_, _ = fmt.Fprintf(f, "n%d ", n)
				}
			}()
			for taken := 0; taken == 0; time.Sleep(time.Second) {
				tasks, err := s.Read(t.Context())
				switch {
				case err == nil:
					taken = len(tasks)
					if taken != 20 {
						t.Fatalf("seed %d: %d of 20 are taken", seed, taken)
					}
				case strings.Contains(err.Error(), "has been changing for more than 30s"):
				case !errors.Is(err, source.ErrUnchanged):
					t.Fatal(err)
				}
			}
			<-written
		})
	}
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "list")
		s := source.File(path, time.Second, 0, parse)
		said := map[string]int{}
		for n := range 120 {
			write(t, path, fmt.Sprint("t", n))
			_, err := s.Read(t.Context())
			if err == nil {
				t.Fatal("one that never comes to rest is taken")
			}
			said[err.Error()]++
			time.Sleep(time.Second)
		}
		if len(said) != 2 || said[source.ErrUnchanged.Error()] > 31 {
			t.Errorf("it says %v", said)
		}
	})
}

// TestNoFile: what is no file is refused at once, in one line, and neither waited
// for nor touched.
func TestNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo, socket, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "s"), filepath.Join(dir, "link")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink(fifo, link)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for path, what := range map[string]string{
		dir: "a directory", fifo: "a named pipe (FIFO)", link: "a named pipe (FIFO)", socket: "a socket", "/dev/zero": "a device", "/dev/null": "a device",
		filepath.Join(dir, "none"): "no such file",
	} {
		s := source.File(path, 0, 0, parse)
		for range 2 {
			wants(t, s, what)
			_, err := s.Read(t.Context())
			if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

func TestFileTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "list")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(source.MaxBytes+1), f.Close()); err != nil { // a hole takes no room
			t.Fatal(err)
		}
		rested(t, source.File(path, time.Second, 0, parse), "more than")
	})
}
