//go:build unix

package program

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rota-project/rota"
)

// localFunctions are what worker processes of the tests offer.
var localFunctions Functions

func TestMain(m *testing.M) {
	for name, f := range map[string]TaskFunc{
		"echo": echo,
		"env": func(_ <-chan Msg, out chan<- Msg, args []string, env map[string]string) error {
			out <- Msg{Data: []byte(strings.Join(args[1:], ",") + " " + env["K"] + " " + strconv.Itoa(os.Getpid()))}
			return nil
		},
		"panic": func(in <-chan Msg, _ chan<- Msg, _ []string, _ map[string]string) error {
			<-in
			panic("far away")
		},
		"stuck": func(<-chan Msg, chan<- Msg, []string, map[string]string) error { select {} },
		// numbered sends numbers for ever and checks those that it gets.
		"numbered": func(in <-chan Msg, out chan<- Msg, args []string, _ map[string]string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			out <- Msg{Data: binary.BigEndian.AppendUint64([]byte("pid "), uint64(os.Getpid()))}
			go func() {
				for i := range n {
					out <- Msg{Data: binary.BigEndian.AppendUint64(nil, uint64(i))}
				}
			}()
			next := uint64(0)
			for m := range in {
				if got := binary.BigEndian.Uint64(m.Data); got != next {
					return fmt.Errorf("message %d where %d was due", got, next)
				}
				next++
			}
			return nil
		},
	} {
		if err := localFunctions.RegisterTaskFunc(name, f); err != nil {
			panic(err)
		}
	}
	ServeIfWorker(WithFunctions(&localFunctions))
	if os.Getenv("ROTA_TEST_PARENT") != "" {
		parent()
		return
	}
	os.Exit(m.Run())
}

func TestLocal(t *testing.T) {
	t.Parallel()
	p := New(t.Name())
	must(t, p.SpawnTasks(Spec{Name: "env", Count: 4, Args: []string{"a", "b c"}, Env: map[string]string{"K": "^"}}))
	must(t, p.SpawnTask("echo", 3, Resources{}))
	must(t, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, events <-chan Event) {
		pids := map[string]bool{}
		for range 4 {
			m := <-in
			text, pid, _ := strings.Cut(string(m.Data), " ^ ")
			if text != "a,b c" {
				t.Errorf("got %q", m.Data)
			}
			pids[pid] = true
		}
		if len(pids) != 2 || pids[strconv.Itoa(os.Getpid())] {
			t.Errorf("the tasks ran in processes %v", pids)
		}
		const each = 20_000
		go func() {
			for i := range each {
				for k := range 3 {
					out <- Msg{Task: fmt.Sprintf("echo-%d", k), Data: binary.BigEndian.AppendUint64(nil, uint64(i))}
				}
			}
		}()
		next := map[string]uint64{}
		for range 3 * each {
			m := <-in
			if got := binary.BigEndian.Uint64(m.Data); got != next[m.Task] {
				t.Errorf("%s: message %d where %d was due", m.Task, got, next[m.Task])
				return
			}
			next[m.Task]++
		}
	}))
	must(t, p.Run(t.Context(), Local(2, WithFunctions(&localFunctions))))
}

func TestLocalPanic(t *testing.T) {
	t.Parallel()
	p := New(t.Name())
	must(t, p.SpawnTask("panic", 1, Resources{}))
	must(t, p.SpawnTask("echo", 2, Resources{}))
	var events []Event
	must(t, p.RegisterSchedFunc(func(_ <-chan Msg, out chan<- Msg, ev <-chan Event) {
		out <- Msg{Task: "panic-0"}
		events = collect(ev)
	}))
	var te *TaskError
	if err := p.Run(t.Context(), Local(2, WithFunctions(&localFunctions))); !errors.As(err, &te) || te.Text != "panic: far away" || te.Stack == "" {
		t.Fatalf("Run: %v", err)
	}
	if got := finals(events); len(got) != 3 || !slices.Equal(got["panic-0@1"], []Kind{TaskFailed}) || !slices.Equal(got["echo-1@1"], []Kind{TaskKilled}) {
		t.Errorf("final events: %v", got)
	}
}

// TestLocalStuck has a task that ignores everything: it is given up, and its
// process with it.
func TestLocalStuck(t *testing.T) {
	t.Parallel()
	p := New(t.Name(), Config{Grace: 50 * time.Millisecond})
	must(t, p.SpawnTask("stuck", 1, Resources{}))
	must(t, p.RegisterSchedFunc(func(_ <-chan Msg, _ chan<- Msg, events <-chan Event) {
		for e := range events {
			if e.Kind == TaskRunning {
				return
			}
		}
	}))
	must(t, p.Run(t.Context(), Local(1, WithFunctions(&localFunctions))))
}

// TestLocalKilled numbers messages in both directions while worker processes are
// killed. Of each generation of a task, what arrives is 0, 1, 2, ... without a
// gap, and each ends exactly once.
func TestLocalKilled(t *testing.T) {
	t.Parallel()
	const tasks, kills = 4, 6
	p := New(t.Name(), Config{Policy: RestartTask})
	must(t, p.SpawnTasks(Spec{Name: "numbered", Count: tasks, Args: []string{"100000000"}}))
	told := make(chan []Event, 1)
	var received int
	must(t, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for k := range tasks { // numbers to each generation, while it lives
			wg.Go(func() {
				sc := c.(*schedConn)
				name := fmt.Sprintf("numbered-%d", k)
				for ctx.Err() == nil {
					peer, err := sc.peer(name)
					if err != nil {
						runtime.Gosched()
						continue
					}
					for i := uint64(0); put(ctx, peer.out, &Msg{Data: binary.BigEndian.AppendUint64(nil, i)}, false) == nil && !peer.ended.Load(); i++ {
					}
				}
			})
		}
		go func() { told <- collect(c.Events()) }()
		next := map[string]uint64{}
		killed := map[uint64]bool{}
		pids := map[string]uint64{}
		for {
			m, err := c.Recv(ctx)
			if err != nil {
				return fmt.Errorf("after %d messages: %w", received, err)
			}
			received++
			if data, ok := strings.CutPrefix(string(m.Data), "pid "); ok {
				pids[m.Task] = binary.BigEndian.Uint64([]byte(data))
				next[m.Task] = 0
				continue
			}
			if got := binary.BigEndian.Uint64(m.Data); got != next[m.Task] {
				return fmt.Errorf("%s: message %d where %d was due", m.Task, got, next[m.Task])
			}
			next[m.Task]++
			if received%20_000 == 0 {
				if len(killed) == kills {
					return nil
				}
				if pid := pids[m.Task]; !killed[pid] {
					killed[pid] = true
					must(t, syscall.Kill(int(pid), syscall.SIGKILL))
				}
			}
		}
	}))
	must(t, p.Run(t.Context(), Local(2, WithFunctions(&localFunctions))))
	lost := 0
	events := <-told
	for task, kinds := range finals(events) {
		if len(kinds) != 1 {
			t.Errorf("%s ended %v", task, kinds)
		}
		if kinds[0] == TaskLost {
			lost++
		} else if kinds[0] != TaskKilled {
			t.Errorf("%s ended %v: %v", task, kinds, events)
		}
	}
	if lost < kills {
		t.Errorf("%d tasks were lost to %d kills", lost, kills)
	}
}

func TestLocalBadInput(t *testing.T) {
	t.Parallel()
	p := New(t.Name())
	must(t, p.RegisterSchedFunc(func(<-chan Msg, chan<- Msg, <-chan Event) {}))
	var fe *rota.FieldError
	for _, n := range []int{0, -1, MaxLocal + 1} {
		if err := p.Run(t.Context(), Local(n)); !errors.As(err, &fe) {
			t.Errorf("%d processes: %v", n, err)
		}
	}
}

// parent is a process with workers that is killed by TestParentDies.
func parent() {
	p := New("parent")
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	check(p.SpawnTask("env", 2, Resources{}))
	check(p.SpawnTask("stuck", 2, Resources{}))
	check(p.RegisterSchedFunc(func(in <-chan Msg, _ chan<- Msg, _ <-chan Event) {
		for m := range in {
			fmt.Println(string(m.Data[strings.LastIndex(string(m.Data), " ")+1:]))
		}
	}))
	check(p.Run(context.Background(), Local(2, WithFunctions(&localFunctions))))
}

// TestParentDies kills a process with -9: its workers go too.
func TestParentDies(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "ROTA_TEST_PARENT=1")
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	var pids [2]int
	for i := range pids {
		if _, err := fmt.Fscanln(out, &pids[i]); err != nil {
			t.Fatal(err)
		}
	}
	must(t, cmd.Process.Kill())
	if _, err := fmt.Fscanln(out, new(int)); err == nil { // the pipe ends when all who hold it are gone
		t.Error("more was written")
	}
	_ = cmd.Wait()
}
