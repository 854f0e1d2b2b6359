//go:build linux

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/store/etcd"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Binaries, built once.
var rotaBin, holderBin string

func TestMain(m *testing.M) {
	if signal.Ignored(syscall.SIGHUP) {
		// Run under nohup: what is caught here is the default in the processes under test.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	if addr := os.Getenv("E2E_STUBBORN"); addr != "" {
		os.Exit(stubborn(addr))
	}
	if name := os.Getenv("E2E_REPLICA"); name != "" {
		os.Exit(runReplica(name))
	}
	if n := os.Getenv("E2E_MEMBER"); n != "" {
		os.Exit(runMember(n, os.Getenv("E2E_MEMBER_DIR")))
	}
	if dir := os.Getenv("E2E_BINARIES"); dir != "" {
		rotaBin, holderBin = filepath.Join(dir, "rota"), filepath.Join(dir, "holder")
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "rota-e2e-*")
	if err == nil {
		rotaBin, holderBin = filepath.Join(dir, "rota"), filepath.Join(dir, "holder")
		err = errors.Join(build(rotaBin, "../../cmd/rota"), build(holderBin, "./holder"))
	}
	status := 1
	if err == nil {
		status = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

func build(to, pkg string) error {
	out, err := exec.Command("go", "build", "-o", to, pkg).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// output is what a process writes.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// proc is a running process.
type proc struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
}

// start starts a program; the test's end kills it.
func start(t *testing.T, env []string, name string, args ...string) *proc {
	t.Helper()
	return startCmd(t, env, exec.Command(name, args...))
}

func startCmd(t *testing.T, env []string, cmd *exec.Cmd) *proc {
	t.Helper()
	p := &proc{cmd: cmd, out: newOutput(), done: make(chan struct{})}
	p.cmd.Stdout = p.out
	if p.cmd.Stderr == nil {
		p.cmd.Stderr = p.out
	}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGCONT)
		p.signal(syscall.SIGKILL)
		<-p.done
		if t.Failed() {
			out := p.out.String()
			t.Logf("%s:\n%s", strings.Join(cmd.Args, " "), out[max(0, len(out)-3000):])
		}
	})
	return p
}

func (p *proc) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// wait waits for the process's end and answers its status.
func (p *proc) wait(t *testing.T, most time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(most):
		p.signal(syscall.SIGQUIT) // says what it is at
		<-p.done
		t.Fatalf("%v has not ended within %v:\n%s", p.cmd.Args, most, p.out)
		return -1
	}
}

// find waits for a line of output and answers the submatches.
func (p *proc) find(t *testing.T, pattern string, most time.Duration) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(most)
	for {
		p.out.mu.Lock()
		m, changed := re.FindStringSubmatch(p.out.text.String()), p.out.changed
		p.out.mu.Unlock()
		if m != nil {
			return m
		}
		select {
		case <-changed:
		case <-p.done:
			if m := re.FindStringSubmatch(p.out.String()); m != nil {
				return m
			}
			t.Fatalf("%v ended before it said %q:\n%s", p.cmd.Args, pattern, p.out)
		case <-deadline:
			t.Fatalf("%v has not said %q within %v", p.cmd.Args, pattern, most)
		}
	}
}

// cluster is schedulers on one etcd and workers, each behind proxies.
type cluster struct {
	t       *testing.T
	record  *record
	dir     string
	lease   time.Duration
	scheds  []*sched
	workers []*wrk
	bin     string // of its workers, if it is another
}

type sched struct {
	c          *cluster
	name       string
	proc       *proc
	front      *proxy   // to its gRPC, if it tells others where that is
	etcd       *proxy   // nil on an etcd of three
	endpoints  string   // those of an etcd of three; else etcd is
	keeps      []string // in place of both: how it keeps the store with others
	bin        string   // if it is another
	grpc, http string
	conn       *grpc.ClientConn // to its gRPC, since it was last ready
}

type wrk struct {
	c       *cluster
	name    string
	proc    *proc
	proxies []*proxy // to each scheduler
	extra   []string
	bin     string // if it is another
}

func newCluster(t *testing.T, schedulers, workers int, lease time.Duration, extra ...string) *cluster {
	t.Helper()
	c := idleCluster(t, schedulers, lease)
	c.begin(workers, extra...)
	return c
}

// idleCluster is a cluster that begin starts.
func idleCluster(t *testing.T, schedulers int, lease time.Duration) *cluster {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e, err := etcd.Embed(ctx, etcd.EmbedConfig{DataDir: filepath.Join(dir, "etcd"), Listen: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{t: t, dir: dir, lease: lease}
	for n := range schedulers {
		c.scheds = append(c.scheds, &sched{c: c, name: fmt.Sprintf("s%d", n), etcd: newProxy(t, strings.TrimPrefix(e.Endpoints()[0], "http://"))})
	}
	return c
}

// newClusterOn is a cluster on an etcd of three. Each scheduler begins at another
// member.
func newClusterOn(t *testing.T, ms *members, schedulers, workers int, lease time.Duration, extra ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: ms.dir, lease: lease}
	for n := range schedulers {
		var list []string
		for i := range ms.all {
			list = append(list, ms.all[(n+i)%len(ms.all)].endpoint())
		}
		c.scheds = append(c.scheds, &sched{c: c, name: fmt.Sprintf("s%d", n), endpoints: strings.Join(list, ",")})
	}
	c.begin(workers, extra...)
	return c
}

// begin starts the schedulers and workers.
func (c *cluster) begin(workers int, extra ...string) {
	t := c.t
	t.Helper()
	c.record = newRecord(t, shortDir(t))
	for _, s := range c.scheds {
		s.start()
	}
	for _, s := range c.scheds {
		s.ready()
	}
	for n := range workers {
		w := &wrk{c: c, name: fmt.Sprintf("w%d", n), extra: extra, bin: c.bin}
		for _, s := range c.scheds {
			w.proxies = append(w.proxies, newProxy(t, s.grpc))
		}
		c.workers = append(c.workers, w)
		w.start()
	}
	// What a test declares is to be placed once, and not again for each that joins.
	for _, s := range c.scheds {
		await(t, 20*time.Second, s.name+" knows all workers", func() bool { return len(s.pids()) == workers })
	}
}

// shortDir is a directory whose path is short enough for a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// start starts the scheduler; workers know it by their proxies only, unless it has
// a front.
func (s *sched) start() {
	at := s.keeps
	switch {
	case at != nil:
	case s.endpoints != "":
		at = []string{"--etcd", s.endpoints}
	default:
		at = []string{"--etcd", "http://" + s.etcd.addr}
	}
	advertise := "127.0.0.1:9"
	if s.front != nil {
		advertise = s.front.addr
	}
	s.proc = start(s.c.t, nil, cmp.Or(s.bin, rotaBin), append([]string{
		"scheduler", "--name", s.name,
		"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--advertise-grpc", advertise, "--lease", s.c.lease.String(),
		"--suspect-after", "0",
	}, at...)...) // workers die all the time here, and no task is to blame
}

// pids are the processes of the workers, as the scheduler's API has them.
func (s *sched) pids() map[string]int {
	ctx, cancel := context.WithTimeout(s.c.t.Context(), 5*time.Second)
	defer cancel()
	r, err := rotav1.NewWorkersClient(s.conn).ListWorkers(ctx, &rotav1.ListWorkersRequest{})
	if err != nil {
		s.c.t.Fatal(err)
	}
	out := map[string]int{}
	for _, w := range r.GetWorkers() {
		out[w.GetName()] = int(w.GetPid())
	}
	return out
}

// ready waits until the scheduler serves.
func (s *sched) ready() {
	m := s.proc.find(s.c.t, `msg=ready .*http=(\S+) grpc=(\S+)`, time.Minute)
	s.http, s.grpc = m[1], m[2]
	s.conn = dial(s.c.t, s.grpc)
	if s.front != nil {
		s.front.to(s.grpc)
	}
	n := 0
	for i, o := range s.c.scheds {
		if o == s {
			n = i
		}
	}
	for _, w := range s.c.workers {
		w.proxies[n].to(s.grpc)
	}
}

func (w *wrk) start() {
	var list []string
	for _, p := range w.proxies {
		list = append(list, p.addr)
	}
	args := []string{"worker", "--name", w.name, "--schedulers", strings.Join(list, ",")}
	if !slices.Contains(w.extra, "--exec") {
		args = append(args, "--exec", fmt.Sprintf("hold=%s %s %s {{.ID}} {{.Generation}}", holderBin, w.c.record.socket, w.name))
	}
	w.proc = start(w.c.t, nil, cmp.Or(w.bin, rotaBin), append(args, w.extra...)...)
}

// hold holds up all that the worker sends, or gets.
func (w *wrk) hold(up, down bool) {
	for _, p := range w.proxies {
		p.hold(up, down)
	}
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// living is a scheduler that lives.
func (c *cluster) living() *sched {
	for _, s := range c.scheds {
		select {
		case <-s.proc.done:
		default:
			return s
		}
	}
	c.t.Fatal("no scheduler lives")
	return nil
}

// apply declares tasks that hold.
func (c *cluster) apply(prefix string, n int) {
	c.t.Helper()
	r := &rotav1.ApplyTasksRequest{}
	for i := range n {
		r.Tasks = append(r.Tasks, &rotav1.TaskDefinition{Id: fmt.Sprintf("%s%02d", prefix, i), Kind: "hold"})
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	if _, err := rotav1.NewTasksClient(c.living().conn).ApplyTasks(ctx, r, grpc.WaitForReady(true)); err != nil {
		c.t.Fatal(err)
	}
}

// await waits until cond holds.
func await(t *testing.T, most time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for tick := time.NewTicker(5 * time.Millisecond); !cond(); <-tick.C {
		if time.Since(began) > most {
			tick.Stop()
			t.Fatalf("not within %v: %s", most, what)
		}
	}
	return time.Since(began)
}

// once reports whether n tasks run, each once.
func (c *cluster) once(n int) bool {
	tasks, _ := c.record.running()
	for _, k := range tasks {
		if k != 1 {
			return false
		}
	}
	return len(tasks) == n
}

// stop ends everything in order: workers first, so that each task stops.
func (c *cluster) stop() {
	c.t.Helper()
	for _, w := range c.workers {
		w.proc.signal(syscall.SIGTERM)
	}
	for _, w := range c.workers {
		w.proc.wait(c.t, 30*time.Second)
	}
	for _, s := range c.scheds {
		s.proc.signal(syscall.SIGTERM)
	}
	for _, s := range c.scheds {
		s.proc.wait(c.t, 30*time.Second)
	}
	await(c.t, 10*time.Second, "no task is left", func() bool { return c.once(0) })
}
