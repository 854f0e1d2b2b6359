//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/test/ports"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// nobody is another user of the machine.
const nobody = 65534

// asNobody runs f as another user. A thread takes that user for itself and is
// never used again.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		lacking(t, "root, who alone can be another user")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		for _, call := range []uintptr{syscall.SYS_SETGROUPS, syscall.SYS_SETRESGID, syscall.SYS_SETRESUID} {
			id := uintptr(nobody)
			if call == syscall.SYS_SETGROUPS {
				id = 0
			}
			if _, _, errno := syscall.RawSyscall(call, id, id, id); errno != 0 {
				done <- errno
				return
			}
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// listening finds what the processes below pid listen on: ports, and sockets by path.
func listening(t *testing.T, pids ...int) (ports []int, sockets []string) {
	t.Helper()
	inodes := map[string]bool{}
	for _, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err == nil {
				if inode, ok := strings.CutPrefix(to, "socket:["); ok {
					inodes[strings.TrimSuffix(inode, "]")] = true
				}
			}
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			f := strings.Fields(line)
			if len(f) < 10 || f[3] != "0A" || !inodes[f[9]] {
				continue
			}
			port, err := strconv.ParseUint(f[1][strings.LastIndexByte(f[1], ':')+1:], 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, int(port))
		}
	}
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) == 8 && f[3] == "00010000" && inodes[f[6]] {
			sockets = append(sockets, f[7])
		}
	}
	return ports, sockets
}

// descendants are pid and the processes below it.
func descendants(pid int) []int {
	all := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, word := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(word)
			all = append(all, descendants(child)...)
		}
	}
	return all
}

// noDoors tries everything that the processes listen on and every file below dir
// as another user. Some paths of HTTP are for everybody: the page, health.
func noDoors(t *testing.T, dir string, mayRead map[string]bool, pids ...int) {
	t.Helper()
	ports, sockets := listening(t, pids...)
	if len(ports) == 0 || len(sockets) == 0 {
		t.Errorf("nothing listens: %v, %v", ports, sockets)
	}
	var paths []string
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != dir {
			paths = append(paths, path)
		}
		return nil
	})
	if len(paths) < 10 {
		t.Errorf("only %q are there", paths)
	}
	asNobody(t, func() {
		for _, path := range paths {
			for _, flag := range []int{os.O_RDONLY, os.O_WRONLY} {
				f, err := os.OpenFile(path, flag, 0)
				if err == nil {
					_ = f.Close()
					if flag != os.O_RDONLY || !mayRead[path] {
						t.Errorf("another user can open %s with %d", path, flag)
					}
				}
			}
		}
		for _, s := range sockets {
			if conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", s); err == nil {
				_ = conn.Close()
				t.Errorf("another user can connect to %s", s)
			}
		}
	})
	for _, port := range ports { // who connects to a port is not asked who they are
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		for _, conf := range []*tls.Config{nil, {InsecureSkipVerify: true}} {
			knock(t, addr, conf)
		}
	}
}

// knock asks a port for everything that a cluster or its etcd would do.
func knock(t *testing.T, addr string, conf *tls.Config) {
	t.Helper()
	scheme, creds := "http", insecure.NewCredentials()
	if conf != nil {
		scheme, creds = "https", credentials.NewTLS(conf)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for _, path := range []string{
		"/v1/status", "/v1/tasks", "/v1/workers", "/v1/jobs", "/v1/programs", "/v1/workers/w1:drain", "/v1/tasks:apply", "/v1/jobs:run", "/stream?id=x",
		"/v2/keys", "/v3/kv/range", "/version", "/debug/pprof/",
		"/admin/workers", "/admin/workers/add?workers=http://127.0.0.1:9", "/admin/workers/remove?workers=http://127.0.0.1:9",
		"/api/v1/routes", "/api/v1/gateway",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			req, err := http.NewRequestWithContext(t.Context(), method, scheme+"://"+addr+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				continue
			}
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
			_ = resp.Body.Close()
			if resp.StatusCode < 300 {
				t.Errorf("%s %s://%s%s: %d %q", method, scheme, addr, path, resp.StatusCode, body)
			}
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, call := range map[string]func(context.Context) error{
		"status": func(ctx context.Context) error {
			_, err := rotav1.NewClusterClient(conn).GetStatus(ctx, &rotav1.GetStatusRequest{})
			return err
		},
		"apply": func(ctx context.Context) error {
			_, err := rotav1.NewTasksClient(conn).ApplyTasks(ctx, &rotav1.ApplyTasksRequest{})
			return err
		},
		"session": func(ctx context.Context) error {
			s, err := rotav1.NewSessionsClient(conn).Connect(ctx)
			if err == nil {
				_ = s.Send(&rotav1.FromWorker{Body: &rotav1.FromWorker_Hello{Hello: &rotav1.Hello{}}})
				_, err = s.Recv()
			}
			return err
		},
		"etcd": func(ctx context.Context) error {
			_, err := etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("rota")})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if call(ctx) == nil {
			t.Errorf("%s (%s) answers %s", addr, scheme, name)
		}
		cancel()
	}
}

// passable is a directory that other users may pass through, as a home often is.
func passable(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTwoMinutes does what SECURITY.md says, word by word, and then tries as
// another user of the machine every port and every file.
func TestTwoMinutes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, recipe, ok := strings.Cut(string(text), "## In two minutes\n")
	recipe, _, ok2 := strings.Cut(recipe, "\n\n")
	if !ok || !ok2 {
		t.Fatal("SECURITY.md has no two minutes")
	}
	dir := passable(t)
	scripts := filepath.Join(dir, "scripts")
	if err := os.Mkdir(scripts, 0o755); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(scripts, "report.sh")
	if err := os.WriteFile(report, []byte("echo the report\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The names and ports of a machine of our own.
	recipe = strings.NewReplacer(
		"\\\n", " ", "s1.example.org", "localhost", "50000", strconv.Itoa(ports.Free(t)), "3000", strconv.Itoa(ports.Free(t)), "/srv/scripts", scripts,
	).Replace(recipe)
	env := []string{"PATH=" + filepath.Dir(rotaBin) + ":" + os.Getenv("PATH"), "HOME=" + dir}
	var pids []int
	seen := 0
	for line := range strings.SplitSeq(recipe, "\n") {
		line = strings.TrimSpace(line)
		if name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "="); ok && strings.HasPrefix(line, "export ") {
			env = append(env, name+"="+value)
			continue
		}
		seen++
		var p *proc
		switch {
		case strings.HasPrefix(line, "rota scheduler"):
			p = start(t, env, "/bin/sh", "-c", "umask 022; cd "+dir+" && exec "+line)
			p.find(t, `msg=ready`, 30*time.Second)
		case strings.HasPrefix(line, "rota worker"):
			p = start(t, env, "/bin/sh", "-c", "umask 022; cd "+dir+" && exec "+line)
			p.find(t, `session opened`, 30*time.Second)
		default:
			p := start(t, env, "/bin/sh", "-c", "umask 022; cd "+dir+" && "+line)
			if status := p.wait(t, 30*time.Second); status != 0 {
				t.Fatalf("%s: status %d: %s", line, status, p.out)
			}
			if strings.Contains(line, "job run") && !strings.Contains(p.out.String(), "the report") {
				t.Errorf("%s: %s", line, p.out)
			}
			continue
		}
		pids = append(pids, descendants(p.cmd.Process.Pid)...)
	}
	if seen < 7 {
		t.Fatalf("only %d commands in %q", seen, recipe)
	}
	noDoors(t, dir, map[string]bool{scripts: true, report: true}, pids...)
}

// TestDevDoors: rota dev lets its user in without an option, by the command line,
// a worker and the console's address, and other users of the machine not at all.
func TestDevDoors(t *testing.T) {
	t.Parallel()
	dir := passable(t)
	env := []string{"HOME=" + dir, "TMPDIR=" + dir}
	rota := func(args ...string) (int, string) {
		p := start(t, env, rotaBin, args...)
		return p.wait(t, 30*time.Second), p.out.String()
	}
	devs := map[string]*proc{}
	for _, name := range []string{"first", "second"} {
		log, err := os.Create(filepath.Join(dir, name+".out"))
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Chmod(0o644); err != nil {
			t.Fatal(err)
		}
		d := start(t, env, "/bin/sh", "-c", "exec "+rotaBin+" dev --http 127.0.0.1:0 --grpc 127.0.0.1:0 --gateway 127.0.0.1:0 --workers 1 | tee "+log.Name())
		_ = log.Close()
		m := d.find(t, `(?s)console   (http://\S+?)/#token=(rota_\w\S*).*gRPC API  (\S+)\n.*Ctrl-C`, 60*time.Second)
		http1, token, grpcA := m[1], m[2], m[3]
		devs[grpcA] = d
		if name == "first" { // the only one is found wherever it listens
			if status, text := rota("status"); status != 0 || !strings.Contains(text, grpcA) {
				t.Errorf("rota status: %d, %s", status, text)
			}
		}
		for _, args := range [][]string{{"status"}, {"task", "list"}, {"job", "run", "--wait", "--server", grpcA, "--", "echo", "hi"}} {
			if args[0] != "job" {
				args = append(args, "--server", grpcA)
			}
			if status, text := rota(args...); status != 0 {
				t.Errorf("rota %v: %d, %s", args, status, text)
			}
		}
		for header, want := range map[string]int{"": http.StatusUnauthorized, "Bearer " + token: http.StatusOK} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, http1+"/v1/status", nil)
			if err != nil {
				t.Fatal(err)
			}
			if header != "" {
				req.Header.Set("Authorization", header)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("status with %q: %d, want %d", header, resp.StatusCode, want)
			}
		}
		w := start(t, env, rotaBin, "worker", "--name", "mine", "--schedulers", grpcA, "--exec", "hold=/bin/sleep 1000")
		w.find(t, "session opened", 30*time.Second)
		noDoors(t, dir, map[string]bool{log.Name(): true, filepath.Join(dir, "first.out"): true}, descendants(d.cmd.Process.Pid)...)
		// Where others may read what it prints, its token is not in it.
		out := filepath.Join(dir, name+".public")
		quiet := start(t, env, "/bin/sh", "-c", "umask 022; exec "+rotaBin+" dev --http 127.0.0.1:0 --grpc 127.0.0.1:0 --gateway '' --workers 1 > "+out)
		await(t, 60*time.Second, "a greeting", func() bool {
			b, _ := os.ReadFile(out)
			return bytes.Contains(b, []byte("Ctrl-C"))
		})
		if b, _ := os.ReadFile(out); regexp.MustCompile(`rota_[0-9a-f]`).Match(b) {
			t.Errorf("the token is printed where others read:\n%s", b)
		}
		quiet.signal(syscall.SIGINT)
		quiet.wait(t, 30*time.Second)
		_ = os.Remove(out)
	}
	// One that was killed is not found any more.
	for addr, d := range devs {
		for _, pid := range descendants(d.cmd.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		d.wait(t, 10*time.Second)
		if status, text := rota("status", "--server", addr); status == 0 || !strings.Contains(text, "no scheduler answers") {
			t.Errorf("of a killed one: %d, %s", status, text)
		}
	}
	d := start(t, env, rotaBin, "dev", "--insecure", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--gateway", "", "--workers", "1")
	m := d.find(t, `(?s)console   (http://\S+?)/\n.*gRPC API  (\S+)\n.*every user of this machine is an admin.*Ctrl-C`, 60*time.Second)
	if status, text := rota("status", "--server", m[2]); status != 0 {
		t.Errorf("--insecure: %d, %s", status, text)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".cache", "rota", "*", "*")); len(left) > 2 { // the killed ones'
		t.Errorf("left %v", left)
	}
}
