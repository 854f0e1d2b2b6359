package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/internal/worker/agent"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/jobs"
	"github.com/rota-project/rota/scheduler/internal/relay"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// node is a scheduler with its jobs.
type node struct {
	sched   *scheduler.Scheduler
	control *jobs.Control
	grpc    *grpc.Server
	addr    string
	jobs    rotav1.JobsClient
	once    sync.Once
}

func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// longLease is for where nothing is to be lost: a busy machine may keep a worker
// from renewing for a while.
const longLease = 10 * time.Second

func newNode(t testing.TB, name string, st store.Store, cfg jobs.Config) *node {
	t.Helper()
	return newNodeWith(t, name, st, cfg, longLease)
}

func newNodeWith(t testing.TB, name string, st store.Store, cfg jobs.Config, lease time.Duration) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sched, err := scheduler.New(scheduler.Config{Store: st, Name: name, GRPC: l.Addr().String(), Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Store, cfg.View, cfg.Capacity, cfg.Scheduler = st, sched.View(), sched.Capacity(), name
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg.Peers = relay.NewPeers(func(addr string) (*grpc.ClientConn, error) {
		return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	})
	t.Cleanup(cfg.Peers.Close)
	n := &node{sched: sched, control: jobs.New(cfg), grpc: grpc.NewServer(grpc.UnaryInterceptor(insideUnary), grpc.StreamInterceptor(insideStream)), addr: l.Addr().String()}
	n.control.RegisterAPI(n.grpc)
	n.control.RegisterWork(n.grpc)
	go func() { _ = n.grpc.Serve(l) }()
	sched.Start()
	if err := sched.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, n.addr)
	n.jobs = rotav1.NewJobsClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		n.stop()
	})
	return n
}

func (n *node) stop() {
	n.once.Do(func() {
		n.control.Close()
		n.grpc.Stop()
		_ = n.sched.Stop(context.Background())
	})
}

// host is a worker with its jobs.
type host struct {
	worker *worker.Worker
	agent  *agent.Agent
	dir    string
	wire   *wire
	orders *wire // its job stream's, beside
	cancel context.CancelFunc
	ended  chan struct{}
}

// wire is a host's connections to schedulers.
type wire struct {
	mu  sync.Mutex
	ctx context.Context // ended while it is cut
	cut func()
	// conns are the connections that are not closed yet.
	conns sync.WaitGroup
	// held is set while what comes is not read, as by a process that stands still.
	held atomic.Bool
}

// heldStream is one end of a stream, whose messages are not read while its wire is held.
type heldStream struct {
	grpc.ClientStream
	wire  *wire
	alive context.Context //nolint:containedctx // that of the wire when it was opened
}

func (s *heldStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if s.wire.held.Load() {
		<-s.alive.Done()
		return io.EOF
	}
	return err
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.cut = context.WithCancel(context.Background())
	w.held.Store(false)
}

func (w *wire) alive() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ctx
}

func newHost(t testing.TB, name string, cfg runner.Config, labels map[string]string, via ...*node) *host {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Allow.Commands == nil {
		cfg.Allow.Any = true
	}
	line, orders := &wire{}, &wire{}
	line.mend()
	orders.mend()
	next := 0
	var a *agent.Agent
	fence := func() { a.Fence() }
	ended := make(chan struct{})
	w, err := worker.New(worker.Config{Name: name, Labels: labels, NameWait: time.Minute, LeaseEnded: fence, LeaveAfter: ended, Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
		alive := line.alive()
		if alive.Err() != nil {
			return nil, io.EOF
		}
		next++
		ctx, cancel := context.WithCancel(ctx)
		context.AfterFunc(alive, cancel)
		return via[next%len(via)].sched.Sessions().Dial(ctx), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
		t.Fatal(err)
	}
	conns := 0
	a, err = agent.New(agent.Config{
		Name: name, Incarnation: w.Incarnation(), Runner: cfg, Leased: w.LeasedFor, Session: w.Session,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Connect: func(context.Context) (*grpc.ClientConn, error) {
			alive, aliveToo := line.alive(), orders.alive()
			if alive.Err() != nil || aliveToo.Err() != nil {
				return nil, io.EOF
			}
			conns++
			hold := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				s, err := open(ctx, desc, cc, method, opts...)
				return &heldStream{s, orders, aliveToo}, err
			}
			conn, err := grpc.NewClient(via[conns%len(via)].addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStreamInterceptor(hold))
			if err == nil {
				context.AfterFunc(alive, func() { _ = conn.Close() })
				orders.conns.Add(1)
				context.AfterFunc(aliveToo, func() {
					_ = conn.Close()
					orders.conns.Done()
				})
			}
			return conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Start()
	ctx, cancel := context.WithCancel(context.Background())
	h := &host{worker: w, agent: a, dir: cfg.Dir, wire: line, orders: orders, cancel: cancel, ended: ended}
	go func() {
		defer close(h.ended)
		a.Run(ctx, time.Second)
	}()
	t.Cleanup(h.stop)
	return h
}

func (h *host) stop() {
	h.wire.mend() // so that it can say goodbye
	h.orders.mend()
	h.cancel() // the worker is asked to leave in the same moment, as a process is
	_ = h.worker.Stop(context.Background())
	<-h.ended
	h.wire.cut()
}

func command(argv ...string) *rotav1.JobDefinition { return &rotav1.JobDefinition{Argv: argv} }

func (n *node) run(t testing.TB, d *rotav1.JobDefinition) string {
	t.Helper()
	j, err := n.jobs.RunJob(t.Context(), &rotav1.RunJobRequest{Job: d})
	if err != nil {
		t.Fatal(err)
	}
	return j.GetId()
}

// until waits for a job to be as f says.
func (n *node) until(t testing.TB, id string, f func(*rotav1.Job) bool) *rotav1.Job {
	t.Helper()
	s, err := n.jobs.WatchJobs(t.Context(), &rotav1.WatchJobsRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	var last *rotav1.Job
	for {
		ev, err := s.Recv()
		if err != nil {
			t.Fatalf("waited in vain, last %v: %v", last, err)
		}
		if ev.GetType() == "set" {
			if last = ev.GetJob(); f(last) {
				return last
			}
		}
	}
}

func (n *node) state(t testing.TB, id, want string) *rotav1.Job {
	t.Helper()
	return n.until(t, id, func(j *rotav1.Job) bool { return j.GetState() == want })
}

func (n *node) output(t testing.TB, req *rotav1.ReadOutputRequest) (string, error) {
	t.Helper()
	s, err := n.jobs.ReadOutput(t.Context(), req)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
		fmt.Fprintf(&b, "%s:%s", m.GetStream(), m.GetData())
	}
}

func newStore(t testing.TB) store.Store {
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	return st
}

func TestRun(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{})
	newHost(t, "w1", runner.Config{}, nil, n)
	id := n.run(t, &rotav1.JobDefinition{Argv: []string{"sh", "-c", `cat; printf '\377\000'; echo $A`}, Stdin: "in ", Env: map[string]string{"A": "env"}})
	if out, err := n.output(t, &rotav1.ReadOutputRequest{Id: id, Follow: true}); err != nil || strings.ReplaceAll(out, "stdout:", "") != "in \xff\x00env\n" {
		t.Errorf("%q, %v", out, err)
	}
	j := n.state(t, id, "succeeded")
	if j.GetWorker() != "w1" || j.GetAttempts() != 1 || j.ExitCode == nil || j.GetExitCode() != 0 || j.GetGeneration() == 0 || j.GetEnded().AsTime().Before(j.GetStarted().AsTime()) {
		t.Errorf("%v", j)
	}
	if out, err := n.output(t, &rotav1.ReadOutputRequest{Id: id, Offset: 3}); err != nil || strings.ReplaceAll(out, "stdout:", "") != "\xff\x00env\n" {
		t.Errorf("from an offset: %q, %v", out, err)
	}
	failed := n.run(t, command("sh", "-c", "echo no >&2; exit 3"))
	if j := n.state(t, failed, "failed"); j.GetExitCode() != 3 {
		t.Errorf("%v", j)
	}
	if out, err := n.output(t, &rotav1.ReadOutputRequest{Id: failed}); err != nil || out != "stderr:no\n" {
		t.Errorf("%q, %v", out, err)
	}
	killed := n.run(t, command("sh", "-c", "kill -9 $$"))
	if j := n.state(t, killed, "failed"); j.GetExitCode() != -1 || j.GetSignal() != "killed" {
		t.Errorf("%v", j)
	}
	list, err := n.jobs.ListJobs(t.Context(), &rotav1.ListJobsRequest{PageSize: 2})
	if err != nil || len(list.GetJobs()) != 2 || list.GetJobs()[0].GetId() != killed || list.GetNextPageToken() == "" {
		t.Errorf("%v, %v", list, err)
	}
	rest, err := n.jobs.ListJobs(t.Context(), &rotav1.ListJobsRequest{PageSize: 2, PageToken: list.GetNextPageToken()})
	if err != nil || len(rest.GetJobs()) != 1 || rest.GetJobs()[0].GetId() != id {
		t.Errorf("%v, %v", rest, err)
	}
	if some, err := n.jobs.ListJobs(t.Context(), &rotav1.ListJobsRequest{State: "failed"}); err != nil || len(some.GetJobs()) != 2 {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := n.jobs.DeleteJob(t.Context(), &rotav1.DeleteJobRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.jobs.GetJob(t.Context(), &rotav1.GetJobRequest{Id: id}); status.Code(err) != codes.NotFound {
		t.Errorf("after deletion: %v", err)
	}
	if again := n.retry(t, failed); again.GetAttempts() != 2 {
		t.Errorf("%v", again)
	}
}

func (n *node) retry(t testing.TB, id string) *rotav1.Job {
	t.Helper()
	if _, err := n.jobs.RetryJob(t.Context(), &rotav1.RetryJobRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	return n.until(t, id, func(j *rotav1.Job) bool { return j.GetState() == "failed" && j.GetAttempts() == 2 })
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{})
	newHost(t, "w", runner.Config{Allow: runner.Allow{Commands: []runner.Command{{Argv: []string{"echo", "{n:int}"}}}}}, nil, n)
	good := n.run(t, command("echo", "1"))
	n.state(t, good, "succeeded")
	unknown := uuid.New(time.Now())
	run := func(d *rotav1.JobDefinition, id string) error {
		_, err := n.jobs.RunJob(t.Context(), &rotav1.RunJobRequest{Job: d, Id: id})
		return err
	}
	read := func(r *rotav1.ReadOutputRequest) error { _, err := n.output(t, r); return err }
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"no argv":              {run(nil, ""), codes.InvalidArgument},
		"NUL in env":           {run(&rotav1.JobDefinition{Argv: []string{"x"}, Env: map[string]string{"A": "\x00"}}, ""), codes.InvalidArgument},
		"negative timeout":     {run(&rotav1.JobDefinition{Argv: []string{"x"}, TimeoutMs: -1}, ""), codes.InvalidArgument},
		"overflowing timeout":  {run(&rotav1.JobDefinition{Argv: []string{"x"}, TimeoutMs: 1 << 62}, ""), codes.InvalidArgument},
		"retries":              {run(&rotav1.JobDefinition{Argv: []string{"x"}, Retries: 1 << 40}, ""), codes.InvalidArgument},
		"two stdins":           {run(&rotav1.JobDefinition{Argv: []string{"x"}, Stdin: "a", StdinBase64: []byte("b")}, ""), codes.InvalidArgument},
		"condition":            {run(&rotav1.JobDefinition{Argv: []string{"x"}, Require: []string{"zone=="}}, ""), codes.InvalidArgument},
		"id":                   {run(command("echo", "1"), "../x"), codes.InvalidArgument},
		"id of another":        {run(command("echo", "2"), good), codes.InvalidArgument},
		"id again":             {run(command("echo", "1"), good), codes.OK},
		"not allowed anywhere": {run(command("ls"), ""), codes.PermissionDenied},
		"not allowed there":    {run(&rotav1.JobDefinition{Argv: []string{"ls"}, Worker: "w"}, ""), codes.PermissionDenied},
		"no such worker":       {run(&rotav1.JobDefinition{Argv: []string{"echo", "1"}, Worker: "x"}, ""), codes.NotFound},
		"get none":             {errOf(n.jobs.GetJob(t.Context(), &rotav1.GetJobRequest{Id: unknown})), codes.NotFound},
		"stop none":            {errOf(n.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: "x"})), codes.NotFound},
		"stop a done one":      {errOf(n.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: good})), codes.FailedPrecondition},
		"retry none":           {errOf(n.jobs.RetryJob(t.Context(), &rotav1.RetryJobRequest{Id: ""})), codes.NotFound},
		"delete none":          {errOf(n.jobs.DeleteJob(t.Context(), &rotav1.DeleteJobRequest{Id: unknown})), codes.NotFound},
		"output of none":       {read(&rotav1.ReadOutputRequest{Id: unknown}), codes.NotFound},
		"offset past the end":  {read(&rotav1.ReadOutputRequest{Id: good, Offset: 100}), codes.InvalidArgument},
		"attempt of none":      {read(&rotav1.ReadOutputRequest{Id: good, Generation: 1 << 40}), codes.NotFound},
		"page size":            {errOf(n.jobs.ListJobs(t.Context(), &rotav1.ListJobsRequest{PageSize: -1})), codes.InvalidArgument},
		"state":                {errOf(n.jobs.ListJobs(t.Context(), &rotav1.ListJobsRequest{State: "happy"})), codes.InvalidArgument},
	} {
		if status.Code(c.err) != c.want {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	// Not allowed: the worker says so, once.
	refused := n.run(t, &rotav1.JobDefinition{Argv: []string{"echo", "x"}, Retries: 3})
	if j := n.state(t, refused, "failed"); !strings.Contains(j.GetError(), "not allowed") || j.GetAttempts() != 1 {
		t.Errorf("%v", j)
	}
	for _, retries := range []int64{-1, 1001, 1_000_000_000, 1<<32 + 1, math.MaxInt64, math.MinInt64} {
		_, err := n.jobs.RunJob(t.Context(), &rotav1.RunJobRequest{Job: &rotav1.JobDefinition{Argv: []string{"echo", "1"}, Retries: retries}})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), fmt.Sprint(retries)) {
			t.Errorf("%d retries: %v", retries, err)
		}
	}
	// Nobody runs this: it waits, and says why.
	waiting := n.run(t, &rotav1.JobDefinition{Argv: []string{"echo", "1"}, Require: []string{"gpu"}})
	d, err := n.jobs.GetJob(t.Context(), &rotav1.GetJobRequest{Id: waiting})
	if err != nil || d.GetJob().GetState() != "queued" || !strings.Contains(d.GetJob().GetReason(), "does not meet label condition gpu") {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := n.jobs.DeleteJob(t.Context(), &rotav1.DeleteJobRequest{Id: waiting}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("deleted a queued one: %v", err)
	}
	if j, err := n.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: waiting}); err != nil || j.GetState() != "stopped" {
		t.Errorf("%v, %v", j, err)
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestStopAndTimeout(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{})
	newHost(t, "w", runner.Config{}, nil, n)
	id := n.run(t, command("sleep", "1000"))
	n.state(t, id, "running")
	if _, err := n.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if j := n.state(t, id, "stopped"); j.GetSignal() != "terminated" || !j.GetStopAsked() {
		t.Errorf("%v", j)
	}
	slow := n.run(t, &rotav1.JobDefinition{Argv: []string{"sleep", "1000"}, TimeoutMs: 20, Retries: 1, BackoffMs: 1})
	if j := n.state(t, slow, "timed-out"); j.GetAttempts() != 2 {
		t.Errorf("%v", j)
	}
}

func TestPlacing(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{})
	newHost(t, "a", runner.Config{MaxRunning: 2}, map[string]string{"zone": "a"}, n)
	newHost(t, "b", runner.Config{MaxRunning: 2}, map[string]string{"zone": "b", "disk": "ssd"}, n)
	for _, name := range []string{"a", "b"} {
		n.joined(t, name)
	}
	for _, c := range []struct {
		d    *rotav1.JobDefinition
		want string
	}{
		{&rotav1.JobDefinition{Argv: []string{"true"}, Worker: "a"}, "a"},
		{&rotav1.JobDefinition{Argv: []string{"true"}, Worker: "b"}, "b"},
		{&rotav1.JobDefinition{Argv: []string{"true"}, Require: []string{"disk=ssd"}}, "b"},
		{&rotav1.JobDefinition{Argv: []string{"true"}, Require: []string{"zone!=b"}}, "a"},
	} {
		id := n.run(t, c.d)
		if j := n.state(t, id, "succeeded"); j.GetWorker() != c.want {
			t.Errorf("%v ran on %s", c.d, j.GetWorker())
		}
	}
	// Four places: two each, and the fifth waits for one.
	var ids []string
	for range 5 {
		ids = append(ids, n.run(t, command("sleep", "1000")))
	}
	on := map[string]int{}
	for _, id := range ids[:4] {
		on[n.state(t, id, "running").GetWorker()]++
	}
	if on["a"] != 2 || on["b"] != 2 {
		t.Errorf("not even: %v", on)
	}
	d, err := n.jobs.GetJob(t.Context(), &rotav1.GetJobRequest{Id: ids[4]})
	if err != nil || d.GetJob().GetState() != "queued" || !strings.Contains(d.GetJob().GetReason(), "at the job limit") {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := n.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: ids[1]}); err != nil {
		t.Fatal(err)
	}
	n.state(t, ids[4], "running")
}

// TestLost cuts a worker off; what asked for it runs elsewhere, never on both.
func TestLost(t *testing.T) {
	t.Parallel()
	st := newStore(t)
	n := newNodeWith(t, "s", st, jobs.Config{}, time.Second)
	h := newHost(t, "a", runner.Config{}, nil, n)
	marks := filepath.Join(t.TempDir(), "marks")
	script := `echo $$ >>` + marks + `; exec sleep 1000`
	pids := func(want int) []string {
		for t.Context().Err() == nil {
			b, err := os.ReadFile(marks)
			if err == nil && bytes.Count(b, []byte("\n")) == want {
				return strings.Fields(string(b))
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // another process writes it
		}
		return nil
	}
	rerun := n.run(t, &rotav1.JobDefinition{Argv: []string{"sh", "-c", script}, Rerun: true})
	stay := n.run(t, command("sleep", "1000"))
	first := n.state(t, rerun, "running")
	n.state(t, stay, "running")
	pid := pids(1)[0]
	h.wire.cut() // the connections break; the processes live on
	if j := n.state(t, stay, "lost"); j.GetAttempts() != 1 {
		t.Errorf("%v", j)
	}
	newHost(t, "b", runner.Config{}, nil, n)
	second := n.until(t, rerun, func(j *rotav1.Job) bool { return j.GetState() == "running" && j.GetWorker() == "b" })
	if second.GetGeneration() <= first.GetGeneration() || second.GetAttempts() < 2 {
		t.Errorf("%v after %v", second, first)
	}
	pids(2)
	if _, err := os.Stat("/proc/" + pid + "/cmdline"); err == nil {
		t.Errorf("the first run, process %s, goes on beside the second", pid)
	}
}

// TestLeft has a worker that leaves in order while its jobs take their time to
// end: they have ended before they run again, which only those do that allow it.
func TestLeft(t *testing.T) {
	t.Parallel()
	st := newStore(t)
	n := newNodeWith(t, "s", st, jobs.Config{}, time.Minute)
	h := newHost(t, "a", runner.Config{}, nil, n)
	marks := filepath.Join(t.TempDir(), "marks")
	script := `trap 'sleep 0.3; echo ended >>` + marks + `; exit 1' TERM; echo begun >>` + marks + `; while :; do sleep 0.01; done`
	rerun := n.run(t, &rotav1.JobDefinition{Argv: []string{"sh", "-c", script}, Rerun: true})
	n.state(t, rerun, "running")
	stay := n.run(t, command("sh", "-c", "trap 'sleep 0.2; exit' TERM; while :; do sleep 0.01; done"))
	n.state(t, stay, "running")
	newHost(t, "b", runner.Config{}, nil, n)
	for b, _ := os.ReadFile(marks); len(b) == 0; b, _ = os.ReadFile(marks) {
		time.Sleep(time.Millisecond) // another process writes it
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		h.stop()
	}()
	second := n.until(t, rerun, func(j *rotav1.Job) bool { return j.GetState() == "running" && j.GetWorker() == "b" })
	if second.GetAttempts() != 2 {
		t.Errorf("%v", second)
	}
	if b, err := os.ReadFile(marks); err != nil || !strings.HasPrefix(string(b), "begun\nended\n") {
		t.Errorf("the second began before the first had ended: %q, %v", b, err)
	}
	if j := n.state(t, stay, "stopped"); j.GetError() != "worker left" || j.GetAttempts() != 1 {
		t.Errorf("%v", j)
	}
	<-stopped
}

// TestFound has a worker whose connections break, but whose lease does not end
// before it is back; and one whose lease does.
// TestNeverBegun: an order that never reached its worker. Its process, which lives,
// says so when it is back, and the job runs, though it did not ask to be run again.
func TestNeverBegun(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(n *node, h *host, id string){
		"cut off past its lease": func(n *node, h *host, _ string) {
			h.wire.cut()
			n.awaitSessions(t, 0)
			h.wire.mend()
			h.orders.mend()
		},
		"given up for lost": func(n *node, h *host, id string) {
			h.wire.cut()
			n.awaitSessions(t, 0)
			n.until(t, id, func(j *rotav1.Job) bool { return j.GetState() == "lost" })
			h.wire.mend()
			h.orders.mend()
		},
		"leaves in order": func(n *node, h *host, _ string) {
			h.stop()
			newHost(t, "w", runner.Config{}, nil, n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNodeWith(t, "s", newStore(t), jobs.Config{}, 2*time.Second)
			h := newHost(t, "w", runner.Config{}, nil, n)
			n.state(t, n.run(t, command("true")), "succeeded") // it takes jobs
			h.orders.held.Store(true)                          // nothing more gets there
			id := n.run(t, command("sh", "-c", "echo once"))
			n.state(t, id, "starting")
			h.orders.cut()
			h.orders.conns.Wait()
			away(n, h, id)
			if j := n.state(t, id, "succeeded"); j.GetAttempts() != 2 {
				t.Errorf("%v", j)
			}
			if out, err := n.output(t, &rotav1.ReadOutputRequest{Id: id}); err != nil || out != "stdout:once\n" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

// awaitSessions waits until so many workers have a session.
func (n *node) awaitSessions(t testing.TB, want int) {
	t.Helper()
	for have := -1; have != want; time.Sleep(5 * time.Millisecond) {
		if t.Context().Err() != nil {
			t.Fatalf("%d sessions, want %d", have, want)
		}
		n.sched.View().Read(func() { have = len(n.sched.View().Sessions) })
	}
}

func TestFound(t *testing.T) {
	t.Parallel()
	st := newStore(t)
	n1, n2 := newNode(t, "s1", st, jobs.Config{}), newNode(t, "s2", st, jobs.Config{})
	newHost(t, "a", runner.Config{}, nil, n1, n2)
	gate := filepath.Join(t.TempDir(), "gate")
	id := n1.run(t, command("sh", "-c", `echo before; while ! [ -e `+gate+` ]; do sleep 0.01; done; echo after`))
	n2.state(t, id, "running")
	// Through the one that has the worker's stream, and through the other.
	follow := make(chan string, 2)
	for _, n := range []*node{n1, n2} {
		go func() {
			out, err := n.output(t, &rotav1.ReadOutputRequest{Id: id, Follow: true})
			follow <- fmt.Sprint(out, err)
		}()
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := <-follow; strings.ReplaceAll(got, "stdout:", "") != "before\nafter\n<nil>" {
			t.Errorf("followed %q", got)
		}
	}
	n1.state(t, id, "succeeded")
	// One scheduler stops: the jobs go on, and the other answers.
	long := n1.run(t, command("sh", "-c", "echo up; sleep 1000"))
	n2.state(t, long, "running")
	first, err := n2.jobs.ReadOutput(t.Context(), &rotav1.ReadOutputRequest{Id: long, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := first.Recv(); err != nil || string(m.GetData()) != "up\n" {
		t.Fatalf("%v, %v", m, err)
	}
	n1.stop()
	if _, err := n2.jobs.StopJob(t.Context(), &rotav1.StopJobRequest{Id: long}); err != nil {
		t.Fatal(err)
	}
	if j := n2.state(t, long, "stopped"); j.GetAttempts() != 1 {
		t.Errorf("%v", j)
	}
	if out, err := n2.output(t, &rotav1.ReadOutputRequest{Id: long}); err != nil || out != "stdout:up\n" {
		t.Errorf("%q, %v", out, err)
	}
	again := n2.run(t, command("true"))
	n2.state(t, again, "succeeded")
}

// TestCrash stops every scheduler; what was acknowledged is there afterwards.
func TestCrash(t *testing.T) {
	t.Parallel()
	st := newStore(t)
	n := newNode(t, "s1", st, jobs.Config{})
	var ids []string
	for range 50 {
		ids = append(ids, n.run(t, command("true")))
	}
	n.stop()
	n = newNode(t, "s2", st, jobs.Config{})
	newHost(t, "w", runner.Config{MaxRunning: 4}, nil, n)
	for _, id := range ids {
		if j := n.state(t, id, "succeeded"); j.GetAttempts() != 1 {
			t.Errorf("%v", j)
		}
	}
}

func TestKept(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{MaxQueued: 5})
	for range 5 {
		n.run(t, command("true"))
	}
	if _, err := n.jobs.RunJob(t.Context(), &rotav1.RunJobRequest{Job: command("true")}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one too many: %v", err)
	}
	h := newHost(t, "w", runner.Config{}, nil, n)
	list, err := n.jobs.ListJobs(t.Context(), &rotav1.ListJobsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range list.GetJobs() {
		n.state(t, j.GetId(), "succeeded")
	}
	id := n.run(t, &rotav1.JobDefinition{Argv: []string{"echo"}, KeepMs: 1})
	s, err := n.jobs.WatchJobs(t.Context(), &rotav1.WatchJobsRequest{Id: id})
	for err == nil {
		var ev *rotav1.JobEvent
		if ev, err = s.Recv(); ev.GetType() == "deleted" {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(h.dir, id)); errors.Is(err, os.ErrNotExist) {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the output stays")
		case <-time.After(time.Millisecond):
		}
	}
}

// A read that waits for its worker goes on when that is back.
func TestReadWaitsForTheWorker(t *testing.T) {
	t.Parallel()
	n := newNode(t, "s", newStore(t), jobs.Config{})
	dir := t.TempDir()
	h := newHost(t, "w1", runner.Config{Dir: dir}, nil, n)
	id := n.run(t, command("echo", "said"))
	n.state(t, id, "succeeded")
	h.stop()
	type answer struct {
		out string
		err error
	}
	got := make(chan answer, 1)
	go func() {
		out, err := n.output(t, &rotav1.ReadOutputRequest{Id: id})
		got <- answer{out, err}
	}()
	newHost(t, "w1", runner.Config{Dir: dir}, nil, n)
	if a := <-got; a.err != nil || a.out != "stdout:said\n" {
		t.Errorf("%q, %v", a.out, a.err)
	}
}

// insideUnary and insideStream take whoever calls for this process.
func insideUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(auth.Inside(ctx), req)
}

func insideStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, inside{ss})
}

type inside struct{ grpc.ServerStream }

func (s inside) Context() context.Context { return auth.Inside(s.ServerStream.Context()) }
