package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

// The tests of this file say what a user of the old go-orchestrator sees in one term.

// fleet is three workers, or others, that do what they are told and note it.
type fleet struct {
	mu                         sync.Mutex
	does                       map[any][]any
	added, removed             map[any][]any
	noList                     map[any]error
	hangs                      map[any]chan struct{}
	noAdd, noRemove            error
	listed, given, taken, free int // calls; free are those without a deadline
}

func (f *fleet) note(ctx context.Context, calls *int) {
	*calls++
	if _, bounded := ctx.Deadline(); !bounded {
		f.free++
	}
}

func (f *fleet) List(ctx context.Context, w any) ([]any, error) {
	if c := f.hangs[w]; c != nil {
		<-c // whatever the context says
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(ctx, &f.listed)
	return f.does[w], f.noList[w]
}

func (f *fleet) Add(ctx context.Context, w, task any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(ctx, &f.given)
	f.added[w] = append(f.added[w], task)
	return f.noAdd
}

func (f *fleet) Remove(ctx context.Context, w, task any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(ctx, &f.taken)
	f.removed[w] = append(f.removed[w], task)
	return f.noRemove
}

// all is what workers were told, in order, whoever it was.
func all(by map[any][]any) (list []string) {
	for _, tasks := range by {
		for _, t := range tasks {
			list = append(list, fmt.Sprint(t))
		}
	}
	slices.Sort(list)
	return list
}

// loads is how many tasks each worker that is told any is told, in order of size.
func loads(by map[any][]any) (list []int) {
	for _, tasks := range by {
		list = append(list, len(tasks))
	}
	slices.Sort(list)
	return list
}

// twin is what a term makes of a fleet a, b, c that is to do x, y, z.
type twin struct {
	does    map[any][]any
	set     func(*Orchestrator, *fleet)
	added   []string // in order
	removed []string
	loads   []int // of the workers that are told to add
	fails   bool
	hangs   bool
	then    func(*testing.T, *Orchestrator, *fleet)
}

func of(name any, n int) Task { return Task{Name: name, Instances: n} }

func only(tasks ...Task) func(*Orchestrator, *fleet) {
	return func(o *Orchestrator, _ *fleet) { o.UpdateTasks(tasks) }
}

var twins = map[string]twin{
	"tasks are split evenly, and what is added twice counts once": {
		set:   func(o *Orchestrator, _ *fleet) { o.AddWorker("a"); o.AddTask("x") },
		added: []string{"x", "y", "z"}, loads: []int{1, 1, 1},
		then: func(t *testing.T, o *Orchestrator, f *fleet) {
			if len(o.ListExpectedTasks()) != 3 || len(o.LastActual()) != 3 || f.listed != 3 {
				t.Errorf("expected %v, actual %v, %d listed", o.ListExpectedTasks(), o.LastActual(), f.listed)
			}
		},
	},
	"three instances are on three workers": {set: only(of("m", 3)), added: []string{"m", "m", "m"}, loads: []int{1, 1, 1}},
	"who has one instance of each keeps them": {
		does: map[any][]any{"a": {0, 1, 2, 3, 4, 5, 6}},
		set: func(o *Orchestrator, _ *fleet) {
			o.UpdateTasks(nil)
			for i := range 7 {
				o.AddTask(i, WithTaskInstances(3))
			}
		},
		added: []string{"0", "0", "1", "1", "2", "2", "3", "3", "4", "4", "5", "5", "6", "6"}, loads: []int{7, 7},
	},
	"what is stale ends everywhere": {
		does: map[any][]any{"a": {"m", "old"}, "b": {"m", "old"}}, set: only(of("m", 2)), removed: []string{"old", "old"},
	},
	"a removal that fails is an error": {
		does: map[any][]any{"a": {"old"}}, removed: []string{"old"}, fails: true,
		set: func(o *Orchestrator, f *fleet) { o.UpdateTasks(nil); f.noRemove = errors.New("no") },
	},
	"an instance too many ends": {
		does: map[any][]any{"a": {"m"}, "b": {"m"}, "c": {"m"}}, set: only(of("m", 2)), removed: []string{"m"},
	},
	"one worker gets a task once": {
		set: func(o *Orchestrator, _ *fleet) { only(of("m", 2))(o, nil); o.UpdateWorkers([]any{"a"}) }, added: []string{"m"}, loads: []int{1},
	},
	"an addition that fails is an error": {
		set:   func(o *Orchestrator, f *fleet) { only(of("m", 1))(o, nil); f.noAdd = errors.New("no") },
		added: []string{"m"}, loads: []int{1}, fails: true,
	},
	"three tasks of two instances": {
		set: only(of("l", 2), of("m", 2), of("n", 2)), added: []string{"l", "l", "m", "m", "n", "n"}, loads: []int{2, 2, 2},
	},
	"what runs stays": {
		does: map[any][]any{"a": {"y"}}, added: []string{"x", "z"}, loads: []int{1, 1},
		then: func(t *testing.T, _ *Orchestrator, f *fleet) {
			if len(f.added["a"]) > 0 {
				t.Errorf("a is given %v", f.added["a"])
			}
		},
	},
	"what is not expected ends": {does: map[any][]any{"a": {"old"}}, added: []string{"x", "y", "z"}, loads: []int{1, 1, 1}, removed: []string{"old"}},
	"a task that two do stays with one": {
		does: map[any][]any{"a": {"x"}, "b": {"x"}}, added: []string{"y", "z"}, loads: []int{1, 1}, removed: []string{"x"},
	},
	"a worker that was removed gets nothing": {
		does: map[any][]any{"a": {"x"}, "c": {"z"}}, set: func(o *Orchestrator, _ *fleet) { o.RemoveWorker("b") }, added: []string{"y"}, loads: []int{1},
		then: func(t *testing.T, _ *Orchestrator, f *fleet) {
			if len(f.added["b"]) > 0 {
				t.Errorf("b is given %v", f.added["b"])
			}
		},
	},
	"an empty worker gets one of two": {
		does: map[any][]any{"a": {"x", "y"}, "c": {"z"}}, loads: []int{1},
		then: func(t *testing.T, _ *Orchestrator, f *fleet) {
			if len(f.added["b"]) != 1 || !reflect.DeepEqual(f.removed["a"], f.added["b"]) {
				t.Errorf("added %v, removed %v", f.added, f.removed)
			}
		},
	},
	"nothing moves for one too many": {
		does: map[any][]any{"a": {"x", "u"}, "b": {"y"}, "c": {"z"}}, set: func(o *Orchestrator, _ *fleet) { o.AddTask("u") },
	},
	"workers are replaced": {
		does: map[any][]any{"a": {"x"}, "c": {"z"}}, set: func(o *Orchestrator, _ *fleet) { o.UpdateWorkers([]any{"a", "c"}) }, added: []string{"y"}, loads: []int{1},
	},
	"a task that was removed ends": {
		does: map[any][]any{"a": {"x"}, "b": {"y"}, "c": {"z"}}, set: func(o *Orchestrator, _ *fleet) { o.RemoveTask("y") }, removed: []string{"y"},
	},
	"tasks are replaced": {
		does: map[any][]any{"a": {"x"}, "b": {"y"}, "c": {"z"}}, set: only(of("x", 1), of("z", 1)), removed: []string{"y"},
	},
	"a worker that does not list gets nothing": {
		set:   func(_ *Orchestrator, f *fleet) { f.noList["b"] = errors.New("no") },
		added: []string{"x", "y", "z"}, loads: []int{1, 2}, fails: true,
	},
	"a worker whose list hangs gets nothing": {
		set:   func(_ *Orchestrator, f *fleet) { f.hangs["b"] = make(chan struct{}) },
		added: []string{"x", "y", "z"}, loads: []int{1, 2}, fails: true, hangs: true,
		then: func(_ *testing.T, _ *Orchestrator, f *fleet) { close(f.hangs["b"]) },
	},
	"no workers": {set: func(o *Orchestrator, _ *fleet) { o.UpdateWorkers(nil) }},
}

func TestTwin(t *testing.T) {
	t.Parallel()
	for name, c := range twins {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fleet{
				does: maps.Clone(c.does), added: map[any][]any{}, removed: map[any][]any{},
				noList: map[any]error{}, hangs: map[any]chan struct{}{},
			}
			var stats []TermStats
			timeout := time.Minute
			if c.hangs {
				timeout = 3 * time.Second
			}
			o := New(f, WithCommunicatorTimeout(timeout), WithStats(func(s TermStats) { stats = append(stats, s) }))
			for _, w := range []any{"a", "b", "c"} {
				o.AddWorker(w)
			}
			for _, task := range []any{"x", "y", "z"} {
				o.AddTask(task)
			}
			if c.set != nil {
				c.set(o, f)
			}
			err := o.NextTerm(t.Context())
			f.mu.Lock()
			defer f.mu.Unlock()
			if (err != nil) != c.fails {
				t.Errorf("error %v", err)
			}
			if got := all(f.added); c.added != nil && !slices.Equal(got, c.added) {
				t.Errorf("added %v, want %v", got, c.added)
			}
			if got := loads(f.added); !slices.Equal(got, c.loads) {
				t.Errorf("workers are given %v tasks, want %v", got, c.loads)
			}
			if got := all(f.removed); c.then == nil && !slices.Equal(got, c.removed) {
				t.Errorf("removed %v, want %v", got, c.removed)
			}
			if len(stats) != 1 || stats[0].WorkerCount != len(o.LastActual()) {
				t.Errorf("stats %v, actual %v", stats, o.LastActual())
			}
			if f.free > 0 {
				t.Errorf("%d calls have no deadline", f.free)
			}
			if c.then != nil {
				c.then(t, o, f)
			}
		})
	}
}

// TestTwinRebalance: the step alone leaves as it is what need not move.
func TestTwinRebalance(t *testing.T) {
	t.Parallel()
	add, remove := map[any]int{"w": 0, "x": 0}, map[any][]any{"a": {"w", "x"}, "b": {}}
	gotAdd, gotRemove := New(&fleet{}).Rebalance(add, remove, map[any][]any{"a": {}, "b": {"x"}})
	if !reflect.DeepEqual(gotAdd, add) || !reflect.DeepEqual(gotRemove, remove) {
		t.Errorf("%v and %v", gotAdd, gotRemove)
	}
}
