package programs_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// What this binary is when it is started again: "worker ADDRESS NAME" or "caller ADDRESS".
const roleEnv = "ROTA_E2E_ROLE"

func TestMain(m *testing.M) {
	role := strings.Fields(os.Getenv(roleEnv))
	switch {
	case len(role) == 0:
		os.Exit(m.Run())
	case role[0] == "worker":
		check(runWorker(role[1], role[2]))
	default:
		check(runCaller(role[1]))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func runWorker(address, name string) error {
	w, err := worker.New(worker.Config{Name: name, Schedulers: []string{address}})
	if err != nil {
		return err
	}
	if err := w.RegisterTaskFunc("numbered", numbered); err != nil {
		return err
	}
	return w.Run(context.Background())
}

// numbered says which process it is in, then sends numbers for ever, and checks
// that those which it gets are 0, 1, 2, ...
func numbered(in <-chan program.Msg, out chan<- program.Msg, _ []string, _ map[string]string) error {
	out <- program.Msg{Data: binary.BigEndian.AppendUint64([]byte("pid "), uint64(os.Getpid()))}
	go func() {
		for i := uint64(0); ; i++ {
			out <- program.Msg{Data: binary.BigEndian.AppendUint64(nil, i)}
		}
	}()
	next := uint64(0)
	for m := range in {
		if m.Err() != nil {
			return m.Err()
		}
		if got := binary.BigEndian.Uint64(m.Data); got == 0 {
			next = 0 // the sender began anew: see number
		} else if got != next {
			return fmt.Errorf("message %d where %d was due", got, next)
		}
		next++
	}
	return nil
}

// runCaller runs a program whose scheduler function does nothing, for ever.
func runCaller(address string) error {
	p := program.New("orphan")
	err := errors.Join(p.SpawnTask("stay", 3, program.Resources{}), p.RegisterSchedFunc(
		func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
			for range events {
			}
		}))
	if err != nil {
		return err
	}
	return p.Run(context.Background(), program.Cluster(address))
}

func startCluster(t *testing.T) (*server.Server, string) {
	t.Helper()
	var ls [2]net.Listener
	for i := range ls {
		var err error
		ls[i], err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		must(t, err)
	}
	s, err := server.Start(server.Config{
		Scheduler: scheduler.Config{Store: memory.New(), Name: "s1", Lease: 5 * time.Second, Debounce: time.Millisecond},
		GRPC:      ls[0], HTTP: ls[1],
	})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		must(t, s.Stop(ctx))
	})
	must(t, s.Ready(t.Context()))
	return s, ls[0].Addr().String()
}

// start runs this binary in another role until the test ends or kill is called.
func start(t *testing.T, role string) (cmd *exec.Cmd, kill func()) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd = exec.Command(exe)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	var once sync.Once
	kill = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
		})
	}
	t.Cleanup(kill)
	return cmd, kill
}

// TestKilledAndCut numbers messages at both ends while worker processes are
// killed and connections are cut. What arrives of one generation is 0, 1, 2, ...
// without a gap, each generation ends exactly once, and the failure policy
// brings new ones.
func TestKilledAndCut(t *testing.T) {
	t.Parallel()
	const tasks, kills, cuts, every = 4, 3, 12, 10_000
	s, address := startCluster(t)
	var mu sync.Mutex
	killers := map[int]func(){}
	spawned := 0
	spawn := func() {
		mu.Lock()
		defer mu.Unlock()
		cmd, kill := start(t, fmt.Sprintf("worker %s w%d", address, spawned))
		spawned++
		killers[cmd.Process.Pid] = kill
	}
	for range 3 {
		spawn()
	}
	p := program.New("numbers", program.Config{Policy: program.RestartTask})
	must(t, p.SpawnTask("numbered", tasks, program.Resources{}))
	told := make(chan []program.Event, 1)
	received := 0
	must(t, p.RegisterSchedConn(func(ctx context.Context, c program.Conn) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var fresh [tasks]chan struct{}
		for k := range fresh {
			fresh[k] = make(chan struct{}, 100)
			go number(ctx, c, fmt.Sprintf("numbered-%d", k), fresh[k])
		}
		go func() {
			var all []program.Event
			for e := range c.Events() {
				all = append(all, e)
			}
			told <- all
		}()
		next, pids := map[string]uint64{}, map[string]int{}
		killed, cut, dead := 0, 0, map[int]bool{}
		settled := func() bool { // every task has said that it runs, in a process that lives
			for _, pid := range pids {
				if dead[pid] {
					return false
				}
			}
			return len(pids) == tasks
		}
		for killed < kills || cut < cuts || !settled() {
			m, err := c.Recv(ctx)
			if err != nil {
				return fmt.Errorf("after %d messages: %w", received, err)
			}
			received++
			if data, ok := strings.CutPrefix(string(m.Data), "pid "); ok {
				pids[m.Task], next[m.Task] = int(binary.BigEndian.Uint64([]byte(data))), 0
				var k int
				if _, err := fmt.Sscanf(m.Task, "numbered-%d", &k); err != nil {
					return err
				}
				fresh[k] <- struct{}{}
				continue
			}
			if got := binary.BigEndian.Uint64(m.Data); got != next[m.Task] {
				return fmt.Errorf("%s: message %d where %d was due", m.Task, got, next[m.Task])
			}
			next[m.Task]++
			if received%every != 0 {
				continue
			}
			s.Relay().Cut()
			cut++
			if killed < kills && settled() {
				killed++
				dead[pids[m.Task]] = true
				mu.Lock()
				kill := killers[pids[m.Task]]
				mu.Unlock()
				kill()
				spawn()
			}
		}
		return nil
	}))
	must(t, p.Run(t.Context(), program.Cluster(address)))
	finals, last, lost := map[string]int{}, map[string]int{}, 0
	events := <-told
	for _, e := range events {
		if e.Final() {
			finals[fmt.Sprintf("%s@%d", e.Task, e.Generation)]++
			last[e.Task] = max(last[e.Task], int(e.Generation))
			switch e.Kind {
			case program.TaskLost:
				lost++
			case program.TaskKilled:
			default:
				t.Errorf("%v", e)
			}
		}
	}
	for task, n := range finals {
		if n != 1 {
			t.Errorf("%s ended %d times", task, n)
		}
	}
	generations := 0
	for _, n := range last {
		generations += n
	}
	if lost < kills || len(last) != tasks || len(finals) != generations {
		t.Errorf("%d final events of %d generations, %d lost: %v", len(finals), generations, lost, events)
	}
	t.Logf("%d messages, %d tasks lost", received, lost)
}

// number sends 0, 1, 2, ... to each generation of a task, from 0 each time it
// says that it is there. What is sent between its loss and that goes to nobody.
func number(ctx context.Context, c program.Conn, task string, fresh <-chan struct{}) {
	for {
		select {
		case <-fresh:
		case <-ctx.Done():
			return
		}
		for i := uint64(0); len(fresh) == 0; i++ {
			if c.Send(ctx, program.Msg{Task: task, Data: binary.BigEndian.AppendUint64(nil, i)}) != nil {
				if ctx.Err() != nil {
					return
				}
				break // it is gone; a new one will say so
			}
		}
	}
}

// TestCallerDies kills the process of the scheduler function: the workers close
// in of its tasks, and nothing is left of the program.
func TestCallerDies(t *testing.T) {
	t.Parallel()
	s, address := startCluster(t)
	running, closed := make(chan struct{}, 3), make(chan struct{}, 3)
	w, err := worker.New(worker.Config{Name: "w0", Schedulers: []string{address}})
	must(t, err)
	must(t, w.RegisterTaskFunc("stay", func(in <-chan program.Msg, _ chan<- program.Msg, _ []string, _ map[string]string) error {
		running <- struct{}{}
		for range in {
		}
		closed <- struct{}{}
		return nil
	}))
	w.Start()
	t.Cleanup(func() { must(t, w.Stop(context.Background())) })
	_, kill := start(t, "caller "+address)
	for range 3 {
		<-running
	}
	kill()
	began := time.Now()
	for range 3 {
		<-closed
	}
	t.Logf("in was closed after %s with a lease of 5 s", time.Since(began).Round(time.Millisecond))
	for { // the record goes with its lease, the tasks after it
		left := 0
		v := s.Scheduler().View()
		v.Read(func() { left = len(v.Programs) + v.Tasks.Len() })
		if left == 0 {
			return
		}
		must(t, v.Wait(t.Context(), v.Revision()+1))
	}
}
