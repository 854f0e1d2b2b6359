package lifecycle

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// watcher checks effects as they come.
type watcher struct {
	fatal      func(string, ...any)
	final      map[string]bool // "task generation" → its final event was told
	generation map[string]uint64
	placed     map[[2]uint64]bool
	shutdown   int
	endSched   int
	done       int
	failedTold bool
	stops      int
}

func (w *watcher) see(effects []Effect) {
	for _, e := range effects {
		if w.done > 0 {
			w.fatal("effect %+v after the end", e)
		}
		switch {
		case e.Tell != nil && e.Tell.Final():
			key := fmt.Sprint(e.Tell.Task, " ", e.Tell.Generation)
			if w.final[key] {
				w.fatal("%s ended twice", key)
			}
			w.final[key] = true
			if e.Tell.Kind == TaskFailed || e.Tell.Kind == TaskLost {
				w.failedTold = true
			}
		case e.Tell != nil && e.Tell.Kind == Shutdown:
			w.shutdown++
		case e.Place != nil:
			for _, s := range e.Place {
				name := fmt.Sprint(s.Task)
				if s.Generation <= w.generation[name] {
					w.fatal("task %s started with generation %d after %d", name, s.Generation, w.generation[name])
				}
				w.generation[name] = s.Generation
				w.placed[[2]uint64{uint64(s.Task), s.Generation}] = true
			}
			if w.endSched > 0 {
				w.fatal("tasks placed after the end")
			}
		case e.Stop != nil:
			w.stops++
			if !w.placed[[2]uint64{uint64(e.Stop.Task), e.Stop.Generation}] {
				w.fatal("task %d generation %d stopped, and never placed", e.Stop.Task, e.Stop.Generation)
			}
		case e.EndScheduler:
			w.endSched++
		case e.Done:
			w.done++
		}
	}
}

// TestLife reports anything in any order, also late and twice. Each generation
// ends exactly once, generations grow, the failure is told before anything is
// stopped for it, and a program that is ended comes to its end when its tasks
// and its scheduler function have.
func TestLife(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]Policy{StopAll, RestartTask, RestartAll, ""}).Draw(t, "policy")
		var names []string
		for i := range rapid.IntRange(0, 5).Draw(t, "tasks") {
			names = append(names, fmt.Sprintf("t-%d", i))
		}
		m := New(policy, names)
		w := &watcher{fatal: t.Fatalf, final: map[string]bool{}, generation: map[string]uint64{}, placed: map[[2]uint64]bool{}}
		m.Begin()
		w.see(m.Effects())
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			i, gen := 0, uint64(1)
			if len(names) > 0 {
				i = rapid.IntRange(0, len(names)-1).Draw(t, "task")
				gen = m.tasks[i].Generation
				if rapid.IntRange(0, 9).Draw(t, "late") == 0 {
					gen = rapid.Uint64Range(0, gen).Draw(t, "generation")
				}
			}
			w.failedTold = false
			w.stops = 0
			before := m.phase
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 0, 1, 2, 3:
				m.Launched(i, gen, fmt.Sprintf("w-%d", i%2))
			case 4, 5:
				m.Started(i, gen)
			case 6:
				m.Ended(i, gen, Ending{State: rapid.SampledFrom([]State{Finished, Failed, Killed, Lost}).Draw(t, "how"), Text: "why"})
			case 7:
				m.WorkerLost("w-0", "killed")
			case 8:
				if len(names) > 0 {
					if err := m.Kill(names[i]); err != nil {
						t.Fatal(err)
					}
				}
			case 9:
				m.Waits("room")
				m.Overdue(i, gen)
			case 10:
				m.Steady(i, gen)
			case 11:
				switch rapid.IntRange(0, 9).Draw(t, "end") {
				case 0:
					m.Return(nil)
				case 1:
					m.Stop("enough", nil)
				}
			}
			effects := m.Effects()
			told := before == Stopping || before == Restarting
			for _, e := range effects {
				if e.Tell != nil && (e.Tell.Final() || e.Tell.Kind == Shutdown) {
					told = true
				}
				if e.Stop != nil && !e.Stop.Hard && !told && before != Waiting && m.phase != before {
					t.Fatalf("a task was stopped before the cause was told: %+v", effects)
				}
			}
			w.see(effects)
		}
		m.Stop("enough", nil)
		w.see(m.Effects())
		for i := range m.tasks {
			m.Ended(i, m.tasks[i].Generation, Ending{State: Finished})
		}
		m.Return(nil)
		w.see(m.Effects())
		m.Return(errors.New("again"))
		m.Stop("again", nil)
		w.see(m.Effects())
		if w.endSched != 1 || w.done != 1 || w.shutdown != 1 || m.Phase() != Over {
			t.Fatalf("ended scheduler %d times, done %d times, shutdown told %d times, phase %s", w.endSched, w.done, w.shutdown, m.Phase())
		}
		for _, task := range m.Tasks() {
			for g := range task.Generation {
				if key := fmt.Sprint(task.Name, " ", g+1); !w.final[key] {
					t.Fatalf("%s has no final event", key)
				}
			}
		}
	})
}

func kinds(effects []Effect) string {
	var s []string
	for _, e := range effects {
		switch {
		case e.Tell != nil:
			s = append(s, strings.TrimSpace(string(e.Tell.Kind)+" "+e.Tell.Task))
		case e.Place != nil:
			s = append(s, fmt.Sprintf("place %d", len(e.Place)))
		case e.Stop != nil:
			s = append(s, fmt.Sprintf("stop %d@%d", e.Stop.Task, e.Stop.Generation))
		case e.EndScheduler:
			s = append(s, "end scheduler")
		case e.Done:
			s = append(s, fmt.Sprintf("done %v", e.Err))
		}
	}
	return strings.Join(s, ", ")
}

func expect(t *testing.T, m *Machine, want string) {
	t.Helper()
	if got := kinds(m.Effects()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func running(t *testing.T, policy Policy) *Machine {
	t.Helper()
	m := New(policy, []string{"a-0", "a-1", "b-0"})
	m.Begin()
	for i := range 3 {
		m.Launched(i, 1, fmt.Sprintf("w%d", i))
		m.Started(i, 1)
	}
	expect(t, m, "registered, place 3, task launched a-0, task running a-0, task launched a-1, task running a-1, task launched b-0, task running b-0")
	if m.Phase() != Running {
		t.Errorf("phase %s", m.Phase())
	}
	return m
}

func TestStopAll(t *testing.T) {
	t.Parallel()
	m := running(t, "")
	m.Ended(1, 1, Ending{State: Failed, Text: "boom"})
	expect(t, m, "task failed a-1, shutdown, stop 0@1, stop 2@1")
	m.Ended(0, 1, Ending{State: Failed, Text: "interrupted"})
	m.WorkerLost("w2", "killed")
	expect(t, m, "task killed a-0, worker lost, task lost b-0, end scheduler")
	m.Return(nil)
	expect(t, m, "done task a-1 on w1 failed: boom")
}

func TestRestartTask(t *testing.T) {
	t.Parallel()
	m := running(t, RestartTask)
	m.Ended(1, 1, Ending{State: Lost})
	m.Ended(1, 1, Ending{State: Failed})
	expect(t, m, "task lost a-1, place 1")
	m.Launched(1, 2, "w0")
	m.Started(1, 2)
	m.Ended(2, 1, Ending{State: Finished})
	expect(t, m, "task launched a-1, task running a-1, task finished b-0")
	if err := m.Kill("a-1"); err != nil {
		t.Fatal(err)
	}
	if m.Kill("a-7") == nil {
		t.Error("killed what is not there")
	}
	m.Ended(1, 2, Ending{State: Finished})
	expect(t, m, "stop 1@2, task killed a-1")
	m.Return(nil)
	expect(t, m, "shutdown, stop 0@1")
	m.Ended(0, 1, Ending{State: Finished})
	expect(t, m, "task killed a-0, end scheduler, done <nil>")
}

func TestRestartAll(t *testing.T) {
	t.Parallel()
	m := running(t, RestartAll)
	m.Ended(1, 1, Ending{State: Failed})
	expect(t, m, "task failed a-1, stop 0@1, stop 2@1")
	m.Ended(0, 1, Ending{State: Finished})
	m.Ended(2, 1, Ending{State: Failed})
	expect(t, m, "task killed a-0, task killed b-0, place 3")
	if m.Launched(0, 1, "w0") || !m.Launched(0, 2, "w0") {
		t.Error("the wrong generation was launched")
	}
	m.Waits("room for b-0")
	m.Waits("room for b-0")
	expect(t, m, "task launched a-0, waiting")
	m.Stop("enough", nil)
	expect(t, m, "shutdown, stop 0@2, stop 1@2, task killed a-1, stop 2@2, task killed b-0")
	m.Ended(0, 2, Ending{State: Killed})
	m.Return(nil)
	expect(t, m, "task killed a-0, end scheduler, done <nil>")
}
