package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/orchestrator"
	"pgregory.net/rapid"
)

// TestRefusal has one worker list and refuse every Add. All tasks run from the
// second term on, hardly anything moves, and when the worker is well again it
// gets its share.
func TestRefusal(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{2, 3, 7} {
		for _, tasks := range []int{1, 10, 100} {
			for _, late := range []bool{false, true} { // it refuses from the start, or joins later
				t.Run(fmt.Sprintf("%d tasks on %d workers, late %v", tasks, workers, late), func(t *testing.T) {
					t.Parallel()
					names := []string{"bad"}
					for k := 1; k < workers; k++ {
						names = append(names, fmt.Sprint("good", k))
					}
					c := newCluster(names...)
					c.fail = func(what, worker string, _ int) error {
						if what == "add" && worker == "bad" {
							return errors.New("no")
						}
						return nil
					}
					o := orchestrator.New[string, int](c)
					for k := range tasks {
						o.AddTask(k)
					}
					o.UpdateWorkers(names)
					if late {
						o.RemoveWorker("bad")
					}
					if err := o.NextTerm(t.Context()); err != nil && late {
						t.Fatal(err)
					}
					o.UpdateWorkers(names)
					run := func() (n int) {
						for _, k := range c.counts() {
							n += k
						}
						return n
					}
					share := (tasks + workers - 1) / workers
					for term := range 40 {
						clear(c.added)
						_ = o.NextTerm(t.Context())
						if run() != tasks {
							t.Fatalf("term %d: %d of %d tasks run", term, run(), tasks)
						}
						if n := len(c.added); term > 1 && n > 1 || n > share {
							t.Fatalf("term %d: %d tasks moved for nothing", term, n)
						}
					}
					c.fail = nil
					for range 10 {
						if err := o.NextTerm(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					if n := c.counts(); slices.Max(n)-slices.Min(n) > 1 || run() != tasks || c.both {
						t.Errorf("well again: %v, twice %v", n, c.both)
					}
				})
			}
		}
	}
}

// TestRefusedPair has one worker refuse one task only: it goes elsewhere, and
// the worker does others.
func TestRefusedPair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		names := []string{"a", "b", "c"}
		bad := map[string]int{}
		for _, w := range names[:rapid.IntRange(1, 2).Draw(rt, "picky")] {
			bad[w] = rapid.IntRange(0, 5).Draw(rt, "task")
		}
		c := newCluster(names...)
		c.fail = func(what, worker string, task int) error {
			if k, ok := bad[worker]; what == "add" && ok && k == task {
				return errors.New("no")
			}
			return nil
		}
		o := orchestrator.New[string, int](c)
		o.UpdateWorkers(names)
		for k := range 6 {
			o.AddTask(k)
		}
		for range 4 {
			_ = o.NextTerm(t.Context())
		}
		for term := range 12 {
			if err := o.NextTerm(t.Context()); err != nil && term > 8 {
				rt.Fatalf("term %d: %v", term, err)
			}
			total := 0
			for _, n := range c.counts() {
				total += n
			}
			if total != 6 {
				rt.Fatalf("term %d: %v", term, c.does)
			}
		}
	})
}

// TestAllRefuse wants every worker to be asked again when none takes anything.
func TestAllRefuse(t *testing.T) {
	t.Parallel()
	c := newCluster("a", "b")
	o := orchestrator.New[string, int](c)
	o.UpdateWorkers([]string{"a", "b"})
	o.UpdateTasks([]orchestrator.Task[int]{{Name: 1, Instances: 1}, {Name: 2, Instances: 1}, {Name: 3, Instances: 2}})
	c.fail = func(string, string, int) error { return errors.New("no") }
	for range 30 {
		_ = o.NextTerm(t.Context())
	}
	c.fail = func(what, _ string, _ int) error {
		if what == "add" {
			return errors.New("no")
		}
		return nil
	}
	for range 30 {
		if o.NextTerm(t.Context()) == nil {
			t.Fatal("all refuse, and nobody says so")
		}
	}
	c.fail = nil
	if err := o.NextTerm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.counts(); !slices.Equal(got, []int{2, 2}) {
		t.Errorf("workers do %v", got)
	}
}

// wild calls what a test says before each call, which may panic, hang or leave.
type wild struct {
	*cluster
	before func(what, worker string, task int)
}

func (w wild) List(ctx context.Context, worker string) ([]int, error) {
	w.before("list", worker, 0)
	return w.cluster.List(ctx, worker)
}

func (w wild) Add(ctx context.Context, worker string, task int) error {
	w.before("add", worker, task)
	return w.cluster.Add(ctx, worker, task)
}

func (w wild) Remove(ctx context.Context, worker string, task int) error {
	w.before("remove", worker, task)
	return w.cluster.Remove(ctx, worker, task)
}

// TestPanic wants a call that panics, or ends its goroutine, to be an error of
// that call alone.
func TestPanic(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(){
		"panic":  func() { panic("at the disco") },
		"nil":    func() { panic(nil) }, //nolint:govet // a communicator may
		"goexit": runtime.Goexit,
	} {
		for _, call := range []string{"list", "add", "remove"} {
			t.Run(name+" in "+call, func(t *testing.T) {
				t.Parallel()
				on := true
				c := newCluster("a", "b")
				c.does["a"][99] = true // to be removed
				o := orchestrator.New[string, int](wild{c, func(what, worker string, _ int) {
					if on && what == call && worker == "a" {
						end()
					}
				}})
				o.UpdateWorkers([]string{"a", "b"})
				for k := range 4 {
					o.AddTask(k)
				}
				err := o.NextTerm(t.Context())
				if err == nil || !strings.Contains(err.Error(), call) || !strings.Contains(err.Error(), "a") {
					t.Errorf("the error is %v", err)
				}
				if n := len(c.does["b"]); n < 2 {
					t.Errorf("b does %d", n)
				}
				on = false
				for range 4 {
					if err := o.NextTerm(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if got := c.counts(); !slices.Equal(got, []int{2, 2}) {
					t.Errorf("workers do %v", got)
				}
			})
		}
	}
}

// TestHung has workers whose calls never return. However many terms there are,
// few calls hang, the others are not kept waiting, and a worker whose calls come
// back is asked again.
func TestHung(t *testing.T) {
	t.Parallel()
	for call, most := range map[string]int{"list": 25, "add": 25 * 16, "remove": 25 * 16} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				names := []string{"good"}
				for k := range 25 {
					names = append(names, fmt.Sprint("hung", k))
				}
				c := newCluster(names...)
				for _, w := range names {
					c.does[w][-1-len(w)] = true // to be removed
				}
				block := make(chan struct{})
				var mu sync.Mutex
				hang, hung := true, 0
				o := orchestrator.New[string, int](wild{c, func(what, worker string, _ int) {
					mu.Lock()
					stop := hang && what == call && worker != "good"
					if stop {
						hung++
					}
					mu.Unlock()
					if stop {
						<-block
					}
				}}, orchestrator.WithCommunicatorTimeout(time.Second))
				o.UpdateWorkers(names)
				for k := range 1000 {
					o.AddTask(k)
				}
				start := time.Now()
				for range 100 {
					if o.NextTerm(t.Context()) == nil {
						t.Fatal("nobody is late")
					}
				}
				if took := time.Since(start); took > 3*time.Second {
					t.Errorf("100 terms took %v", took)
				}
				mu.Lock()
				if hung > most {
					t.Errorf("%d calls hang", hung)
				}
				hang = false
				mu.Unlock()
				if n := len(c.does["good"]); n != 1000 {
					t.Errorf("the good one does %d", n)
				}
				close(block)
				synctest.Wait()
				for range 4 {
					_ = o.NextTerm(t.Context())
				}
				if n := c.counts(); slices.Max(n)-slices.Min(n) > 1 {
					t.Errorf("workers do %v", n)
				}
			})
		})
	}
}

// TestOthersGoOn wants the calls of other workers to be made while one's hang.
func TestOthersGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster("a", "b", "c")
		block := make(chan struct{})
		start := time.Now()
		var last time.Duration
		o := orchestrator.New[string, int](wild{c, func(what, worker string, _ int) {
			if what == "add" && worker == "a" {
				<-block
			}
			c.mu.Lock()
			last = time.Since(start)
			c.mu.Unlock()
		}})
		o.UpdateWorkers([]string{"a", "b", "c"})
		for k := range 3000 {
			o.AddTask(k)
		}
		err := o.NextTerm(t.Context())
		if last != 0 || len(c.does["b"]) != 1000 {
			t.Errorf("b does %d, the last at %v", len(c.does["b"]), last)
		}
		if err == nil || strings.Count(err.Error(), "\n") > 16 || !strings.Contains(err.Error(), "984 more, worker a") {
			t.Errorf("the error is %v", err)
		}
		close(block)
	})
}

// TestExpected wants the rules of what is expected.
func TestExpected(t *testing.T) {
	t.Parallel()
	c := newCluster("a", "b")
	o := orchestrator.New[string, int](c)
	o.UpdateWorkers([]string{"a", "b"})
	term := func(want ...int) {
		t.Helper()
		if err := o.NextTerm(t.Context()); err != nil {
			t.Error(err)
		}
		if got := c.counts(); !slices.Equal(got, want) {
			t.Errorf("workers do %v, want %v", got, want)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got := fmt.Sprint(o.ListExpectedTasks()); got != want {
			t.Errorf("expected are %s, want %s", got, want)
		}
	}
	o.AddTask(1)
	o.AddTask(2, orchestrator.WithTaskInstances(2))
	o.AddTask(1, orchestrator.WithTaskInstances(2)) // changes nothing
	o.AddTask(2)
	expect("[{1 1} {2 2}]")
	term(2, 1)
	o.AddTask(3, orchestrator.WithTaskInstances(0))
	o.AddTask(4, orchestrator.WithTaskInstances(-5))
	expect("[{1 1} {2 2} {3 0} {4 0}]")
	term(2, 1)
	o.UpdateTasks([]orchestrator.Task[int]{{9, 1}, {1, 0}, {2, math.MaxInt}, {0, 1}, {9, 1}})
	expect(fmt.Sprintf("[{9 1} {1 0} {2 %d} {0 1}]", math.MaxInt)) // in this order, with no cap
	term(2, 2)
	o.UpdateTasks([]orchestrator.Task[int]{{0, 0}, {2, 0}})
	expect("[{0 0} {2 0}]")
	term(0, 0)
	o.UpdateTasks(nil)
	expect("[]")
}

// TestRebalance wants the step alone to end even, to lose nothing, to move no
// more than it has to, and to change no argument.
func TestRebalance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		ints := rapid.SliceOfNDistinct(rapid.IntRange(0, 40), 0, 20, rapid.ID[int])
		actual, toRemove, toAdd := map[string][]int{}, map[string][]int{}, map[int]int{}
		owner := map[int]bool{} // with one instance each the least number of moves is plain
		for _, w := range []string{"a", "b", "c", "d"}[:rapid.IntRange(0, 4).Draw(rt, "workers")] {
			actual[w] = nil
			for _, k := range ints.Draw(rt, w) {
				if !owner[k] {
					owner[k] = true
					actual[w] = append(actual[w], k)
					if rapid.IntRange(0, 4).Draw(rt, "removed") == 0 {
						toRemove[w] = append(toRemove[w], k)
					}
				}
			}
		}
		for _, k := range rapid.SliceOfDistinct(rapid.IntRange(50, 60), rapid.ID[int]).Draw(rt, "to add") {
			toAdd[k] = 1
		}
		before := fmt.Sprint(toAdd, toRemove, actual)
		add, remove := orchestrator.New[string, int](nil).Rebalance(toAdd, toRemove, actual)
		if after := fmt.Sprint(toAdd, toRemove, actual); after != before {
			rt.Fatalf("arguments are %s, were %s", after, before)
		}
		total := 0
		for _, n := range add {
			total += n
		}
		moved := total - len(toAdd)
		left := map[string]int{}
		for w, tasks := range actual {
			if !slices.Equal(remove[w][:len(toRemove[w])], toRemove[w]) {
				rt.Fatalf("%s removes %v, not first %v", w, remove[w], toRemove[w])
			}
			left[w] = len(tasks) - len(remove[w])
			total += left[w]
			for _, k := range remove[w][len(toRemove[w]):] {
				if add[k] != 1 || !slices.Contains(tasks, k) || slices.Contains(toRemove[w], k) {
					rt.Fatalf("%s removes %d, which %d are to be added of", w, k, add[k])
				}
			}
		}
		if len(actual) == 0 {
			return
		}
		floor, ceilings := total/len(actual), total%len(actual)
		least := 0
		for _, n := range slices.Backward(slices.Sorted(maps.Values(loads(actual, toRemove)))) {
			quota := floor
			if ceilings > 0 && n > floor {
				quota++
				ceilings--
			}
			least += max(0, n-quota)
		}
		if moved != least {
			rt.Fatalf("%d tasks move, want %d: add %v, remove %v of %v", moved, least, add, remove, actual)
		}
	})
	// More instances than workers wait, and two of a task never meet.
	o := orchestrator.New[string, int](nil)
	add, remove := o.Rebalance(map[int]int{7: 5}, nil, map[string][]int{"a": {1, 2, 3, 7}, "b": nil})
	if len(remove["a"]) != 1 || remove["a"][0] == 7 || add[7] != 5 || add[remove["a"][0]] != 1 {
		t.Errorf("add %v, remove %v", add, remove)
	}
}

// TestRebalanceNothing: where nothing has to move the answers equal the arguments
// deeply, as comparing callers expect it.
func TestRebalanceNothing(t *testing.T) {
	t.Parallel()
	toAdd, toRemove := map[int]int{1: 0, 2: 0}, map[string][]int{"a": {1, 2}, "b": {}, "c": nil}
	actual := map[string][]int{"a": {}, "b": {2}, "c": {}}
	add, remove := orchestrator.New[string, int](nil).Rebalance(toAdd, toRemove, actual)
	if !reflect.DeepEqual(add, toAdd) || !reflect.DeepEqual(remove, toRemove) {
		t.Errorf("add %#v, remove %#v, want %#v and %#v", add, remove, toAdd, toRemove)
	}
}

func loads(actual, toRemove map[string][]int) map[string]int {
	n := map[string]int{}
	for w := range actual {
		n[w] = len(actual[w]) - len(toRemove[w])
	}
	return n
}
