package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota"
)

func run(t *testing.T, spec Spec) (Exit, string, string) {
	t.Helper()
	var out, errOut bytes.Buffer
	spec.Stdout, spec.Stderr = &out, &errOut
	p, err := Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return exit, out.String(), errOut.String()
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		name     string
		spec     Spec
		exit     string
		out, err string
	}{
		{"status", Spec{Argv: []string{"sh", "-c", "exit 3"}}, "exit status 3", "", ""},
		{"both outputs", Spec{Argv: []string{"sh", "-c", "echo a; echo b >&2"}}, "exit status 0", "a\n", "b\n"},
		{"signal", Spec{Argv: []string{"sh", "-c", "kill -9 $$"}}, "signal: killed", "", ""},
		{"no shell", Spec{Argv: []string{"echo", "$HOME; *"}}, "exit status 0", "$HOME; *\n", ""},
		{"clean environment", Spec{Argv: []string{"env"}, Env: []string{"A=1"}}, "exit status 0", "A=1\nPATH=" + DefaultPath + "\n", ""},
		{"stdin", Spec{Argv: []string{"cat"}, Stdin: strings.NewReader("x\x00y")}, "exit status 0", "x\x00y", ""},
		{"no stdin", Spec{Argv: []string{"cat"}}, "exit status 0", "", ""},
		{"dir", Spec{Argv: []string{"pwd"}, Dir: dir}, "exit status 0", dir + "\n", ""},
		{"unread stdin", Spec{Argv: []string{"true"}, Stdin: strings.NewReader(strings.Repeat("x", 1<<20))}, "exit status 0", "", ""},
		{"a reader that never ends", Spec{Argv: []string{"true"}, Stdin: blocked{t.Context()}}, "exit status 0", "", ""},
		{"open files", Spec{Argv: []string{"sh", "-c", "ulimit -n"}, Limits: Limits{OpenFiles: 17}}, "exit status 0", "17\n", ""},
		{"address space", Spec{Argv: []string{"sh", "-c", "ulimit -v"}, Limits: Limits{AddressSpace: 64 << 20}}, "exit status 0", "65536\n", ""},
		{"cpu time", Spec{Argv: []string{"sh", "-c", "ulimit -t"}, Limits: Limits{CPUTime: 1500 * time.Millisecond}}, "exit status 0", "2\n", ""},
		{"cpu time over", Spec{Argv: []string{"sh", "-c", "while :; do :; done"}, Limits: Limits{CPUTime: time.Second}}, "signal: CPU time limit exceeded", "", ""},
		{"file size", Spec{Argv: []string{"dd", "if=/dev/zero", "of=" + filepath.Join(dir, "big"), "bs=4096", "count=2"}, Limits: Limits{FileSize: 4096}}, "signal: file size limit exceeded", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			exit, out, errOut := run(t, c.spec)
			if exit.String() != c.exit || out != c.out || errOut != c.err {
				t.Errorf("got %q, %q, %q; want %q, %q, %q", exit, out, errOut, c.exit, c.out, c.err)
			}
		})
	}
}

type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, io.EOF
}

func TestSpecAtFault(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := make([]string, maxArgs+1)
	for i := range long {
		long[i] = "x"
	}
	for _, c := range []struct {
		field string
		spec  Spec
	}{
		{"argv", Spec{}},
		{"argv", Spec{Argv: []string{""}}},
		{"argv", Spec{Argv: long}},
		{"argv", Spec{Argv: []string{"echo", "a\x00b"}}},
		{"argv", Spec{Argv: []string{"echo", strings.Repeat("x", maxArgBytes+1)}}},
		{"argv", Spec{Argv: []string{"no-such-program"}}},
		{"argv", Spec{Argv: []string{file}}},
		{"argv", Spec{Argv: []string{"/"}}},
		{"env", Spec{Argv: []string{"true"}, Env: []string{"A=\x00"}}},
		{"env", Spec{Argv: []string{"true"}, Env: []string{"A"}}},
		{"env", Spec{Argv: []string{"true"}, Env: []string{"=A"}}},
		{"dir", Spec{Argv: []string{"true"}, Dir: "relative"}},
		{"dir", Spec{Argv: []string{"true"}, Dir: file}},
		{"dir", Spec{Argv: []string{"true"}, Dir: "/no/such/dir"}},
		{"grace", Spec{Argv: []string{"true"}, Grace: -1}},
		{"limits.memory", Spec{Argv: []string{"true"}, Limits: Limits{Memory: -1}}},
		{"limits.cpus", Spec{Argv: []string{"true"}, Limits: Limits{CPUs: 1}}},
		{"limits.memory", Spec{Argv: []string{"true"}, Limits: Limits{Memory: 1}}},
		{"limits.processes", Spec{Argv: []string{"true"}, Limits: Limits{Processes: 1}, User: &User{UID: 7}}},
		{"limits.user_processes", Spec{Argv: []string{"true"}, Limits: Limits{UserProcesses: 1}}},
		{"limits.user_processes", Spec{Argv: []string{"true"}, Limits: Limits{UserProcesses: 1}, User: &User{}}},
		{"limits.address_space", Spec{Argv: []string{"true"}, Limits: Limits{AddressSpace: -1}}},
	} {
		_, err := Start(t.Context(), c.spec)
		var field *rota.FieldError
		if !errors.As(err, &field) || field.Field != c.field {
			t.Errorf("%+.80v: got %v; want an error of field %s", c.spec, err, c.field)
		}
	}
	if _, err := Start(t.Context(), Spec{Argv: []string{"/no/such/program"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("program that is not there: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ended, Spec{Argv: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("context that has ended: %v", err)
	}
}

// follow starts spec and returns the lines of its stdout as they come.
func follow(ctx context.Context, t *testing.T, spec Spec) (*Process, *bufio.Scanner) {
	t.Helper()
	r, w := io.Pipe()
	spec.Stdout = w
	p, err := Start(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-p.Done()
		_ = w.Close()
	}()
	return p, bufio.NewScanner(r)
}

func line(t *testing.T, s *bufio.Scanner) string {
	t.Helper()
	if !s.Scan() {
		t.Fatalf("output ended: %v", s.Err())
	}
	return s.Text()
}

func TestStop(t *testing.T) {
	t.Parallel()
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		p, out := follow(t.Context(), t, Spec{Argv: []string{"sh", "-c", `trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done`}})
		line(t, out)
		p.Stop(time.Minute)
		if got := line(t, out); got != "bye" {
			t.Errorf("got %q", got)
		}
		if exit, err := p.Wait(); err != nil || exit.Code != 7 || !exit.Stopped {
			t.Errorf("got %+v, %v", exit, err)
		}
		p.Stop(0) // one that has ended
	})
	t.Run("killed after its grace", func(t *testing.T) {
		t.Parallel()
		p, out := follow(t.Context(), t, Spec{Argv: []string{"sh", "-c", `trap '' TERM; echo up; while :; do sleep 1; done`}})
		line(t, out)
		p.Stop(time.Hour)
		p.Stop(10 * time.Millisecond) // brings the end forward
		if exit, _ := p.Wait(); exit.Signal != syscall.SIGKILL || !exit.Stopped || exit.String() != "signal: killed" {
			t.Errorf("got %v", exit)
		}
	})
	t.Run("one that is stopped by a signal", func(t *testing.T) {
		t.Parallel()
		p, out := follow(t.Context(), t, Spec{Argv: []string{"sh", "-c", `echo up; kill -STOP $$; sleep 1000`}})
		line(t, out)
		p.Stop(time.Minute)
		if exit, _ := p.Wait(); exit.Signal != syscall.SIGTERM {
			t.Errorf("got %v", exit)
		}
	})
	t.Run("by its context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		p, out := follow(ctx, t, Spec{Argv: []string{"sh", "-c", `trap '' TERM; echo up; while :; do sleep 1; done`}, Grace: 10 * time.Millisecond})
		line(t, out)
		cancel()
		if exit, _ := p.Wait(); exit.Signal != syscall.SIGKILL {
			t.Errorf("got %v", exit)
		}
	})
	t.Run("not asked for", func(t *testing.T) {
		t.Parallel()
		if exit, _, _ := run(t, Spec{Argv: []string{"true"}}); exit.Stopped || !exit.Success() {
			t.Errorf("got %+v", exit)
		}
	})
}

func TestUser(t *testing.T) {
	t.Parallel()
	spec := Spec{Argv: []string{"sh", "-c", "id -u; id -g; cat /proc/self/status"}, User: &User{UID: 65534, GID: 65534}}
	if os.Geteuid() != 0 {
		spec.User.UID++ // surely not ours
		if _, err := Start(t.Context(), spec); !errors.Is(err, os.ErrPermission) {
			t.Errorf("another user without being root: %v", err)
		}
		return
	}
	_, out, errOut := run(t, spec)
	if !strings.HasPrefix(out, "65534\n65534\n") || strings.Contains(out, "Groups:\t0") {
		t.Errorf("got %s%s", out, errOut)
	}
}

func TestOutputThatFails(t *testing.T) {
	t.Parallel()
	p, err := Start(t.Context(), Spec{Argv: []string{"yes"}, Stdout: failing{}})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	if !errors.Is(err, os.ErrInvalid) && exit.Signal != syscall.SIGPIPE {
		t.Errorf("got %v, %v", exit, err)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrInvalid }

func BenchmarkStart(b *testing.B) {
	for _, c := range []struct {
		name   string
		limits Limits
	}{{"bare", Limits{}}, {"limits", Limits{OpenFiles: 64}}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				p, err := Start(b.Context(), Spec{Argv: []string{"/bin/true"}, Limits: c.limits})
				if err != nil {
					b.Fatal(err)
				}
				if exit, err := p.Wait(); err != nil || !exit.Success() {
					b.Fatal(exit, err)
				}
			}
		})
	}
}
