package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
		{"memory", Spec{Argv: []string{"sh", "-c", "ulimit -v"}, Limits: Limits{Memory: 64 << 20}}, "exit status 0", "65536\n", ""},
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
	long := make([]string, MaxArgs+1)
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
		{"argv", Spec{Argv: []string{"echo", strings.Repeat("x", MaxArgBytes+1)}}},
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
		{"owner", Spec{Argv: []string{"true"}, Owner: "a\x00"}},
		{"limits.memory", Spec{Argv: []string{"true"}, Limits: Limits{Memory: -1}}},
		{"limits.cpus", Spec{Argv: []string{"true"}, Limits: Limits{CPUs: 1}}},
		{"limits.processes", Spec{Argv: []string{"true"}, Limits: Limits{Processes: 1}, User: &User{}}},
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

// gone waits until the process is no more, or is a zombie that its parent,
// which is not us, has still to bury.
func gone(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := startTime(n); err != nil {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("process %s is still there", pid)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestNothingLeftBehind(t *testing.T) {
	t.Parallel()
	t.Run("of the group", func(t *testing.T) {
		t.Parallel()
		_, out, _ := run(t, Spec{Argv: []string{"sh", "-c", "sleep 1000 & echo $!"}})
		gone(t, strings.TrimSpace(out))
	})
	// One that leaves the group, and of which its parent knows that it has left.
	escape := func(redirect string) string {
		return `setsid sh -c 'echo $$ >pid.new; mv pid.new pid; exec sleep 1000' ` + redirect + ` & until [ -s pid ]; do sleep 0.01; done`
	}
	for name, redirect := range map[string]string{"holding the output": "", "silent": "</dev/null >/dev/null 2>&1"} {
		t.Run("outside of the group, "+name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			run(t, Spec{Argv: []string{"sh", "-c", escape(redirect)}, Dir: dir, Owner: t.Name()})
			pid, err := os.ReadFile(filepath.Join(dir, "pid"))
			if err != nil {
				t.Fatal(err)
			}
			gone(t, strings.TrimSpace(string(pid)))
		})
	}
}

// TestMain is also the worker that gets killed.
func TestMain(m *testing.M) {
	if owner := os.Getenv("PROCESS_TEST_WORKER"); owner != "" {
		_, err := Start(context.Background(), Spec{Owner: owner, Stdout: os.Stdout, Stderr: os.Stderr, Argv: []string{
			"sh", "-c", `setsid sleep 1000 & echo $!; sleep 1001 & echo $!; echo $$; wait`,
		}})
		fmt.Println(err)
		select {}
	}
	os.Exit(m.Run())
}

func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	owner := t.Name() + strconv.Itoa(os.Getpid())
	worker := exec.Command(os.Args[0])
	worker.Env = []string{"PROCESS_TEST_WORKER=" + owner, "PATH=" + DefaultPath}
	stdout, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(stdout)
	var pids []string
	for len(pids) < 3 {
		if l := line(t, out); l != "<nil>" {
			pids = append(pids, l)
		}
	}
	if n, err := Sweep(owner); n != 0 || err != nil {
		t.Errorf("swept %d of a living worker: %v", n, err)
	}
	_ = worker.Process.Kill()
	_ = worker.Wait()
	gone(t, pids[2]) // the leader, by the parent-death signal
	if n, err := Sweep("somebody else"); n != 0 || err != nil {
		t.Errorf("swept %d of another owner: %v", n, err)
	}
	if n, err := Sweep(owner); n != 2 || err != nil {
		t.Errorf("swept %d, %v; want the two that the leader left", n, err)
	}
	gone(t, pids[0])
	gone(t, pids[1])
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

func TestCgroup(t *testing.T) {
	t.Parallel()
	if _, err := OpenCgroup(t.TempDir()); err == nil {
		t.Error("a directory that is none was taken")
	}
	if _, err := OpenCgroup("relative"); err == nil {
		t.Error("a relative path was taken")
	}
	root := cgroupRoot(t)
	if root == "" {
		return // nothing delegated to us: what is above is all that can be seen
	}
	c, err := OpenCgroup(filepath.Join(root, fmt.Sprintf("rota-test-%d", os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	// setsid and an emptied environment do not help against a cgroup.
	dir := t.TempDir()
	_, out, _ := run(t, Spec{Cgroup: c, Dir: dir, Argv: []string{"sh", "-c", `
		setsid env -i PATH="$PATH" sh -c 'echo $$ >pid.new; mv pid.new pid; exec sleep 1000' &
		until [ -s pid ]; do sleep 0.01; done; cat /proc/self/cgroup`}})
	if !strings.Contains(out, "rota-test") {
		t.Errorf("ran outside of its cgroup: %s", out)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, strings.TrimSpace(string(pid)))
	if len(c.controllers) == 0 {
		_, err := Start(t.Context(), Spec{Argv: []string{"true"}, Cgroup: c, Limits: Limits{Memory: 1}})
		var field *rota.FieldError
		if !errors.As(err, &field) || field.Field != "limits.memory" {
			t.Errorf("a limit that nothing keeps: %v", err)
		}
	}
}

// cgroupRoot is a mount of cgroup v2 in which we may make groups.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(mounts)) {
		if f := strings.Fields(l); len(f) > 2 && f[2] == "cgroup2" {
			probe, err := os.MkdirTemp(f[1], "rota-probe-")
			if err == nil {
				_ = os.Remove(probe)
				return f[1]
			}
		}
	}
	return ""
}

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
