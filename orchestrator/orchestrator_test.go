package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/orchestrator"
	"pgregory.net/rapid"
)

// cluster is workers in memory; its methods fail as told.
type cluster struct {
	mu      sync.Mutex
	does    map[string]map[int]bool
	fail    func(what, worker string, task int) error
	removed map[int]int // calls that took, by task
	added   map[int]int
	both    bool // a task was ever on two workers at once that should be on one
}

func newCluster(workers ...string) *cluster {
	c := &cluster{does: map[string]map[int]bool{}, removed: map[int]int{}, added: map[int]int{}}
	for _, w := range workers {
		c.does[w] = map[int]bool{}
	}
	return c
}

func (c *cluster) err(what, worker string, task int) error {
	if c.fail == nil {
		return nil
	}
	return c.fail(what, worker, task)
}

func (c *cluster) List(_ context.Context, w string) ([]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.does[w])), c.err("list", w, 0)
}

func (c *cluster) Add(_ context.Context, w string, t int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.err("add", w, t); err != nil {
		return err
	}
	for v, does := range c.does {
		c.both = c.both || v != w && does[t]
	}
	c.does[w][t] = true
	c.added[t]++
	return nil
}

func (c *cluster) Remove(_ context.Context, w string, t int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.err("remove", w, t); err != nil {
		return err
	}
	delete(c.does[w], t)
	c.removed[t]++
	return nil
}

func (c *cluster) counts() (list []int) {
	for _, w := range slices.Sorted(maps.Keys(c.does)) {
		list = append(list, len(c.does[w]))
	}
	return list
}

// TestOneTerm wants balance after one term: fresh, with a worker more (which
// stays empty for hundreds of terms where each term moves one task), with one
// less, and with other tasks.
func TestOneTerm(t *testing.T) {
	t.Parallel()
	c := newCluster("a", "b", "c")
	var stats []orchestrator.TermStats
	o := orchestrator.New[string, int](c, orchestrator.WithStats(func(s orchestrator.TermStats) { stats = append(stats, s) }))
	if o.LastActual() != nil {
		t.Error("there was no term yet")
	}
	o.UpdateWorkers([]string{"a", "b", "c"})
	for k := range 300 {
		o.AddTask(k)
		o.AddTask(k)
	}
	term := func(want ...int) {
		t.Helper()
		if err := o.NextTerm(t.Context()); err != nil {
			t.Error(err)
		}
		if got := c.counts(); !slices.Equal(got, want) {
			t.Errorf("workers do %v, want %v", got, want)
		}
	}
	term(100, 100, 100)
	c.does["d"] = map[int]bool{}
	o.AddWorker("d")
	o.AddWorker("d")
	clear(c.removed)
	term(75, 75, 75, 75)
	if len(c.removed) != 75 {
		t.Errorf("%d tasks moved, want 75", len(c.removed))
	}
	clear(c.removed)
	term(75, 75, 75, 75)
	if len(c.removed) != 0 {
		t.Errorf("%d tasks moved for nothing", len(c.removed))
	}
	delete(c.does, "b")
	o.RemoveWorker("b")
	term(100, 100, 100)
	o.UpdateTasks([]orchestrator.Task[int]{{Name: 1000, Instances: 2}, {Name: 7, Instances: 1}, {Name: 8, Instances: 9}})
	term(2, 2, 2)
	if c.both != true { // 1000 and 8 have several instances
		t.Error("instances were never side by side")
	}
	if got := fmt.Sprint(o.ListExpectedTasks()); got != "[{1000 2} {7 1} {8 9}]" {
		t.Error("expected are", got)
	}
	o.RemoveTask(8)
	term(1, 1, 1)
	if last := o.LastActual(); len(last) != 3 || len(last[0].Tasks) != 2 {
		t.Errorf("said in the last term: %v", last)
	}
	if len(stats) != 6 || stats[1].WorkerCount != 4 || stats[5].WorkerCount != 3 {
		t.Errorf("stats %v", stats)
	}
}

// TestFaults lets calls fail at random, and wants that nothing runs twice
// because of it, that the first term without faults has every task run, and that
// all is even when the workers that refused have been tried out again.
func TestFaults(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		names := []string{"a", "b", "c", "d"}
		c := newCluster(names...)
		o := orchestrator.New[string, int](c)
		want := map[int]int{}
		for range rapid.IntRange(1, 5).Draw(rt, "rounds") {
			faults := rapid.IntRange(0, 3).Draw(rt, "faults")
			broken := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "broken")
			c.fail = func(what, worker string, task int) error {
				if what != "list" && (worker == broken || faults > 0 && (task+len(worker)+len(what))%4 < faults) {
					return errors.New("a fault")
				}
				return nil
			}
			for range rapid.IntRange(0, 20).Draw(rt, "changes") {
				k := rapid.IntRange(0, 30).Draw(rt, "task")
				o.RemoveTask(k)
				want[k] = 0
				if !rapid.Bool().Draw(rt, "remove") {
					want[k] = rapid.SampledFrom([]int{0, 1, 1, 1, 2, 6}).Draw(rt, "instances")
					o.AddTask(k, orchestrator.WithTaskInstances(want[k]))
				}
			}
			k, w := rapid.IntRange(0, 30).Draw(rt, "stray"), rapid.SampledFrom(names).Draw(rt, "on")
			c.does[w][k] = true
			o.UpdateWorkers(names[:rapid.IntRange(1, 4).Draw(rt, "workers")])
			failed := broken != ""
			err := o.NextTerm(t.Context())
			for task := range 31 {
				for _, what := range []string{"add", "remove"} {
					failed = failed || c.err(what, "a", task) != nil
				}
			}
			if err != nil && !failed {
				rt.Fatal(err)
			}
		}
		c.fail = nil
		o.UpdateWorkers(names)
		running := func() (least, most map[int]int) {
			n := map[int]int{}
			for _, w := range names {
				for k := range c.does[w] {
					n[k]++
				}
			}
			return n, n
		}
		for term := range 20 {
			if err := o.NextTerm(t.Context()); err != nil {
				rt.Fatal(err)
			}
			n, _ := running()
			for k := range 31 {
				if n[k] > want[k] || want[k] > 0 && n[k] == 0 || term > 10 && n[k] != min(want[k], len(names)) {
					rt.Fatalf("term %d: task %d is done by %d, want %d", term, k, n[k], want[k])
				}
			}
			clear(c.added)
		}
		counts := c.counts()
		whole := !slices.ContainsFunc(slices.Collect(maps.Values(want)), func(n int) bool { return n > 1 })
		if lo, hi := slices.Min(counts), slices.Max(counts); hi-lo > 1 && whole {
			rt.Fatalf("workers do %v", counts)
		}
	})
}

// TestAddFails wants that a task whose addition failed after its removal is
// given again, and one whose removal failed is not added.
func TestAddFails(t *testing.T) {
	t.Parallel()
	c := newCluster("a", "b")
	o := orchestrator.New[string, int](c)
	o.AddWorker("a")
	for k := range 10 {
		o.AddTask(k)
	}
	if err := o.NextTerm(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.AddWorker("b")
	c.fail = func(what, _ string, task int) error {
		if what == "add" || what == "remove" && task%2 == 0 {
			return errors.New("no")
		}
		return nil
	}
	err := o.NextTerm(t.Context())
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 5 {
		t.Errorf("want five errors joined, got %v", err)
	}
	if len(c.does["b"]) != 0 || c.both {
		t.Errorf("b does %v, twice %v", c.does["b"], c.both)
	}
	c.fail = nil
	for range 4 { // they rest, one is tried, and all is even
		if err := o.NextTerm(t.Context()); err != nil {
			t.Error(err)
		}
		if got := c.counts(); got[0]+got[1] != 10 {
			t.Errorf("workers do %v", got)
		}
	}
	if got := c.counts(); !slices.Equal(got, []int{5, 5}) {
		t.Errorf("workers do %v", got)
	}
}

// late answers of some workers never come, and its calls tell how their
// contexts ended.
type late struct {
	*cluster
	hang  map[string]bool
	done  chan error
	block chan struct{}
}

func (l late) List(ctx context.Context, w string) ([]int, error) {
	if !l.hang[w] {
		return l.cluster.List(ctx, w)
	}
	<-ctx.Done()
	l.done <- ctx.Err()
	<-l.block // it does not heed its context
	return nil, nil
}

// TestLate wants that workers that do not answer cost one timeout together,
// are left out, get nothing, and have their contexts ended.
func TestLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := late{newCluster("a", "b", "c"), map[string]bool{}, make(chan error, 2), make(chan struct{})}
		o := orchestrator.New[string, int](c, orchestrator.WithCommunicatorTimeout(time.Second))
		o.UpdateWorkers([]string{"a", "b", "c"})
		for k := range 9 {
			o.AddTask(k)
		}
		if err := o.NextTerm(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.hang["b"], c.hang["c"] = true, true
		start := time.Now()
		err := o.NextTerm(t.Context())
		if took := time.Since(start); took != time.Second {
			t.Errorf("the term took %v", took)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "list b") || !strings.Contains(err.Error(), "list c") {
			t.Errorf("the error is %v", err)
		}
		for range 2 {
			if err := <-c.done; !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		if got := c.counts(); !slices.Equal(got, []int{9, 3, 3}) {
			t.Errorf("workers do %v", got)
		}
		if last := o.LastActual(); len(last) != 1 || last[0].Name != "a" {
			t.Errorf("answered: %v", last)
		}
		// They do not hang any more, but the calls of before do: those are not
		// asked again.
		clear(c.hang)
		if err := o.NextTerm(t.Context()); err == nil || !strings.Contains(err.Error(), "has not returned") {
			t.Errorf("the error is %v", err)
		}
		// They are back, and what they do too much ends.
		close(c.block)
		synctest.Wait()
		if err := o.NextTerm(t.Context()); err != nil {
			t.Error(err)
		}
		if got := c.counts(); !slices.Equal(got, []int{3, 3, 3}) {
			t.Errorf("workers do %v", got)
		}
	})
}

// TestCancelled wants a term to end with its context.
func TestCancelled(t *testing.T) {
	t.Parallel()
	o := orchestrator.New[string, int](newCluster("a"))
	o.AddWorker("a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.NextTerm(ctx); !errors.Is(err, context.Canceled) && err != nil {
		t.Error(err)
	}
}

// TestManyGoroutines uses everything at once; the race detector judges.
func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	c := newCluster("0", "1", "2", "3")
	o := orchestrator.New[string, int](c)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for k := range 50 {
				o.AddWorker(fmt.Sprint(g))
				o.AddTask(g*50 + k)
				o.ListExpectedTasks()
				if err := o.NextTerm(t.Context()); err != nil {
					t.Error(err)
				}
				o.LastActual()
			}
		})
	}
	wg.Wait()
	if err := o.NextTerm(t.Context()); err != nil {
		t.Error(err)
	}
	if got := c.counts(); !slices.Equal(got, []int{50, 50, 50, 50}) {
		t.Errorf("workers do %v", got)
	}
}

// TestImports wants nothing to come along but the standard library and the
// cores.
func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/rota-project/rota"
	want := []string{module, module + "/placement", module + "/orchestrator"}
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
		t.Errorf("imports %v, want %v", got, want)
	}
}
