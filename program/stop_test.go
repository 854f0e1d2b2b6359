package program_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/worker"

	"google.golang.org/protobuf/encoding/protowire"
)

// many is how many tasks are stopped while they start.
const many = 2000

// counted is a task function that counts those that run.
func counted(running *atomic.Int64) program.ConnFunc {
	return func(ctx context.Context, c program.Conn) error {
		running.Add(1)
		defer running.Add(-1)
		_, _ = c.Recv(ctx)
		return nil
	}
}

// Moments of a start at which a program is stopped.
func registered(e program.Event, _, _ int) bool         { return e.Kind == program.Registered }
func fewLaunched(_ program.Event, launched, _ int) bool { return launched == 10 }
func halfRunning(_ program.Event, _, running int) bool  { return running == many/2 }

// starting makes a program of many tasks that is stopped by stop at the moment.
func starting(t *testing.T, name string, at func(program.Event, int, int) bool, stop func(p *program.Program)) *program.Program {
	t.Helper()
	p := program.New(name)
	must(t, p.SpawnTask("count", many, program.Resources{}))
	must(t, p.RegisterSchedFunc(func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
		launched, running, stopped := 0, 0, false
		for e := range events {
			switch e.Kind {
			case program.TaskLaunched:
				launched++
			case program.TaskRunning:
				running++
			default:
			}
			if !stopped && at(e, launched, running) {
				stopped = true
				stop(p)
			}
		}
	}))
	return p
}

// TestStopWhileStarting stops a program of 2,000 tasks at moments of its start, in
// this process, on a cluster and detached. When Run returns nothing of it runs,
// nothing stays granted, and its name is free: each program is run twice.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		run func(*testing.T, func(program.Event, int, int) bool)
		at  func(program.Event, int, int) bool
	}{
		"in process, registered":   {stopInProcess, registered},
		"in process, few launched": {stopInProcess, fewLaunched},
		"in process, half running": {stopInProcess, halfRunning},
		"cluster, registered":      {stopOnCluster, registered},
		"cluster, few launched":    {stopOnCluster, fewLaunched},
		"cluster, half running":    {stopOnCluster, halfRunning},
		"detached, half running":   {stopDetached, halfRunning},
	} {
		t.Run(name, func(t *testing.T) { c.run(t, c.at) })
	}
}

// patient is a lease that does not end on a machine that is busy with 2,000 tasks.
const patient = time.Minute

func stopInProcess(t *testing.T, at func(program.Event, int, int) bool) {
	var running atomic.Int64
	var fs program.Functions
	must(t, fs.RegisterTaskConn("count", counted(&running)))
	for range 2 {
		p := starting(t, "stopped-in-process", at, func(p *program.Program) { p.Stop("enough") })
		if err := p.Run(t.Context(), program.InProcess(program.WithFunctions(&fs))); err == nil || !strings.Contains(err.Error(), "enough") {
			t.Fatalf("Run: %v", err)
		}
		if n := running.Load(); n != 0 {
			t.Fatalf("%d tasks run on", n)
		}
	}
}

func stopOnCluster(t *testing.T, at func(program.Event, int, int) bool) {
	var running atomic.Int64
	c := startClusterWith(t, patient)
	for i := range 3 {
		c.worker(t, fmt.Sprintf("w%d", i), nil, map[string]program.ConnFunc{"count": counted(&running)})
	}
	for range 2 {
		p := starting(t, "stopped", at, func(p *program.Program) { p.Stop("enough") })
		if err := p.Run(t.Context(), program.Cluster(c.grpc)); err == nil || !strings.Contains(err.Error(), "enough") {
			t.Fatalf("Run: %v", err)
		}
		c.free(t, &running)
	}
}

func stopDetached(t *testing.T, at func(program.Event, int, int) bool) {
	var running atomic.Int64
	c := startClusterWith(t, patient)
	ran := make(chan struct{}, 2)
	for i := range 3 {
		w, err := worker.New(worker.Config{Name: fmt.Sprintf("w%d", i), Schedulers: []string{c.grpc}})
		must(t, err)
		must(t, w.RegisterTaskConn("count", counted(&running)))
		must(t, w.RegisterProgram("starts", func(name string, _ []string) (*program.Program, error) {
			return starting(t, name, at, func(*program.Program) {
				_, err := c.server.Service().StopProgram(auth.Inside(t.Context()), &rotav1.StopProgramRequest{Name: name, Reason: "enough"})
				if err != nil {
					t.Error(err)
				}
				ran <- struct{}{}
			}), nil
		}))
		w.Start()
		t.Cleanup(func() { must(t, w.Stop(context.Background())) })
	}
	for range 2 {
		cfg := program.ClusterConfig{Addresses: []string{c.grpc}}
		must(t, program.Submit(t.Context(), cfg, "far", "starts"))
		<-ran
		nothingLeft(t, c)
		c.free(t, &running)
	}
}

// free sees that no task runs, and that none stays granted: what the leader decides in
// the moment of the end is taken back without having begun.
func (c *cluster) free(t *testing.T, running *atomic.Int64) {
	t.Helper()
	v := c.server.Scheduler().View()
	for {
		if n := running.Load(); n != 0 {
			t.Fatalf("after the end %d tasks run", n)
		}
		held, rev := 0, v.Revision()
		v.Read(func() {
			for i := range many {
				for _, name := range []string{"stopped", "far"} {
					held += len(v.Holders(rota.Instance{Task: fmt.Sprintf("%s/count-%d", name, i)}))
				}
			}
		})
		if held == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), patient/2)
		err := v.Wait(ctx, rev+1)
		cancel()
		if err != nil {
			t.Fatalf("after the end %d tasks stay granted", held)
		}
	}
}

// TestCauseOfTheEnd: what a run comes to when its context ends is the context's
// cause, however soon the scheduler function returns because of it.
func TestCauseOfTheEnd(t *testing.T) {
	t.Parallel()
	cause := errors.New("the cause")
	for range 1000 {
		p := program.New("short")
		begun := make(chan struct{})
		must(t, p.RegisterSchedConn(func(ctx context.Context, _ program.Conn) error {
			close(begun)
			<-ctx.Done()
			return nil
		}))
		ctx, end := context.WithCancelCause(t.Context())
		go func() {
			<-begun
			end(cause)
		}()
		if err := p.Run(ctx, program.InProcess()); !errors.Is(err, cause) {
			t.Fatalf("Run: %v", err)
		}
	}
}

// TestMovesAgainAndAgain: a program whose workers are drained in turn is never
// forgotten.
func TestMovesAgainAndAgain(t *testing.T) {
	t.Parallel()
	c := startClusterWith(t, patient)
	begun := make(chan string)
	for _, on := range []string{"w0", "w1"} {
		w, err := worker.New(worker.Config{Name: on, Schedulers: []string{c.grpc}})
		must(t, err)
		must(t, w.RegisterProgram("waits", func(name string, _ []string) (*program.Program, error) {
			p := program.New(name)
			return p, p.RegisterSchedConn(func(ctx context.Context, _ program.Conn) error {
				select {
				case begun <- on:
				case <-ctx.Done():
				}
				<-ctx.Done()
				return nil
			})
		}))
		w.Start()
		c.joined(t, on)
		t.Cleanup(func() { must(t, w.Stop(context.Background())) })
	}
	must(t, program.Submit(t.Context(), program.ClusterConfig{Addresses: []string{c.grpc}}, "far", "waits"))
	svc, ctx := c.server.Service(), auth.Inside(t.Context())
	for range 20 {
		on := <-begun
		_, err := svc.DrainWorker(ctx, &rotav1.WorkerRequest{Name: on})
		must(t, err)
		other := map[string]string{"w0": "w1", "w1": "w0"}[on]
		_, err = svc.UndrainWorker(ctx, &rotav1.WorkerRequest{Name: other})
		must(t, err)
	}
	<-begun
}

// TestLeavingIsLost: a task function that returns because its worker leaves, with an
// error or without, has neither finished nor failed: it goes on elsewhere.
func TestLeavingIsLost(t *testing.T) {
	t.Parallel()
	c := startClusterWith(t, patient)
	until := func(err error) program.ConnFunc {
		return func(ctx context.Context, c program.Conn) error {
			_, _ = c.Recv(ctx)
			return err
		}
	}
	channels := func(err error) program.TaskFunc {
		return func(in <-chan program.Msg, _ chan<- program.Msg, _ []string, _ map[string]string) error {
			for range in { // to its end
			}
			return err
		}
	}
	torn := errors.New("torn away")
	join := func(n int) *worker.Worker {
		w, err := worker.New(worker.Config{Name: fmt.Sprint("w", n), Schedulers: []string{c.grpc}})
		must(t, err)
		must(t, w.RegisterTaskConn("returns", until(nil)))
		must(t, w.RegisterTaskConn("fails", until(torn)))
		must(t, w.RegisterTaskFunc("closes", channels(nil)))
		must(t, w.RegisterTaskFunc("breaks", channels(torn)))
		w.Start()
		t.Cleanup(func() { must(t, w.Stop(context.Background())) })
		return w
	}
	const each, leave = 8, 4
	p := program.New("left", program.Config{Policy: program.RestartTask})
	for _, f := range []string{"returns", "fails", "closes", "breaks"} {
		must(t, p.SpawnTask(f, each, program.Resources{}))
	}
	n, w := 0, join(0)
	must(t, p.RegisterSchedFunc(func(_ <-chan program.Msg, _ chan<- program.Msg, events <-chan program.Event) {
		running := map[string]bool{}
		for e := range events {
			switch e.Kind {
			case program.TaskRunning:
				running[e.Task] = true
			case program.TaskLost:
				delete(running, e.Task)
			case program.TaskFinished, program.TaskFailed, program.TaskKilled:
				t.Errorf("%s: %s on %s: %s", e.Task, e.Kind, e.Worker, e.Text)
				return
			}
			if len(running) < 4*each {
				continue
			}
			if n++; n > leave {
				return
			}
			next := join(n)
			go func(w *worker.Worker) { _ = w.Stop(context.Background()) }(w)
			w = next
			clear(running)
		}
	}))
	must(t, p.Run(t.Context(), program.Cluster(c.grpc)))
}

// TestNeverBegan: a submitted program that cannot begin is tried again, and is not
// taken for one that runs.
func TestNeverBegan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		addresses []string
		make      func(p *program.Program) error
	}{
		"no scheduler":          {[]string{"127.0.0.1:1"}, func(p *program.Program) error { return p.RegisterSchedConn(echo) }},
		"no scheduler function": {[]string{startCluster(t).grpc}, func(*program.Program) error { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := program.RunSubmitted(t.Context(), program.ClusterConfig{Addresses: c.addresses}, func(name string, _ []string) (*program.Program, error) {
				p := program.New(name)
				return p, c.make(p)
			}, []byte(`{"name":"far"}`), nil)
			if err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestStopOutlivesTheWorker: a submitted program that was told to stop, and whose worker
// was lost before it came to that, is not begun by the next one.
func TestStopOutlivesTheWorker(t *testing.T) {
	t.Parallel()
	c := startClusterWith(t, patient)
	w, err := worker.New(worker.Config{Name: "w0", Schedulers: []string{c.grpc}})
	must(t, err)
	begun := make(chan struct{}, 10)
	must(t, w.RegisterProgram("waits", func(name string, _ []string) (*program.Program, error) {
		p := program.New(name)
		return p, p.RegisterSchedConn(func(ctx context.Context, _ program.Conn) error {
			begun <- struct{}{}
			<-ctx.Done()
			return nil
		})
	}))
	must(t, program.Submit(t.Context(), program.ClusterConfig{Addresses: []string{c.grpc}}, "far", "waits"))
	// What the scheduler keeps of a stop, a rota.store.ProgramHistory: version 1, stop "enough".
	kept := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	kept = protowire.AppendString(protowire.AppendTag(kept, 3, protowire.BytesType), "enough")
	_, _, err = c.store.Txn(t.Context(), nil, []store.Op{{Key: store.HistoryKey("far"), Value: kept}})
	must(t, err)
	w.Start()
	t.Cleanup(func() { must(t, w.Stop(context.Background())) })
	nothingLeft(t, c)
	if len(begun) > 0 {
		t.Error("it was begun again")
	}
	must(t, program.Submit(t.Context(), program.ClusterConfig{Addresses: []string{c.grpc}}, "far", "waits"))
	<-begun // the next of the name begins
}
