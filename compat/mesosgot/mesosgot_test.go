package mesosgot_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	exec "github.com/rota-project/rota/compat/mesosgot"  //nolint:staticcheck // the same
	got "github.com/rota-project/rota/compat/mesosgot"   //nolint:staticcheck // the same
	sched "github.com/rota-project/rota/compat/mesosgot" //nolint:staticcheck // as ported programs import it, by three names
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// counter reports itself, waits for the start, counts to three and says that it is done.
func counter(in <-chan got.GoTaskMsg, out chan<- got.GoTaskMsg, args []string) error {
	me := args[0]
	out <- got.GoTaskMsg{TaskName: me, MessageData: "here"}
	start := <-in
	for i := range 3 {
		out <- got.GoTaskMsg{TaskName: me, MessageData: fmt.Sprintf("%s^%d", start.MessageData, i)}
	}
	out <- got.GoTaskMsg{TaskName: me, MessageData: "done"}
	return nil
}

// tally counts events. An old program's loop may go on after its function has returned.
type tally struct {
	mu sync.Mutex
	of map[got.SchedEventType]int
}

func (c *tally) count(e got.SchedEventType) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[e]++
}

func (c *tally) number(e got.SchedEventType) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[e]
}

// counting is a scheduler function of the old sort: loops that read without asking
// whether a channel is closed.
func counting(t *testing.T, tasks int, kinds *tally) got.AppSchedulerFunc {
	return func(in <-chan got.GoTaskMsg, out chan<- got.GoTaskMsg, events <-chan got.SchedEvent) {
		quit := make(chan bool, 1)
		go func() {
			for {
				select {
				case e := <-events:
					kinds.count(e.EventType)
				case <-quit:
					quit <- true
					return
				}
			}
		}()
		here := map[string]int{}
		for range tasks {
			m := <-in
			here[m.TaskName] = 0
		}
		for name := range here {
			out <- got.GoTaskMsg{TaskName: name, MessageData: "go"}
		}
		for m := range in {
			if m.MessageData == "done" {
				if here[m.TaskName] != 3 {
					t.Errorf("%s counted to %d", m.TaskName, here[m.TaskName])
				}
				if delete(here, m.TaskName); len(here) == 0 {
					break
				}
				continue
			}
			if want := fmt.Sprintf("go^%d", here[m.TaskName]); m.MessageData != want {
				t.Errorf("%s says %q, not %q", m.TaskName, m.MessageData, want)
			}
			here[m.TaskName]++
		}
		quit <- true
		<-quit
	}
}

// program is a ported program of seven tasks, whose functions have a name of the test's.
func program(t *testing.T, conf *got.GoTaskSchedConfig, name string) (*got.SchedulerDriver, *tally) {
	t.Helper()
	kinds := &tally{of: map[got.SchedEventType]int{}}
	s := got.NewGoTaskScheduler("", conf, nil)
	s.SpawnTasks([]*got.AppTaskResourceInfo{
		{Name: name + "1", Count: 3, Resources: map[string]float64{"cpus": 0.1, "mem": 32}},
		{Name: name + "2", Count: 4, Resources: map[string]float64{"cpus": 0.1, "mem": 32}},
	})
	s.RegisterSchedFunc(counting(t, 7, kinds))
	d, err := sched.NewMesosSchedulerDriver(s.DriverConfig())
	must(t, err)
	return d, kinds
}

func executor(name string) *got.GoTaskExecutor {
	e := got.NewGoTaskExecutor(nil)
	e.RegisterTaskFunc(name+"1", counter)
	e.RegisterTask(name+"2", got.AppTaskFunc(counter))
	return e
}

// TestPortedInOneProcess runs a ported program and its executor in one process.
func TestPortedInOneProcess(t *testing.T) {
	t.Parallel()
	executor("local")
	d, _ := program(t, &got.GoTaskSchedConfig{Master: got.Local, Name: "ported-local"}, "local")
	if s, err := d.Run(); err != nil || s.String() != "DRIVER_STOPPED" {
		t.Errorf("%s, %v", s, err)
	}
}

// TestPortedOnCluster runs it on a cluster, whose worker the executor is.
func TestPortedOnCluster(t *testing.T) {
	t.Parallel()
	var ls [2]net.Listener
	for i := range ls {
		var err error
		ls[i], err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		must(t, err)
	}
	s, err := server.Start(server.Config{
		Scheduler: scheduler.Config{Store: memory.New(), Name: "s1", Lease: 3 * time.Second, Debounce: time.Millisecond},
		GRPC:      ls[0], HTTP: ls[1],
	})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	})
	must(t, s.Ready(t.Context()))
	address := ls[0].Addr().String()
	conf := executor("far").DriverConfig()
	conf.Worker = worker.Config{Name: "executor", Schedulers: []string{address}}
	e, err := exec.NewMesosExecutorDriver(conf)
	must(t, err)
	if s, err := e.Start(); err != nil || s != got.DriverRunning {
		t.Fatalf("%s, %v", s, err)
	}
	d, kinds := program(t, &got.GoTaskSchedConfig{Master: address, Name: "ported"}, "far")
	if s, err := d.Run(); err != nil {
		t.Errorf("%s, %v", s, err)
	}
	if registered, launched := kinds.number(got.Registered), kinds.number(got.TaskLaunched); registered != 1 || launched != 7 {
		t.Errorf("%d events that it was registered, %d of tasks launched", registered, launched)
	}
	if s, err := e.Stop(); err != nil || s != got.DriverStopped {
		t.Errorf("%s, %v", s, err)
	}
}

// TestFailureEndsProgram: a task that fails ends the program; old loops do not spin
// on closed channels meanwhile.
func TestFailureEndsProgram(t *testing.T) {
	t.Parallel()
	e := got.NewGoTaskExecutor(nil)
	e.RegisterTaskFunc("fails", func(<-chan got.GoTaskMsg, chan<- got.GoTaskMsg, []string) error { return errors.New("boom") })
	s := got.NewGoTaskScheduler("", &got.GoTaskSchedConfig{Master: got.Local, Name: "ported-fails"}, nil)
	s.SpawnTask("fails", 1, nil)
	s.RegisterSchedFunc(func(in <-chan got.GoTaskMsg, _ chan<- got.GoTaskMsg, events <-chan got.SchedEvent) {
		for {
			select {
			case e, ok := <-events:
				if !ok {
					t.Error("schedevent is closed")
					return
				}
				if e.EventType == got.Shutdown {
					return
				}
			case m, ok := <-in:
				if !ok {
					t.Errorf("schedin is closed, after %v", m)
					return
				}
			}
		}
	})
	d, err := sched.NewMesosSchedulerDriver(s.DriverConfig())
	must(t, err)
	if s, err := d.Run(); s != got.DriverAborted || err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("%s, %v", s, err)
	}
}

func TestMessagesHoldAnyBytes(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "^", "a^b^", "\x00\xff^"} {
		text, err := got.EncodeMsg(got.GoTaskMsg{TaskName: "a-0", MessageData: data})
		must(t, err)
		if m, err := got.DecodeMsg(text); err != nil || m.TaskName != "a-0" || m.MessageData != data {
			t.Errorf("%q became %+v, %v", data, m, err)
		}
	}
	if _, err := got.DecodeMsg("nothing"); err == nil {
		t.Error("no message was read as one")
	}
	if _, err := got.EncodeMsg(got.GoTaskMsg{TaskName: "a^"}); err == nil {
		t.Error("a name with a delimiter was written")
	}
}

func TestMistakesAreTold(t *testing.T) {
	t.Parallel()
	e := got.NewGoTaskExecutor(nil)
	e.RegisterTaskFunc("a b", counter)
	if _, err := exec.NewMesosExecutorDriver(e.DriverConfig()); err == nil {
		t.Error("a bad name")
	}
	s := got.NewGoTaskScheduler("", nil, nil)
	s.SpawnTask("x", 0, nil)
	s.RegisterSchedFunc(func(<-chan got.GoTaskMsg, chan<- got.GoTaskMsg, <-chan got.SchedEvent) {})
	if _, err := sched.NewMesosSchedulerDriver(s.DriverConfig()); err == nil {
		t.Error("no tasks of a kind")
	}
}
