package program

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// must stops a test whose preparation failed.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func echo(in <-chan Msg, out chan<- Msg, args []string, env map[string]string) error {
	for m := range in {
		out <- m.Reply(m.Data)
	}
	return nil
}

func functions(t testing.TB, fs map[string]TaskFunc) Place {
	t.Helper()
	var f Functions
	for name, fn := range fs {
		must(t, f.RegisterTaskFunc(name, fn))
	}
	return InProcess(WithFunctions(&f))
}

func TestEcho(t *testing.T) {
	t.Parallel()
	p := New("echo-" + t.Name())
	must(t, p.SpawnTask("echo", 4, Resources{CPUs: 0.1}))
	const each = 5000
	must(t, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, events <-chan Event) {
		go func() {
			for i := range each {
				for k := range 4 {
					out <- Msg{Task: fmt.Sprintf("echo-%d", k), Data: binary.BigEndian.AppendUint64(nil, uint64(i))}
				}
			}
		}()
		next := map[string]uint64{}
		for range 4 * each {
			m := <-in
			if got := binary.BigEndian.Uint64(m.Data); got != next[m.Task] {
				t.Errorf("%s: message %d where %d was due", m.Task, got, next[m.Task])
				return
			}
			next[m.Task]++
		}
	}))
	must(t, p.Run(t.Context(), functions(t, map[string]TaskFunc{"echo": echo})))
}

// TestArgs has args and env reach the function, and what the scheduler function
// sent last is read before in is closed.
func TestArgs(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	task := func(in <-chan Msg, _ chan<- Msg, args []string, env map[string]string) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, args...)
		got = append(got, env["COLOUR"])
		for m := range in {
			got = append(got, m.Task, string(m.Data))
		}
		if _, ok := <-in; ok {
			return errors.New("in was opened again")
		}
		return nil
	}
	p := New(t.Name())
	must(t, p.SpawnTasks(Spec{Name: "a", Count: 1, Args: []string{"x", "y z"}, Env: map[string]string{"COLOUR": "red^blue"}}))
	must(t, p.RegisterSchedFunc(func(_ <-chan Msg, out chan<- Msg, events <-chan Event) {
		for e := range events {
			if e.Kind == TaskRunning { // one that has no place yet would never run
				break
			}
		}
		out <- Msg{Task: "a-0", Data: []byte("any ^ \x00\xff bytes")}
		out <- Msg{Task: "a-0"}
	}))
	must(t, p.Run(t.Context(), functions(t, map[string]TaskFunc{"a": task})))
	if want := []string{"a-0", "x", "y z", "red^blue", "a-0", "any ^ \x00\xff bytes", "a-0", ""}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// collect reads all events until their channel is closed.
func collect(events <-chan Event) (all []Event) {
	for e := range events {
		all = append(all, e)
	}
	return all
}

func finals(events []Event) map[string][]Kind {
	m := map[string][]Kind{}
	for _, e := range events {
		if e.Final() {
			key := fmt.Sprintf("%s@%d", e.Task, e.Generation)
			m[key] = append(m[key], e.Kind)
		}
	}
	return m
}

// TestFailures ends one task of several in each way that a function can, and
// sees one final event for each task, the failure first.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail  func() error
		text  string
		stack bool
	}{
		"error":  {func() error { return errors.New("boom ^") }, "boom ^", false},
		"panic":  {func() error { panic("at the disco") }, "panic: at the disco", true},
		"nil":    {func() error { n := len(os.Args); return fmt.Errorf("%s", os.Args[n]) }, "panic: runtime error: index out of range", true},
		"goexit": {func() error { runtime.Goexit(); return nil }, "the function ended its goroutine", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t.Name()[strings.LastIndex(t.Name(), "/")+1:] + "-failures")
			must(t, p.SpawnTask("good", 3, Resources{}))
			must(t, p.SpawnTask("bad", 1, Resources{}))
			var events []Event
			must(t, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, ev <-chan Event) {
				out <- Msg{Task: "bad-0"}
				events = collect(ev)
			}))
			err := p.Run(t.Context(), functions(t, map[string]TaskFunc{
				"good": echo,
				"bad": func(in <-chan Msg, _ chan<- Msg, _ []string, _ map[string]string) error {
					<-in
					return c.fail()
				},
			}))
			var te *TaskError
			if !errors.As(err, &te) || te.Task != "bad-0" || te.How != lifecycle.Failed || !strings.HasPrefix(te.Text, c.text) {
				t.Fatalf("Run: %v", err)
			}
			got := finals(events)
			if len(got) != 4 {
				t.Errorf("final events: %v", got)
			}
			for task, kinds := range got {
				want := TaskKilled
				if task == "bad-0@1" {
					want = TaskFailed
				}
				if len(kinds) != 1 || kinds[0] != want {
					t.Errorf("%s: %v", task, kinds)
				}
			}
			i := slices.IndexFunc(events, func(e Event) bool { return e.Final() })
			if events[i].Task != "bad-0" || (events[i].Stack != "") != c.stack {
				t.Errorf("the first to end: %+v", events[i])
			}
			if k := events[len(events)-1].Kind; k == Registered {
				t.Error("no end was told")
			}
		})
	}
}

func TestRestartTaskKeepsGoing(t *testing.T) {
	t.Parallel()
	p := New(t.Name(), Config{Policy: RestartTask})
	must(t, p.SpawnTask("w", 2, Resources{}))
	var runs atomic.Int32
	must(t, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
		for e := range c.Events() {
			if e.Kind == TaskRunning && e.Task == "w-1" && e.Generation == 3 {
				break
			}
		}
		for _, task := range []string{"w-0", "w-1"} {
			m, err := c.Request(ctx, Msg{Task: task, Data: []byte("are you there?")})
			if err != nil || string(m.Data) != "yes" || m.Task != task {
				return fmt.Errorf("%s answered %q, %w", task, m.Data, err)
			}
		}
		return nil
	}))
	var fs Functions
	must(t, fs.RegisterTaskConn("w", func(ctx context.Context, c Conn) error {
		if c.Name() == "w-1" && runs.Add(1) < 3 {
			panic("again")
		}
		for {
			m, err := c.Recv(ctx)
			if err != nil {
				return nil //nolint:nilerr // time to exit
			}
			if err := c.Send(ctx, m.Reply([]byte("yes"))); err != nil {
				return err
			}
		}
	}))
	must(t, p.Run(t.Context(), InProcess(WithFunctions(&fs))))
}

func TestRestartAllStartsAllAgain(t *testing.T) {
	t.Parallel()
	p := New(t.Name(), Config{Policy: RestartAll})
	must(t, p.SpawnTask("w", 3, Resources{}))
	var failed atomic.Bool
	must(t, p.RegisterSchedFunc(func(_ <-chan Msg, _ chan<- Msg, events <-chan Event) {
		running := 0
		for e := range events {
			if e.Kind == TaskRunning && e.Generation == 2 {
				if running++; running == 3 {
					return
				}
			}
		}
	}))
	must(t, p.Run(t.Context(), functions(t, map[string]TaskFunc{"w": func(in <-chan Msg, _ chan<- Msg, _ []string, _ map[string]string) error {
		if failed.CompareAndSwap(false, true) {
			return errors.New("once")
		}
		for range in {
		}
		return nil
	}})))
}

// TestSlowTask floods a task that never reads beside one that does, through the
// one channel to both: the reader gets all of its own.
func TestSlowTask(t *testing.T) {
	t.Parallel()
	p := New(t.Name(), Config{Stall: 50 * time.Millisecond, Grace: 100 * time.Millisecond})
	must(t, p.SpawnTask("stuck", 1, Resources{}))
	must(t, p.SpawnTask("echo", 1, Resources{}))
	const n = 3000
	var stalled, refused bool
	must(t, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, events <-chan Event) {
		go func() {
			for range n {
				out <- Msg{Task: "stuck-0", Data: make([]byte, 1000)}
				out <- Msg{Task: "echo-0", Data: []byte("x")}
			}
		}()
		for range n {
			<-in
		}
		for e := range events {
			stalled = stalled || e.Kind == Stalled && e.Task == "stuck-0"
			refused = refused || e.Kind == Error && e.Task == "stuck-0"
			if stalled && refused {
				return
			}
		}
	}))
	stuck := make(chan struct{})
	defer close(stuck)
	must(t, p.Run(t.Context(), functions(t, map[string]TaskFunc{"echo": echo, "stuck": func(<-chan Msg, chan<- Msg, []string, map[string]string) error {
		<-stuck
		return nil
	}})))
}

// TestSchedulerThatNeverReads ends by its context, after it was told.
func TestSchedulerThatNeverReads(t *testing.T) {
	t.Parallel()
	p := New(t.Name(), Config{Stall: 20 * time.Millisecond, Grace: 50 * time.Millisecond})
	must(t, p.SpawnTask("loud", 2, Resources{}))
	must(t, p.RegisterSchedFunc(func(_ <-chan Msg, _ chan<- Msg, events <-chan Event) {
		for e := range events {
			if e.Kind == Stalled && e.Task == "" {
				return
			}
		}
	}))
	must(t, p.Run(t.Context(), functions(t, map[string]TaskFunc{"loud": func(_ <-chan Msg, out chan<- Msg, _ []string, _ map[string]string) error {
		for range 3000 { // more than every buffer holds
			out <- Msg{Data: make([]byte, 1000)}
		}
		return nil
	}})))
}

func TestSchedulerPanics(t *testing.T) {
	t.Parallel()
	p := New(t.Name())
	must(t, p.SpawnTask("echo", 2, Resources{}))
	must(t, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, _ <-chan Event) {
		out <- Msg{Task: "echo-0"}
		<-in
		panic("lost the plot")
	}))
	var se *SchedError
	if err := p.Run(t.Context(), functions(t, map[string]TaskFunc{"echo": echo})); !errors.As(err, &se) || se.Text != "panic: lost the plot" || !strings.Contains(se.Stack, "TestSchedulerPanics") {
		t.Fatalf("Run: %v", err)
	}
}

// TestSchedulerStays does not return when its program has ended: it is given up.
func TestSchedulerStays(t *testing.T) {
	t.Parallel()
	p := New(t.Name(), Config{Grace: 20 * time.Millisecond})
	must(t, p.SpawnTask("bad", 1, Resources{}))
	forever := make(chan struct{})
	defer close(forever)
	must(t, p.RegisterSchedFunc(func(<-chan Msg, chan<- Msg, <-chan Event) { <-forever }))
	var te *TaskError
	if err := p.Run(t.Context(), functions(t, map[string]TaskFunc{"bad": func(<-chan Msg, chan<- Msg, []string, map[string]string) error {
		return errors.New("boom")
	}})); !errors.As(err, &te) {
		t.Fatalf("Run: %v", err)
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	p := New(t.Name(), Config{Grace: 50 * time.Millisecond})
	must(t, p.SpawnTask("stuck", 3, Resources{}))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough of this")
	must(t, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
		running := 0
		for e := range c.Events() {
			if e.Kind == TaskRunning {
				if running++; running == 3 {
					cancel(why)
				}
			}
		}
		return nil
	}))
	var fs Functions
	must(t, fs.RegisterTaskConn("stuck", func(ctx context.Context, c Conn) error {
		<-ctx.Done() // does not read, so it learns by its context
		if _, err := c.Recv(context.Background()); !errors.Is(err, io.EOF) {
			t.Errorf("Recv at the end: %v", err)
		}
		return nil
	}))
	if err := p.Run(ctx, InProcess(WithFunctions(&fs))); !errors.Is(err, why) {
		t.Fatalf("Run: %v", err)
	}
}

// TestWaits has a program wait for a function that nobody has yet, and for room.
func TestWaits(t *testing.T) {
	t.Parallel()
	var fs Functions
	p := New(t.Name())
	must(t, p.SpawnTask("late", 2, Resources{CPUs: 1}))
	must(t, p.RegisterSchedFunc(func(_ <-chan Msg, _ chan<- Msg, events <-chan Event) {
		for e := range events {
			switch e.Kind {
			case Waits:
				if s := p.Status(); s.Phase != lifecycle.Waiting || s.Missing == "" || !strings.Contains(e.Text, "no task function late") {
					t.Errorf("%q, %+v", e.Text, s)
				}
				must(t, fs.RegisterTaskFunc("late", echo))
			case TaskRunning:
				if e.Task == "late-1" {
					return
				}
			}
		}
	}))
	must(t, p.Run(t.Context(), InProcess(WithFunctions(&fs), WithCapacity(Resources{CPUs: 2}))))

	large := New(t.Name() + "-large")
	must(t, large.SpawnTask("late", 2, Resources{CPUs: 1.5}))
	var said string
	must(t, large.RegisterSchedFunc(func(_ <-chan Msg, _ chan<- Msg, events <-chan Event) {
		for e := range events {
			if e.Kind == Waits {
				said = e.Text
				return
			}
			if e.Kind == TaskLaunched {
				t.Errorf("a part of the gang was launched: %v", e)
			}
		}
	}))
	must(t, large.Run(t.Context(), InProcess(WithFunctions(&fs), WithCapacity(Resources{CPUs: 2}))))
	if want := "1 of late: no room for its 1.5 cpus"; said != want {
		t.Errorf("said %q, want %q", said, want)
	}
}

func TestConn(t *testing.T) {
	t.Parallel()
	var fs Functions
	must(t, fs.RegisterTaskConn("calc", func(ctx context.Context, c Conn) error {
		m, err := c.Request(ctx, Msg{Data: []byte("who am I?")}) // tasks may ask too
		if err != nil || string(m.Data) != c.Name() {
			return fmt.Errorf("told %q, %w", m.Data, err)
		}
		for {
			m, err := c.Recv(ctx)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			switch string(m.Data) {
			case "fail":
				err = c.Send(ctx, m.ReplyError(errors.New("cannot")))
			case "sleep":
			case "die":
				return nil
			default:
				err = c.Send(ctx, m.Reply(append([]byte("re: "), m.Data...)))
			}
			if err != nil {
				return err
			}
		}
	}))
	p := New(t.Name())
	must(t, p.SpawnTask("calc", 3, Resources{}))
	must(t, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
		for range 3 {
			m, err := c.Recv(ctx)
			if err != nil || !m.IsRequest() {
				return fmt.Errorf("%+v, %w", m, err)
			}
			must(t, c.Send(ctx, m.Reply([]byte(m.Task))))
		}
		if m, err := c.Request(ctx, Msg{Task: "calc-1", Data: []byte("2+2")}); err != nil || string(m.Data) != "re: 2+2" {
			t.Errorf("%q, %v", m.Data, err)
		}
		var re *RemoteError
		if _, err := c.Request(ctx, Msg{Task: "calc-1", Data: []byte("fail")}); !errors.As(err, &re) || re.Text != "cannot" || re.Task != "calc-1" {
			t.Errorf("an error as answer: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		if _, err := c.Request(short, Msg{Task: "calc-1", Data: []byte("sleep")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v", err)
		}
		if err := c.Send(ctx, Msg{Task: "calc-1", Data: make([]byte, MaxMessage+1)}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("over the limit: %v", err)
		}
		if err := c.Send(ctx, Msg{Task: "calc-9"}); !errors.Is(err, ErrUnknownTask) {
			t.Errorf("to nobody: %v", err)
		}
		if err := c.Broadcast(ctx, "nobody", nil); !errors.Is(err, ErrUnknownTask) {
			t.Errorf("broadcast to nobody: %v", err)
		}
		if err := c.Kill("calc-9"); !errors.Is(err, ErrUnknownTask) {
			t.Errorf("killed nobody: %v", err)
		}
		must(t, c.Broadcast(ctx, "calc", []byte("all")))
		from := map[string]int{}
		for range 3 {
			m, err := c.Recv(ctx)
			if err != nil || string(m.Data) != "re: all" {
				return fmt.Errorf("%q, %w", m.Data, err)
			}
			from[m.Task]++
		}
		if len(from) != 3 {
			t.Errorf("answers from %v", from)
		}
		if _, err := c.Request(ctx, Msg{Task: "calc-2", Data: []byte("die")}); !errors.Is(err, ErrGone) {
			t.Errorf("a request to one that ends: %v", err)
		}
		if err := c.Send(ctx, Msg{Task: "calc-2"}); !errors.Is(err, ErrGone) {
			t.Errorf("to one that has ended: %v", err)
		}
		must(t, c.Kill("calc-0"))
		for e := range c.Events() {
			if e.Final() && e.Task == "calc-0" {
				if e.Kind != TaskKilled {
					t.Errorf("%v", e)
				}
				break
			}
		}
		return nil
	}))
	must(t, p.Run(t.Context(), InProcess(WithFunctions(&fs))))
}

// TestTooLargeFromChannel has a message over the limit come back to the task
// that sent it; nothing dies of it.
func TestTooLargeFromChannel(t *testing.T) {
	t.Parallel()
	p := New(t.Name())
	must(t, p.SpawnTask("big", 1, Resources{}))
	must(t, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, events <-chan Event) {
		out <- Msg{Task: "big-0", Data: make([]byte, MaxMessage+1)}
		out <- Msg{Task: "big-0", Data: make([]byte, MaxMessage)}
		if m := <-in; !strings.Contains(string(m.Data), "over the limit") {
			t.Errorf("%q", m.Data)
		}
		errs := 0
		for e := range events {
			if e.Kind == Error && strings.Contains(e.Text, "over the limit") {
				if errs++; errs == 2 {
					return
				}
			}
		}
	}))
	must(t, p.Run(t.Context(), functions(t, map[string]TaskFunc{"big": func(in <-chan Msg, out chan<- Msg, _ []string, _ map[string]string) error {
		m := <-in
		if len(m.Data) != MaxMessage {
			return fmt.Errorf("got %d bytes", len(m.Data))
		}
		out <- Msg{Data: append(m.Data, 0)}
		back := <-in
		if back.Err() == nil || len(back.Data) != 0 {
			return errors.New("nothing came back")
		}
		out <- Msg{Data: []byte(back.Err().Error())}
		for range in {
		}
		return nil
	}})))
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	var fs Functions
	noop := func(<-chan Msg, chan<- Msg, []string, map[string]string) error { return nil }
	must(t, fs.RegisterTaskFunc("a", noop))
	sched := func(<-chan Msg, chan<- Msg, <-chan Event) {}
	var fe *rota.FieldError
	for name, err := range map[string]error{
		"registered twice": fs.RegisterTaskFunc("a", noop),
		"no name":          fs.RegisterTaskFunc("", noop),
		"slash":            fs.RegisterTaskFunc("a/b", noop),
		"blank":            fs.RegisterTaskFunc("a b", noop),
		"nil function":     fs.RegisterTaskFunc("b", nil),
		"nil task":         fs.RegisterTask("b", nil),
		"nil conn":         fs.RegisterTaskConn("b", nil),
	} {
		if !errors.As(err, &fe) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]func() *Program{
		"count 0":     func() *Program { p := New("x"); _ = p.SpawnTask("a", 0, Resources{}); return p },
		"count below": func() *Program { p := New("x"); _ = p.SpawnTask("a", -3, Resources{}); return p },
		"too many":    func() *Program { p := New("x"); _ = p.SpawnTask("a", MaxTasks+1, Resources{}); return p },
		"too many together": func() *Program {
			p := New("x")
			_ = p.SpawnTask("a", MaxTasks, Resources{})
			_ = p.SpawnTask("b", 1, Resources{})
			return p
		},
		"twice": func() *Program {
			p := New("x")
			_ = p.SpawnTask("a", 1, Resources{})
			_ = p.SpawnTask("a", 1, Resources{})
			return p
		},
		"negative cpus":   func() *Program { p := New("x"); _ = p.SpawnTask("a", 1, Resources{CPUs: -1}); return p },
		"negative memory": func() *Program { p := New("x"); _ = p.SpawnTask("a", 1, Resources{MemMiB: -1}); return p },
		"negative other": func() *Program {
			p := New("x")
			_ = p.SpawnTask("a", 1, Resources{Other: map[string]float64{"gpu": -1}})
			return p
		},
		"no name":        func() *Program { return New("") },
		"policy":         func() *Program { return New("x", Config{Policy: "hope"}) },
		"grace":          func() *Program { return New("x", Config{Grace: -1}) },
		"two configs":    func() *Program { return New("x", Config{}, Config{}) },
		"two schedulers": func() *Program { p := New("x"); _ = p.RegisterSchedFunc(sched); return p },
		"nil scheduler":  func() *Program { p := New("x"); _ = p.RegisterSchedFunc(nil); return p },
	} {
		p := f()
		_ = p.RegisterSchedFunc(sched)
		if err := p.Run(t.Context(), InProcess(WithFunctions(&fs))); !errors.As(err, &fe) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := New("x").Run(t.Context(), InProcess()); !errors.As(err, &fe) {
		t.Errorf("no scheduler function: %v", err)
	}
	p := New("x")
	must(t, p.RegisterSchedFunc(sched))
	if err := p.Run(t.Context(), nil); !errors.As(err, &fe) {
		t.Errorf("no place: %v", err)
	}
	if err := p.Kill("a-0"); !errors.Is(err, ErrUnknownTask) {
		t.Errorf("Kill before Run: %v", err)
	}
	p.Stop("nothing") // changes nothing
}

// TestNameTaken refuses a second program of a name, and the same one twice.
func TestNameTaken(t *testing.T) {
	t.Parallel()
	p := New(t.Name())
	must(t, p.RegisterSchedFunc(func(<-chan Msg, chan<- Msg, <-chan Event) {
		other := New(t.Name())
		must(t, other.RegisterSchedFunc(func(<-chan Msg, chan<- Msg, <-chan Event) {}))
		for _, q := range []*Program{p, other} {
			if err := q.Run(context.Background(), InProcess()); !errors.Is(err, ErrRunning) {
				t.Errorf("a second of the name: %v", err)
			}
		}
	}))
	must(t, p.Run(t.Context(), InProcess()))
	must(t, p.Run(t.Context(), InProcess())) // one after the other is well
}

// TestTaskKnowsItsName has args[0] name each task of each kind, before what its
// spec gives, and Index take the name apart.
func TestTaskKnowsItsName(t *testing.T) {
	t.Parallel()
	p := New(t.Name())
	must(t, p.SpawnTasks(
		Spec{Name: "floor", Count: 3},
		Spec{Name: "tall-lift", Count: 2, Args: []string{"x"}},
	))
	say := func(_ <-chan Msg, out chan<- Msg, args []string, _ map[string]string) error {
		name, index, err := Index(args[0])
		out <- Msg{Data: fmt.Appendf(nil, "%s %s %d %q", args[0], name, index, args[1:])}
		return err
	}
	var got []string
	must(t, p.RegisterSchedFunc(func(in <-chan Msg, _ chan<- Msg, _ <-chan Event) {
		for range 5 {
			m := <-in
			if !strings.HasPrefix(string(m.Data), m.Task+" ") {
				t.Errorf("%s calls itself %s", m.Task, m.Data)
			}
			got = append(got, string(m.Data))
		}
	}))
	must(t, p.Run(t.Context(), functions(t, map[string]TaskFunc{"floor": say, "tall-lift": say})))
	slices.Sort(got)
	want := []string{
		`floor-0 floor 0 []`, `floor-1 floor 1 []`, `floor-2 floor 2 []`,
		`tall-lift-0 tall-lift 0 ["x"]`, `tall-lift-1 tall-lift 1 ["x"]`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"", "-", "-1", "floor", "floor-", "floor-x", "floor-+1", "floor-01"} {
		if name, i, err := Index(bad); err == nil {
			t.Errorf("Index(%q) is %q, %d", bad, name, i)
		}
	}
}

// TestOldLoopDoesNotSpin ends programs in each way beside a scheduler function
// that reads in without asking whether it is closed: it reads nothing that no task
// has sent, and in is closed only when the function has returned.
func TestOldLoopDoesNotSpin(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *Program, cancel func()){
		"a task fails":      func(*Program, func()) {},
		"stopped":           func(p *Program, _ func()) { p.Stop("enough") },
		"the context ends":  func(_ *Program, cancel func()) { cancel() },
		"all tasks are out": func(p *Program, _ func()) { must(t, p.Kill("bad-0")); must(t, p.Kill("good-0")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New("old-loop-"+strings.ReplaceAll(name, " ", "-"), Config{Grace: 20 * time.Millisecond})
			must(t, p.SpawnTask("good", 1, Resources{}))
			must(t, p.SpawnTask("bad", 1, Resources{}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var kept <-chan Msg
			must(t, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, events <-chan Event) {
				kept = in
				over := make(chan struct{})
				go func() {
					ends := 0
					for e := range events {
						if e.Kind == TaskRunning && e.Task == "bad-0" {
							out <- Msg{Task: "bad-0", Data: []byte(name)}
							end(p, cancel)
						}
						if e.Final() {
							ends++
						}
						if ends == 2 && name == "all tasks are out" {
							break
						}
					}
					close(over)
				}()
				for { // an old loop
					select {
					case m := <-in:
						if m.Task == "" {
							t.Error("in is closed while the function runs")
							return
						}
					case <-over:
						time.Sleep(30 * time.Millisecond) // beyond the grace, within twice of it
						select {
						case m, ok := <-in:
							if !ok {
								t.Errorf("in is closed while the function runs: %v", m)
							}
						default:
						}
						return
					}
				}
			}))
			_ = p.Run(ctx, functions(t, map[string]TaskFunc{
				"good": echo,
				"bad": func(in <-chan Msg, out chan<- Msg, _ []string, _ map[string]string) error {
					if m := <-in; string(m.Data) == "a task fails" {
						return errors.New("boom")
					}
					return nil
				},
			}))
			for range kept { // whoever still reads it learns the end
			}
		})
	}
}
