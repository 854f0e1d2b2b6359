//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDescriptorsAtLimit: each role whose clients take all the descriptors that it
// may have serves again when they let go, and ends in order.
func TestDescriptorsAtLimit(t *testing.T) {
	t.Parallel()
	for _, r := range roles() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "log")
			t.Cleanup(func() {
				if b, _ := os.ReadFile(log); t.Failed() {
					t.Logf("%s", b[max(0, len(b)-5000):])
				}
			})
			addr, cmd := r.edgeBehind(t, created(t, log), `ulimit -n 200; exec "$@"`)
			await(t, 30*time.Second, r.name+" is up", func() bool {
				b, err := os.ReadFile(log)
				return err == nil && strings.Contains(string(b), r.up)
			})
			for range 3 {
				var held []net.Conn
				for range 400 {
					c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
					if err != nil {
						break // nobody accepts any more
					}
					held = append(held, c)
				}
				for _, c := range held {
					_ = c.Close()
				}
			}
			await(t, 60*time.Second, r.name+" serves again", func() bool {
				resp, err := (&http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + addr + r.ready)
				if err != nil {
					return false
				}
				_ = resp.Body.Close()
				return resp.StatusCode == http.StatusOK
			})
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if status := ends(t, cmd, 60*time.Second); status != 0 {
				t.Errorf("status %d", status)
			}
		})
	}
}

// shortage is something that a worker runs out of.
type shortage struct {
	name string
	// shell starts the worker, "$@"; "$0" is the directory of its jobs' outputs.
	shell string
	// begin has it run out, and returns what ends that.
	begin func(t *testing.T, w *wrk, dir string) (end func())
	// waits is what a job says that has to wait meanwhile; empty if none has to.
	waits string
	// told is what a job says that has run meanwhile.
	told string
}

var shortages = []shortage{
	{name: "disk", shell: `mount -t tmpfs -o size=1m none "$0" && exec "$@"`, begin: fillDisk, told: "no space left on device"},
	{name: "inodes", shell: `mount -t tmpfs -o nr_inodes=20 none "$0" && exec "$@"`, begin: fillInodes, told: "no space left on device"},
	{name: "size of files", shell: `ulimit -f 1; exec "$@"`, begin: func(*testing.T, *wrk, string) func() { return func() {} }, told: "file too large"},
	{name: "descriptors", shell: `exec "$@"`, begin: takeDescriptors, waits: "too many open files"},
}

// seenBy is a path as a worker sees it that has a file system of its own.
func seenBy(w *wrk, path string) string { return fmt.Sprintf("/proc/%d/root%s", w.pid(), path) }

func fillDisk(t *testing.T, w *wrk, dir string) func() {
	t.Helper()
	name := seenBy(w, filepath.Join(dir, "fill"))
	f := created(t, name)
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
	_ = f.Close()
	return func() { _ = os.Remove(name) }
}

func fillInodes(t *testing.T, w *wrk, dir string) func() {
	t.Helper()
	var names []string
	for n := 0; ; n++ {
		name := seenBy(w, filepath.Join(dir, fmt.Sprintf("fill%d", n)))
		err := os.WriteFile(name, nil, 0o600)
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return func() {
		for _, name := range names {
			_ = os.Remove(name)
		}
	}
}

// takeDescriptors lets the worker open nothing any more.
func takeDescriptors(t *testing.T, w *wrk, _ string) func() {
	t.Helper()
	pid := w.pid()
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 3
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &none, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
			t.Error(err)
		}
	}
}

// TestShortages: a worker that runs out of something. What its jobs write is there
// for whoever follows, a loss is told and is no success, and what cannot be begun
// waits until it can.
func TestShortages(t *testing.T) {
	t.Parallel()
	unshare := program(t, "unshare")
	for _, s := range shortages {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, 0, 5*time.Second)
			dir := t.TempDir()
			w := &wrk{c: c, name: "w", proxies: []*proxy{newProxy(t, c.scheds[0].grpc)}}
			cmd := exec.Command(unshare, "-m", "/bin/sh", "-c", s.shell, dir, rotaBin, "worker", "--name", w.name, "--schedulers", w.proxies[0].addr,
				"--exec", fmt.Sprintf("hold=%s %s %s {{.ID}} {{.Generation}}", holderBin, c.record.socket, w.name), "--job", "any", "--job-data", dir)
			if os.Getuid() != 0 {
				cmd.Args = append([]string{unshare, "-Urm"}, cmd.Args[2:]...)
			}
			w.proc = startCmd(t, nil, cmd)
			c.workers = append(c.workers, w)
			await(t, 20*time.Second, "the worker is there", func() bool { return len(c.scheds[0].pids()) == 1 })
			w.proc.find(t, `msg="takes jobs"`, 20*time.Second)
			servers := []string{c.scheds[0].grpc}

			end := s.begin(t, w, dir)
			c.apply("a", 1)
			id := "0190a6e0-0000-7000-8000-00000000000a"
			hello := []string{"--id", id, "--", "sh", "-c", "echo hello; seq 500"}
			c.job(t, append([]string{"job", "run"}, hello...)...)
			short := startFollower(t, servers, append([]string{"job", "run", "--wait"}, hello...)...)
			if s.waits != "" {
				await(t, 30*time.Second, "the job says why it waits", func() bool {
					return strings.Contains(c.job(t, "job", "get", id), s.waits)
				})
				await(t, 30*time.Second, "the task says why it does not run", func() bool { return strings.Contains(c.job(t, "why", "a00"), s.waits) })
				end()
			}
			short.end(0)
			if out := short.proc.out.String(); !strings.HasPrefix(out, "hello\n1\n2\n") || !strings.HasSuffix(out, "\n499\n500\n") || strings.Count(out, "\n") != 501 {
				t.Errorf("%.100q; %s", out, short.errs)
			}
			if s.told != "" {
				for _, text := range []string{short.errs.String(), c.job(t, "job", "get", id)} {
					if !strings.Contains(text, s.told) {
						t.Errorf("%q is not told: %s", s.told, text)
					}
				}
				// Far more than memory holds, to one who comes late.
				id = "0190a6e0-0000-7000-8000-00000000000b"
				c.job(t, "job", "run", "--id", id, "--", "head", "-c", "2000000", "/dev/zero")
				await(t, 30*time.Second, "it has ended", func() bool { return strings.Contains(c.job(t, "job", "get", id), "succeeded") })
				long := startFollower(t, servers, "job", "run", "--wait", "--id", id, "--", "head", "-c", "2000000", "/dev/zero")
				long.end(1)
				long.says(`rota: the job succeeded, but \d+ bytes of its output are lost: \d+ bytes of output are lost: .*`+s.told, 1)
				if got := c.job(t, "job", "get", id); !strings.Contains(got, "bytes of output are lost") {
					t.Errorf("%s", got)
				}
			}
			if s.waits == "" {
				end()
			}
			await(t, 60*time.Second, "the task runs", func() bool { return c.once(1) })
			c.stop()
		})
	}
}
