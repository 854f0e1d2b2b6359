package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// escapes are the ways in which a shell lets go of the program in $PROG.
var escapes = map[string]string{
	"same group":             `$PROG &`,
	"own group":              `set -m; $PROG &`,
	"own session":            `setsid $PROG &`,
	"twice forked":           `(setsid $PROG &)`,
	"thrice forked":          `(setsid sh -c "$PROG &" &)`,
	"empty environment":      `setsid env -i PATH="$PATH" $PROG &`,
	"all at once":            `(setsid env -i PATH="$PATH" sh -c "trap '' TERM HUP; $PROG &" </dev/null >/dev/null 2>&1 &)`,
	"below one that is left": `(setsid sh -c "$PROG & wait" &)`,
}

// escaper is a command that starts, in one of these ways, a program that writes
// its pid to the file pid, and then runs the words after it.
func escaper(dir, how, then string) Spec {
	program := filepath.Join(dir, "program")
	script := "#!/bin/sh\necho $$ >" + dir + "/pid.new; mv " + dir + "/pid.new " + dir + "/pid\nexec sleep 1000\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		panic(err)
	}
	return Spec{Dir: dir, Argv: []string{"sh", "-c", "PROG=" + program + "; " + how + "\nuntil [ -s pid ]; do sleep 0.01; done; " + then}}
}

func pidIn(t *testing.T, dir string) int {
	t.Helper()
	for {
		b, err := os.ReadFile(filepath.Join(dir, "pid"))
		if err == nil {
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the program has not started")
		case <-time.After(time.Millisecond):
		}
	}
}

// However a program was let go of: it has ended when Wait returns, whether the
// process ended by itself, was stopped or was killed.
func TestNothingEscapes(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*Process){
		"by itself": nil,
		"stopped":   func(p *Process) { p.Stop(50 * time.Millisecond) },
		"killed":    func(p *Process) { p.Stop(0) },
		"by kill":   func(p *Process) { _ = syscall.Kill(p.Pid(), syscall.SIGKILL) },
	}
	for name, how := range escapes {
		for by, end := range ends {
			t.Run(name+", "+by, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				then := ""
				if end != nil {
					then = "sleep 1000"
				}
				p, err := Start(t.Context(), escaper(dir, how, then))
				if err != nil {
					t.Fatal(err)
				}
				pid := pidIn(t, dir)
				if end != nil {
					end(p)
				}
				if _, err := p.Wait(); err != nil {
					t.Error(err)
				}
				if !gone(pid) {
					t.Error("the program lives on")
				}
			})
		}
	}
}

// A stop reaches what has left the group, and its grace holds for it when the
// first process has ended.
func TestStopReachesAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := `trap 'sleep 0.1; echo bye >bye; exit' TERM; echo $$ >pid.new; mv pid.new pid; while :; do sleep 0.01; done`
	p, err := Start(t.Context(), Spec{Dir: dir, Argv: []string{"sh", "-c", `(setsid sh -c "$0" &) ; sleep 1000`, program}})
	if err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, dir)
	p.Stop(time.Minute)
	if exit, err := p.Wait(); err != nil || !exit.Stopped {
		t.Errorf("%v, %v", exit, err)
	}
	if !gone(pid) {
		t.Error("the program lives on")
	}
	if _, err := os.Stat(filepath.Join(dir, "bye")); err != nil {
		t.Error("the program was not let end in order")
	}
}

// What the process left and has ended is buried while the process lives.
func TestNoZombies(t *testing.T) {
	t.Parallel()
	p, out := follow(t.Context(), t, Spec{Argv: []string{"sh", "-c", `for i in 1 2 3 4 5; do (setsid true &); done; echo up; exec sleep 1000`}})
	defer p.Stop(0)
	line(t, out)
	zombies := func() (n int) {
		for _, c := range childrenOf(os.Getpid()) {
			m, ok := markOf(c)
			if s, err := statOf(c); err == nil && s.zombie && ok && m.token() == p.token {
				n++
			}
		}
		return n
	}
	for zombies() > 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("zombies stay")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A child that somebody else started is none of ours, whatever ends.
func TestOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		run(t, Spec{Argv: []string{"sh", "-c", "(setsid true &)"}})
	}
	if gone(cmd.Process.Pid) {
		t.Error("it was ended")
	}
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("its end was taken: %v", err)
	}
}

// A mark is a limit that nobody sets, and names its origin.
func TestMark(t *testing.T) {
	t.Parallel()
	for _, m := range []mark{newMark(1, 0), newMark(4194304-1, tokenMask), newMark(os.Getpid(), 7)} {
		if !m.valid() || uint64(m) == unix.RLIM_INFINITY {
			t.Errorf("%x is no mark", uint64(m))
		}
	}
	if m := newMark(4194303, 5); m.host() != 4194303 || m.token() != 5 {
		t.Errorf("%d, %d", m.host(), m.token())
	}
}

// Sweep ends what has the mark of a dead host, and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		host int
		dies bool
	}{"dead host": {dead.Process.Pid, true}, "living host": {os.Getppid(), false}, "itself": {0, false}, "another host": {unrelated(t), true}} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sleep", "1000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.host == 0 {
				c.host = cmd.Process.Pid
			}
			limit := unix.Rlimit{Cur: uint64(newMark(c.host, 1)), Max: unix.RLIM_INFINITY}
			if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_LOCKS, &limit, nil); err != nil {
				t.Fatal(err)
			}
			Sweep()
			if gone(cmd.Process.Pid) != c.dies {
				t.Errorf("it has ended: %v", !c.dies)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// unrelated is a process that is no ancestor of what the test starts.
func unrelated(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// TestMain is also a worker that gets killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PROCESS_TEST_WORKER"); dir != "" {
		how := escapes["all at once"]
		if os.Getenv("PROCESS_TEST_UNMARKED") != "" {
			how = unmarked
		}
		p, err := Start(context.Background(), escaper(dir, how, "sleep 1000"))
		if err != nil {
			panic(err)
		}
		fmt.Println(p.Pid())
		select {}
	}
	os.Exit(m.Run())
}

// A host that is killed: its own host has ended all below it when it says so.
func TestHostKilled(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped, then killed": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, err := Start(t.Context(), Spec{Argv: []string{os.Args[0]}, Host: true, Env: []string{"PROCESS_TEST_WORKER=" + dir}})
			if err != nil {
				t.Fatal(err)
			}
			pid := pidIn(t, dir)
			_ = syscall.Kill(p.Pid(), sig)
			if sig == syscall.SIGSTOP {
				p.Stop(0)
			}
			if exit, err := p.Wait(); err != nil || exit.Signal != syscall.SIGKILL {
				t.Errorf("%v, %v", exit, err)
			}
			if !gone(pid) {
				t.Error("the program lives on")
			}
		})
	}
}

// unmarked has the program set the limit that is its mark, and leave its group.
const unmarked = `(setsid prlimit --locks=1000: $PROG &)`

// Who has removed its mark and left its group is not found: it outlives its process, and
// the host, too. A cgroup finds it (TestCgroup).
func TestUnmarked(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, dir string) (*Process, int){
		"its process ends": func(t *testing.T, dir string) (*Process, int) {
			p, err := Start(t.Context(), escaper(dir, unmarked, ""))
			if err != nil {
				t.Fatal(err)
			}
			return p, pidIn(t, dir)
		},
		"its host is killed": func(t *testing.T, dir string) (*Process, int) {
			p, err := Start(t.Context(), Spec{Argv: []string{os.Args[0]}, Host: true, Env: []string{"PROCESS_TEST_WORKER=" + dir, "PROCESS_TEST_UNMARKED=1"}})
			if err != nil {
				t.Fatal(err)
			}
			pid := pidIn(t, dir)
			_ = syscall.Kill(p.Pid(), syscall.SIGKILL)
			return p, pid
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, pid := end(t, t.TempDir())
			if _, err := p.Wait(); err != nil {
				t.Error(err)
			}
			if gone(pid) {
				t.Error("it was found: SECURITY.md says that it is not")
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
		})
	}
}

// What nobody adopted is found by the next that starts.
func TestSweepAfterAllDied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	worker := exec.Command(os.Args[0])
	worker.Env = []string{"PROCESS_TEST_WORKER=" + dir, "PATH=" + DefaultPath}
	stdout, err := worker.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	first, err := strconv.Atoi(line(t, bufio.NewScanner(stdout)))
	if err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, dir)
	if Sweep(); gone(pid) || gone(first) {
		t.Error("swept what has a living host")
	}
	_ = worker.Process.Kill()
	_ = worker.Wait()
	for !gone(first) { // the kernel sees to it
		select {
		case <-t.Context().Done():
			t.Fatal("the first process lives on")
		case <-time.After(time.Millisecond):
		}
	}
	if Sweep(); !gone(pid) {
		t.Error("the program lives on")
	}
}

// TestNewPrivileges: what is started gains no privileges, with limits, a user or
// neither, nor do those that it starts; unless its spec says that it may.
func TestNewPrivileges(t *testing.T) {
	t.Parallel()
	look := []string{"sh", "-c", "grep NoNewPrivs /proc/self/status"}
	var me *User
	if os.Getuid() == 0 {
		me = &User{UID: 65534, GID: 65534}
	}
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"by default":  {Spec{}, "1"},
		"with limits": {Spec{Limits: Limits{OpenFiles: 20}}, "1"},
		"as a user":   {Spec{User: me}, "1"},
		"if it may":   {Spec{NewPrivileges: true}, "0"},
		"a host":      {Spec{Host: true}, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.spec.Argv = look
			if _, out, _ := run(t, c.spec); out != "NoNewPrivs:\t"+c.want+"\n" {
				t.Errorf("%q, want %s", out, c.want)
			}
		})
	}
}

// TestInheritedFiles: what this process got from its parent reaches nothing that it
// starts, whatever its number; what the spec hands over does.
func TestInheritedFiles(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_INHERITED") == "" {
		f, err := os.Open("/etc/hostname")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestInheritedFiles$", "-test.v")
		cmd.Env = append(os.Environ(), "TEST_INHERITED=yes")
		for range 200 {
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	given, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = given.Close() }()
	for name, spec := range map[string]Spec{"plain": {}, "limited": {Limits: Limits{OpenFiles: 300}}, "host": {Host: true}, "given": {Files: []*os.File{given}}} {
		want := ""
		if name == "given" {
			want = "3\n"
		}
		spec.Argv = []string{"sh", "-c", "cd /proc/$$/fd; for f in *; do [ $f -lt 3 ] || [ ! -e $f ] || readlink $f | grep -q /fd || echo $f; done"}
		if _, out, _ := run(t, spec); out != want {
			t.Errorf("%s: it has %q, want %q", name, out, want)
		}
	}
}
