//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/store/etcd"
)

// role is a part of a cluster, for the table of edges: a new one joins by one
// line of roles.
type role struct {
	name string
	// args start it; addr is a free address of its own.
	args func(t *testing.T, addr string) []string
	// ready is a path at addr that answers 200 when it serves.
	ready string
	// reloads says that SIGHUP has it read its configuration again.
	reloads bool
	// up is what it says when all of it has started, if that is after ready.
	up string
}

func roles() []role {
	return []role{
		{"dev", func(_ *testing.T, addr string) []string {
			return []string{"dev", "--http", addr, "--grpc", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--workers", "2", "--log-level", "info"}
		}, "/readyz", false, "Ctrl-C ends everything"},
		{"scheduler", func(t *testing.T, addr string) []string {
			return []string{"scheduler", "--http", addr, "--grpc", "127.0.0.1:0", "--gateway", "", "--data-dir", t.TempDir()}
		}, "/readyz", false, ""},
		{"worker", func(t *testing.T, addr string) []string {
			return []string{
				"worker", "--http", addr, "--schedulers", edgeScheduler(t).grpc, "--name", "w-" + strings.ReplaceAll(addr, ":", "-"),
				"--exec", "hold=/bin/sleep 1000", "--job", "true", "--job-data", t.TempDir(),
			}
		}, "/readyz", false, ""},
		{"supervised worker", func(t *testing.T, addr string) []string {
			return []string{
				"worker", "--supervise", "--http", addr, "--schedulers", edgeScheduler(t).grpc, "--name", "w-" + strings.ReplaceAll(addr, ":", "-"),
				"--exec", "hold=/bin/sleep 1000", "--job", "true", "--job-data", t.TempDir(),
			}
		}, "/readyz", false, ""},
		{"gateway", func(t *testing.T, addr string) []string {
			file := filepath.Join(t.TempDir(), "gateway.yaml")
			if err := os.WriteFile(file, []byte("listen: ["+addr+"]\nworkers: []\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"gateway", "--config", file}
		}, "/status", true, ""},
		{"olscheduler", func(t *testing.T, addr string) []string {
			_, port, _ := net.SplitHostPort(addr)
			file := filepath.Join(t.TempDir(), "ol.json")
			if err := os.WriteFile(file, []byte(`{"host": "127.0.0.1", "port": `+port+`, "workers": []}`), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"start", "-c", file}
		}, "/status", true, ""},
	}
}

// edgeScheduler is a scheduler for a worker under test.
func edgeScheduler(t *testing.T) *sched {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), lease: 5 * time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e, err := etcd.Embed(ctx, etcd.EmbedConfig{DataDir: filepath.Join(c.dir, "etcd"), Listen: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop() })
	s := &sched{c: c, name: "s", etcd: newProxy(t, strings.TrimPrefix(e.Endpoints()[0], "http://"))}
	c.scheds = append(c.scheds, s)
	s.start()
	s.ready()
	return s
}

// A standard error as a process may have it.
var stderrs = map[string]func(t *testing.T) *os.File{
	"file": func(t *testing.T) *os.File { return created(t, filepath.Join(t.TempDir(), "log")) },
	"nobody reads": func(t *testing.T) *os.File {
		r, w := pipe(t)
		t.Cleanup(func() { _ = r.Close() })
		fill(t, w)
		return w
	},
	"reader died": func(t *testing.T) *os.File {
		r, w := pipe(t)
		_ = r.Close()
		return w
	},
	"disk full": func(t *testing.T) *os.File {
		f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	},
	"closed": func(*testing.T) *os.File { return nil },
}

func created(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
}

// fill fills a pipe, so that the next write to it stands still.
func fill(t *testing.T, w *os.File) {
	t.Helper()
	fd := int(w.Fd())
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 4096); ; {
		if _, err := syscall.Write(fd, chunk); errors.Is(err, syscall.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// edge starts a role and waits until it serves.
func (r role) edge(t *testing.T, stderr *os.File, env ...string) *exec.Cmd {
	t.Helper()
	shell := `exec "$@"`
	if stderr == nil {
		shell = `exec "$@" >&- 2>&-`
	}
	_, cmd := r.edgeBehind(t, stderr, shell, env...)
	return cmd
}

// edgeBehind starts a role by a shell, whose script has it as "$@", and waits until
// it serves at addr.
func (r role) edgeBehind(t *testing.T, stderr *os.File, shell string, env ...string) (addr string, cmd *exec.Cmd) {
	t.Helper()
	addr = ports.Addr(t)
	cmd = exec.Command("/bin/sh", append([]string{"-c", shell, "sh", rotaBin}, r.args(t, addr)...)...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	if stderr != nil {
		cmd.Stdout, cmd.Stderr = stderr, stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if stderr != nil {
		_ = stderr.Close()
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	await(t, 30*time.Second, r.name+" serves", func() bool {
		resp, err := http.Get("http://" + addr + r.ready)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return addr, cmd
}

// ends waits for the end of cmd and answers its status.
func ends(t *testing.T, cmd *exec.Cmd, most time.Duration) int {
	t.Helper()
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(most):
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-done
		t.Fatalf("%v did not end within %v", cmd.Args, most)
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		t.Errorf("%v was ended by %v", cmd.Args, ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// TestEdges: whatever becomes of its standard error, and whichever signal asks
// it to, each role serves, ends in order, and leaves nothing in its temporary
// directory.
func TestEdges(t *testing.T) {
	t.Parallel()
	slots := make(chan struct{}, 4)
	for _, r := range roles() {
		check := func(name string, stderr func(*testing.T) *os.File, sig syscall.Signal) {
			t.Run(r.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				tmp := t.TempDir()
				cmd := r.edge(t, stderr(t), "TMPDIR="+tmp)
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				if status := ends(t, cmd, 60*time.Second); status != 0 {
					t.Errorf("status %d", status)
				}
				if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
					t.Errorf("left %v, %v", left, err)
				}
			})
		}
		for name, stderr := range stderrs {
			check("stderr "+name, stderr, syscall.SIGTERM)
		}
		check("SIGINT", stderrs["file"], syscall.SIGINT)
		if !r.reloads {
			check("SIGHUP", stderrs["file"], syscall.SIGHUP)
		}
	}
}

// TestNohup: a process that was started with SIGHUP ignored outlives its terminal.
func TestNohup(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "/usr/bin/nohup", rotaBin, "scheduler", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--data-dir", t.TempDir())
	p.find(t, `msg=ready`, 30*time.Second)
	addr := p.find(t, `http=(\S+)`, time.Second)[1]
	for range 2 { // taken for SIGTERM, the second would end it at once
		p.signal(syscall.SIGHUP)
		resp, err := http.Get("http://" + addr + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(t, 30*time.Second); status != 0 {
		t.Errorf("status %d:\n%s", status, p.out)
	}
}

// TestSecondSignal: who does not want to wait for an orderly end says it twice,
// and is told what was left.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	s := edgeScheduler(t)
	w := start(t, nil, rotaBin, "worker", "--schedulers", s.grpc, "--name", "w", "--exec", `hold=/bin/sh -c 'trap "" TERM; echo up; while :; do sleep 0.1; done'`)
	s.c.apply("a", 1)
	w.find(t, `msg=up .*task=a00`, 30*time.Second)
	w.signal(syscall.SIGINT)
	w.find(t, `msg=leaving`, 30*time.Second)
	w.signal(syscall.SIGINT)
	if status := w.wait(t, 10*time.Second); status != 128+int(syscall.SIGINT) {
		t.Errorf("status %d", status)
	}
	w.find(t, `rota: ended at once \(interrupt\): worker w and all that it ran were killed`, time.Second)
}

// TestSecondHangup: a terminal that closes says so more than once, and a service
// manager may say it after SIGTERM. That hurries nobody: tasks have their grace.
func TestSecondHangup(t *testing.T) {
	t.Parallel()
	s := edgeScheduler(t)
	s.c.apply("a", 1)
	for _, first := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		w := start(t, nil, rotaBin, "worker", "--schedulers", s.grpc, "--name", "w",
			"--exec", `hold=/bin/sh -c 'trap "echo told; sleep 1; echo ended; exit" TERM; echo up; while :; do sleep 0.1; done'`)
		w.find(t, `msg=up .*task=a00`, 30*time.Second)
		w.signal(first)
		w.find(t, `msg=told`, 30*time.Second)
		w.signal(syscall.SIGHUP)
		if status := w.wait(t, 30*time.Second); status != 0 {
			t.Errorf("status %d after %v and SIGHUP:\n%s", status, first, w.out)
		}
		w.find(t, `msg=ended .*task=a00`, time.Second)
	}
}

// TestSecondSignalOfDev: its temporary directory goes, too.
func TestSecondSignalOfDev(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	d := start(t, []string{"TMPDIR=" + tmp}, rotaBin, "dev", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--workers", "1")
	d.find(t, `Ctrl-C ends everything`, 30*time.Second)
	d.signal(syscall.SIGINT)
	d.signal(syscall.SIGTERM) // of the same kind; signals of one number merge
	if status := d.wait(t, 30*time.Second); status != 0 && status != 128+int(syscall.SIGTERM) && status != 128+int(syscall.SIGINT) {
		t.Errorf("status %d", status)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestTaskOutput: what tasks print is in the worker's log, whole lines with their
// task, and every line is JSON where that was asked for.
func TestTaskOutput(t *testing.T) {
	t.Parallel()
	s := edgeScheduler(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(rotaBin, "worker", "--schedulers", s.grpc, "--name", "w", "--log-format", "json", "--log-level", "warn", "--supervise",
		"--exec", `hold=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9; do printf "half "; printf "a line of %s\n" $ROTA_TASK; done; printf "\033[31m\"quoted\"\n" >&2; exec sleep 1000'`)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = r.Close()
	})
	s.c.apply("a", 3)
	lines, quoted := 0, 0
	_ = r.SetReadDeadline(time.Now().Add(60 * time.Second))
	for d := json.NewDecoder(r); lines < 27 || quoted < 3; {
		var l struct{ Msg, Task, Stream string }
		if err := d.Decode(&l); err != nil {
			rest, _ := io.ReadAll(io.LimitReader(d.Buffered(), 1000))
			t.Fatalf("after %d lines: %v at %q", lines, err, rest)
		}
		switch l.Msg {
		case fmt.Sprintf("half a line of %s", l.Task):
			lines++
		case "\033[31m\"quoted\"":
			quoted++
			if l.Stream != "stderr" {
				t.Errorf("%+v", l)
			}
		}
	}
}

// TestServiceManager: each role but rota dev tells a service manager that it is
// ready, alive, reloading where it can, and stopping, in this order.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	for _, r := range roles()[1:] {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(shortDir(t), "notify")
			l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			said := stderrs["file"](t)
			log := said.Name()
			cmd := r.edge(t, said, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=200000")
			next := func() string {
				_ = l.SetReadDeadline(time.Now().Add(30 * time.Second))
				b := make([]byte, 1000)
				n, err := l.Read(b)
				if err != nil {
					text, _ := os.ReadFile(log)
					t.Fatalf("%v; the process says\n%s", err, text)
				}
				return string(b[:n])
			}
			for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
				if got := next(); got != want {
					t.Fatalf("%q, want %q", got, want)
				}
			}
			after := func(sig syscall.Signal, want ...string) {
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				for _, want := range want {
					got := next()
					for got == "WATCHDOG=1" {
						got = next()
					}
					if !strings.HasPrefix(got, want) {
						t.Errorf("%q after %v, want %q", got, sig, want)
					}
				}
			}
			if r.reloads {
				after(syscall.SIGHUP, "RELOADING=1\nMONOTONIC_USEC=", "READY=1")
			}
			after(syscall.SIGTERM, "STOPPING=1")
			if status := ends(t, cmd, 60*time.Second); status != 0 {
				t.Errorf("status %d", status)
			}
		})
	}
}
