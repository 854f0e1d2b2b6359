package program_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	return l
}

// cluster is a scheduler on a store in memory.
type cluster struct {
	server *server.Server
	store  *memory.Store
	grpc   string
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	return startClusterWith(t, 15*time.Second)
}

// startClusterWith is startCluster with another lease.
func startClusterWith(t testing.TB, lease time.Duration) *cluster {
	t.Helper()
	return startClusterSlow(t, lease, time.Millisecond)
}

// startClusterSlow is startClusterWith with a leader that lets changes gather for a time.
func startClusterSlow(t testing.TB, lease, debounce time.Duration) *cluster {
	t.Helper()
	g, h, st := listen(t), listen(t), memory.New()
	s, err := server.Start(server.Config{
		Scheduler: scheduler.Config{Store: st, Name: "s1", Lease: lease, Debounce: debounce},
		GRPC:      g, HTTP: h,
	})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	})
	must(t, s.Ready(t.Context()))
	return &cluster{server: s, store: st, grpc: g.Addr().String()}
}

// worker adds a worker with functions; kill ends it as a cut cable would.
func (c *cluster) worker(t testing.TB, name string, capacity map[string]float64, fs map[string]program.ConnFunc) (w *worker.Worker, cut func()) {
	t.Helper()
	return c.workerWith(t, worker.Config{Name: name, Capacity: capacity}, fs)
}

// workerWith is worker with all choices.
func (c *cluster) workerWith(t testing.TB, cfg worker.Config, fs map[string]program.ConnFunc) (w *worker.Worker, cut func()) {
	t.Helper()
	name := cfg.Name
	cfg.Schedulers = []string{c.grpc}
	w, err := worker.New(cfg)
	must(t, err)
	for name, f := range fs {
		must(t, w.RegisterTaskConn(name, f))
	}
	w.Start()
	c.joined(t, name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		must(t, w.Stop(ctx))
	})
	return w, func() {
		_, err := c.server.Scheduler().Sessions().ReportExit(auth.Inside(context.Background()), &rotav1.ReportExitRequest{Name: name, Incarnation: w.Incarnation()})
		must(t, err)
	}
}

// joined returns when a worker has joined.
func (c *cluster) joined(t testing.TB, name string) {
	t.Helper()
	for v := c.server.Scheduler().View(); ; {
		var there bool
		v.Read(func() { there = v.Sessions[name] != nil })
		if there {
			return
		}
		must(t, v.Wait(t.Context(), v.Revision()+1))
	}
}

// echo sends each message back until it is told to exit.
func echo(ctx context.Context, c program.Conn) error {
	for {
		m, err := c.Recv(ctx)
		if err != nil {
			return nil //nolint:nilerr // time to exit
		}
		if err := c.Send(ctx, m.Reply(m.Data)); err != nil {
			return err
		}
	}
}

var echoes = map[string]program.ConnFunc{"echo": echo}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	for i := range 3 {
		c.worker(t, fmt.Sprintf("w%d", i), nil, echoes)
	}
	const tasks, each = 7, 500
	p := program.New("numbers")
	must(t, p.SpawnTasks(program.Spec{Name: "echo", Count: tasks, Resources: program.Resources{CPUs: 0.1}}))
	var shown *rotav1.Program
	must(t, p.RegisterSchedFunc(func(in <-chan program.Msg, out chan<- program.Msg, events <-chan program.Event) {
		workers := map[string]bool{}
		running := 0
		for e := range events {
			if e.Kind == program.TaskLaunched {
				workers[e.Worker] = true
			}
			if e.Kind == program.TaskRunning {
				if running++; running == tasks {
					break
				}
			}
		}
		if len(workers) != 3 {
			t.Errorf("launched on %v", workers)
		}
		go func() {
			for i := range each {
				for k := range tasks {
					out <- program.Msg{Task: fmt.Sprintf("echo-%d", k), Data: binary.BigEndian.AppendUint64(nil, uint64(i))}
				}
			}
		}()
		next := map[string]uint64{}
		for range tasks * each {
			m := <-in
			if got := binary.BigEndian.Uint64(m.Data); got != next[m.Task] {
				t.Errorf("%s: message %d where %d was due", m.Task, got, next[m.Task])
				return
			}
			next[m.Task]++
		}
		other := program.New("numbers")
		must(t, other.RegisterSchedFunc(func(<-chan program.Msg, chan<- program.Msg, <-chan program.Event) {}))
		if err := other.Run(t.Context(), program.Cluster(c.grpc)); !errors.Is(err, program.ErrRunning) {
			t.Errorf("a second of the name: %v", err)
		}
		for shown.GetPhase() != "running" || len(shown.GetEvents()) < 2*tasks { // reports come a little later
			var err error
			shown, err = c.server.Service().GetProgram(t.Context(), &rotav1.GetProgramRequest{Name: "numbers"})
			must(t, err)
		}
	}))
	must(t, p.Run(t.Context(), program.Cluster(c.grpc)))
	if len(shown.GetTasks()) != tasks || shown.GetTasks()[0].GetState() != "running" {
		t.Errorf("shown as %v", shown)
	}
	nothingLeft(t, c)
}

// nothingLeft waits until the cluster has forgotten all programs and tasks.
func nothingLeft(t *testing.T, c *cluster) {
	t.Helper()
	v := c.server.Scheduler().View()
	for {
		left := 0
		v.Read(func() { left = len(v.Programs) + v.Tasks.Len() })
		if left == 0 {
			return
		}
		must(t, v.Wait(t.Context(), v.Revision()+1))
	}
}

// TestClusterCapacity has a program wait until what its tasks need fits at once,
// and no worker ever bear more than it has.
func TestClusterCapacity(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.worker(t, "w0", map[string]float64{"cpus": 1, "mem_mib": 1000}, echoes)
	p := program.New("large")
	must(t, p.SpawnTask("echo", 3, program.Resources{CPUs: 0.4, MemMiB: 200}))
	must(t, p.RegisterSchedFunc(func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
		waited, running := false, map[string]int{}
		for e := range events {
			switch e.Kind {
			case program.Waits:
				if !waited {
					c.worker(t, "w1", map[string]float64{"cpus": 0.5, "mem_mib": 1000}, echoes)
				}
				waited = true
			case program.TaskRunning:
				running[e.Worker]++
			}
			if running["w0"]+running["w1"] == 3 {
				break
			}
		}
		if !waited || running["w0"] != 2 || running["w1"] != 1 {
			t.Errorf("waited %v, then %v", waited, running)
		}
	}))
	must(t, p.Run(t.Context(), program.Cluster(c.grpc)))
}

// TestMessagesASecond: the cluster shows how many messages a program has, both ways, and
// that it has none any more.
func TestMessagesASecond(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.worker(t, "w0", nil, echoes)
	p := program.New("counted")
	must(t, p.SpawnTask("echo", 1, program.Resources{}))
	await := func(some bool, meanwhile func()) {
		t.Helper()
		for until := time.Now().Add(time.Minute); ; {
			meanwhile()
			shown, err := c.server.Service().ListPrograms(t.Context(), &rotav1.ListProgramsRequest{})
			must(t, err)
			if len(shown.GetPrograms()) == 1 && (shown.GetPrograms()[0].GetMessagesPerSecond() > 0) == some {
				return
			}
			if time.Now().After(until) {
				t.Errorf("shown is %v", shown)
				return
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	must(t, p.RegisterSchedFunc(func(in <-chan program.Msg, out chan<- program.Msg, _ <-chan program.Event) {
		await(true, func() {
			out <- program.Msg{Task: "echo-0", Data: make([]byte, 8)}
			<-in
		})
		await(false, func() {})
	}))
	must(t, p.Run(t.Context(), program.Cluster(c.grpc)))
}

// TestClusterWaits has a program wait for a function, and say so.
func TestClusterWaits(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.worker(t, "w0", nil, map[string]program.ConnFunc{"other": echo})
	p := program.New("waiter")
	must(t, p.SpawnTask("echo", 2, program.Resources{}))
	must(t, p.RegisterSchedFunc(func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
		for e := range events {
			switch e.Kind {
			case program.Waits:
				if e.Text != "no worker offers echo" {
					t.Errorf("waits: %s", e.Text)
				}
				if s := p.Status(); s.Missing != e.Text {
					t.Errorf("status: %+v", s)
				}
				c.worker(t, "w1", nil, echoes)
			case program.TaskRunning:
				if e.Worker != "w1" {
					t.Errorf("runs on %s", e.Worker)
				}
				return
			}
		}
	}))
	must(t, p.Run(t.Context(), program.Cluster(c.grpc)))
}

// TestClusterWorkerLost loses a worker under each policy.
func TestClusterWorkerLost(t *testing.T) {
	t.Parallel()
	for _, policy := range []program.Policy{program.StopAll, program.RestartTask, program.RestartAll} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			c := startCluster(t)
			var cuts []func()
			for i := range 3 {
				_, cut := c.worker(t, fmt.Sprintf("w%d", i), nil, echoes)
				cuts = append(cuts, cut)
			}
			p := program.New("lossy", program.Config{Policy: policy})
			must(t, p.SpawnTask("echo", 6, program.Resources{}))
			finals := map[string]int{}
			lost, again := 0, 0
			must(t, p.RegisterSchedConn(func(ctx context.Context, conn program.Conn) error {
				running := 0
				for e := range conn.Events() {
					switch e.Kind {
					case program.TaskRunning:
						if running++; running == 6 {
							cuts[1]()
						}
						if e.Generation > 1 {
							again++
						}
					case program.TaskLost:
						lost++
					default:
					}
					if e.Final() {
						finals[fmt.Sprint(e.Task, e.Generation)]++
					}
					if policy == program.RestartTask && again > 0 && again == lost || policy == program.RestartAll && again == 6 {
						for k := range 6 {
							if m, err := conn.Request(ctx, program.Msg{Task: fmt.Sprintf("echo-%d", k), Data: []byte("hello")}); err != nil || string(m.Data) != "hello" {
								t.Errorf("echo-%d: %q, %v", k, m.Data, err)
							}
						}
						return nil
					}
				}
				return nil
			}))
			err := p.Run(t.Context(), program.Cluster(c.grpc))
			var te *program.TaskError
			if policy == program.StopAll != errors.As(err, &te) || policy != program.StopAll && err != nil {
				t.Errorf("Run: %v", err)
			}
			if lost == 0 {
				t.Error("nothing was lost")
			}
			for task, n := range finals {
				if n != 1 {
					t.Errorf("%s ended %d times", task, n)
				}
			}
		})
	}
}

// TestClusterStop ends a program from outside, and TestClusterCallerDies by the
// end of its caller.
func TestClusterStop(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	closed := make(chan struct{}, 2)
	c.worker(t, "w0", nil, map[string]program.ConnFunc{"stay": func(ctx context.Context, c program.Conn) error {
		for {
			if _, err := c.Recv(ctx); err != nil {
				closed <- struct{}{}
				return nil //nolint:nilerr // time to exit
			}
		}
	}})
	p := program.New("stopped")
	must(t, p.SpawnTask("stay", 2, program.Resources{}))
	must(t, p.RegisterSchedFunc(func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
		for e := range events {
			if e.Kind == program.TaskRunning {
				_, err := c.server.Service().StopProgram(auth.Inside(t.Context()), &rotav1.StopProgramRequest{Name: "stopped", Reason: "enough"})
				must(t, err)
				break
			}
		}
		for range events {
		}
	}))
	if err := p.Run(t.Context(), program.Cluster(c.grpc)); err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("Run: %v", err)
	}
	<-closed
	<-closed
	if _, err := c.server.Service().StopProgram(auth.Inside(t.Context()), &rotav1.StopProgramRequest{Name: "stopped"}); err == nil {
		t.Error("stopped what does not run")
	}
	var shown *rotav1.Program
	for v := c.server.Scheduler().View(); shown == nil; { // the leader writes down what was
		at := v.Revision()
		shown, _ = c.server.Service().GetProgram(t.Context(), &rotav1.GetProgramRequest{Name: "stopped"})
		if shown == nil {
			must(t, v.Wait(t.Context(), at+1))
		}
	}
	for _, task := range shown.GetTasks() {
		if task.GetState() != "killed" {
			t.Errorf("after the end %s is shown as %s", task.GetName(), task.GetState())
		}
	}
	ends := 0
	for _, e := range shown.GetEvents() {
		if e.GetKind() == string(program.TaskKilled) {
			ends++
		}
	}
	if shown.GetPhase() != "ended" || len(shown.GetTasks()) != 2 || ends != 2 {
		t.Errorf("after the end it is shown as %v", shown)
	}
}

func TestClusterBadInput(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	for name, f := range map[string]struct {
		addresses []string
		args      []string
		want      string
	}{
		"no address":     {nil, nil, "at least one scheduler"},
		"no port":        {[]string{"localhost"}, nil, "host:port"},
		"nobody there":   {[]string{"127.0.0.1:1"}, nil, "127.0.0.1:1"},
		"large argument": {[]string{c.grpc}, []string{strings.Repeat("x", 70_000)}, "args, env"},
	} {
		p := program.New("bad")
		must(t, p.SpawnTasks(program.Spec{Name: "echo", Count: 1, Args: f.args}))
		must(t, p.RegisterSchedFunc(func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
			for range events {
			}
		}))
		if err := p.Run(t.Context(), program.Cluster(f.addresses...)); err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDetached submits a program and loses the worker that runs its scheduler
// function: another one runs it and is told what happened before.
func TestDetached(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	type start struct {
		worker string
		conn   program.Conn
		events []program.Event
	}
	starts := make(chan start, 10)
	done := make(chan struct{})
	cut := map[string]func(){}
	var runs atomic.Int32
	for i := range 2 {
		on := fmt.Sprintf("w%d", i)
		w, err := worker.New(worker.Config{Name: on, Schedulers: []string{c.grpc}})
		must(t, err)
		must(t, w.RegisterTaskConn("echo", echo))
		must(t, w.RegisterProgram("echoing", func(name string, args []string) (*program.Program, error) {
			p := program.New(name, program.Config{Policy: program.RestartTask, Grace: 100 * time.Millisecond})
			if len(args) != 1 || args[0] != "an argument" {
				return nil, fmt.Errorf("args %q", args)
			}
			return p, errors.Join(p.SpawnTask("echo", 2, program.Resources{}), p.RegisterSchedConn(func(ctx context.Context, conn program.Conn) error {
				s := start{worker: on, conn: conn}
				again := runs.Add(1) > 1 // then it is first told what happened before
				for e := range conn.Events() {
					s.events = append(s.events, e)
					again = again && e.Kind != program.Reregistered
					if !again && e.Kind == program.TaskRunning && e.Task == "echo-1" {
						if m, err := conn.Request(ctx, program.Msg{Task: "echo-1", Data: []byte("x")}); err != nil || string(m.Data) != "x" {
							return fmt.Errorf("%q, %w", m.Data, err)
						}
						break
					}
				}
				starts <- s
				select {
				case <-done:
				case <-ctx.Done():
				}
				return nil
			}))
		}))
		w.Start()
		t.Cleanup(func() { must(t, w.Stop(context.Background())) })
		cut[on] = func() {
			_, err := c.server.Scheduler().Sessions().ReportExit(auth.Inside(context.Background()), &rotav1.ReportExitRequest{Name: on, Incarnation: w.Incarnation()})
			must(t, err)
		}
	}
	cfg := program.ClusterConfig{Addresses: []string{c.grpc}}
	must(t, program.Submit(t.Context(), cfg, "far", "echoing", "an argument"))
	if err := program.Submit(t.Context(), cfg, "far", "echoing", "an argument"); !errors.Is(err, program.ErrRunning) {
		t.Errorf("submitted twice: %v", err)
	}
	first := <-starts
	for { // its history comes a little later
		p, err := c.server.Service().GetProgram(t.Context(), &rotav1.GetProgramRequest{Name: "far"})
		must(t, err)
		if len(p.GetEvents()) >= len(first.events) {
			break
		}
	}
	cut[first.worker]()
	second := <-starts
	history := 0
	for _, e := range second.events {
		if e.Kind == program.Reregistered {
			break
		}
		history++
	}
	if history < len(first.events) || history == len(second.events) {
		t.Errorf("of %v the second was told %v", first.events, second.events)
	}
	close(done)
	nothingLeft(t, c) // when it has returned
}
