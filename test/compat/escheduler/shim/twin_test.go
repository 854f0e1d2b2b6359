package escheduler

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The tests of this file say what a user of the old escheduler sees. They were tried
// with it, too, and pass but for IsAllRunning, which it never says.

var twins struct {
	sync.Mutex
	n int
}

// twin is a node of a cluster of the test's own.
func twin(workers int) Node {
	twins.Lock()
	defer twins.Unlock()
	twins.n++
	return Node{
		EtcdConfig:  clientv3.Config{Endpoints: []string{compatEtcd}, Username: "root", Password: "password", DialTimeout: 5 * time.Second},
		RootName:    fmt.Sprintf("twin/%d-%d", time.Now().UnixNano(), twins.n),
		TTL:         5,
		MaxNumNodes: workers + 1,
	}
}

// events are what a worker was told.
type events struct {
	mu    sync.Mutex
	holds map[string]string // id → payload
}

func (e *events) follow(w *Worker) {
	for c := range w.WatchTask() {
		e.mu.Lock()
		if t, ok := c.CreatedTask(); ok {
			e.holds[t.ID] = string(t.Raw)
		}
		if id, ok := c.DeletedTask(); ok {
			delete(e.holds, id)
		}
		e.mu.Unlock()
	}
}

func (e *events) ids() (out []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.holds {
		out = append(out, id)
	}
	return out
}

// within waits for a condition.
func within(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

func begin(t *testing.T, n Node, name string) (*Worker, *events) {
	t.Helper()
	n.Name = name
	w, err := NewWorker(n)
	if err != nil {
		t.Fatal(err)
	}
	if w.Status() != WorkerStatusNew {
		t.Errorf("%s before Start: %s", name, w.Status())
	}
	e := &events{holds: map[string]string{}}
	go e.follow(w)
	go w.Start()
	return w, e
}

func lead(t *testing.T, n Node, list func() []Task) *Master {
	t.Helper()
	n.Name = "master"
	m, err := NewMaster(MasterConfig{
		Interval: time.Second, Timeout: 10 * time.Second, Replicas: 50,
		Generator: func(context.Context) ([]Task, error) { return list(), nil },
	}, n)
	if err != nil {
		t.Fatal(err)
	}
	go m.Start()
	t.Cleanup(m.Stop)
	return m
}

func tasks(n int) []Task {
	out := make([]Task, n)
	for i := range out {
		out[i] = Task{ID: fmt.Sprintf("task-%d", i), Raw: []byte(fmt.Sprintf("raw %d", i))}
	}
	return out
}

// TestTwinShare: two workers and a master share a list; each task is with one of
// them, with its payload, and one that is no longer on the list is taken away.
func TestTwinShare(t *testing.T) {
	t.Parallel()
	n := twin(2)
	a, heldA := begin(t, n, "a")
	b, heldB := begin(t, n, "b")
	var mu sync.Mutex
	size := 12
	lead(t, n, func() []Task {
		mu.Lock()
		defer mu.Unlock()
		return tasks(size)
	})
	within(t, time.Minute, "all twelve are given", func() bool { return len(heldA.ids())+len(heldB.ids()) == 12 })
	heldA.mu.Lock()
	for id, raw := range heldA.holds {
		if _, twice := heldB.holds[id]; twice {
			t.Errorf("%s is with both", id)
		}
		if want := "raw " + strings.TrimPrefix(id, "task-"); raw != want {
			t.Errorf("%s is given %q, want %q", id, raw, want)
		}
	}
	heldA.mu.Unlock()
	for _, w := range []*Worker{a, b} {
		within(t, time.Minute, w.Name+" is in the barrier", func() bool { return w.Status() == WorkerStatusInBarrier })
	}
	within(t, time.Minute, "it says that all run", a.IsAllRunning)
	list, err := a.Tasks(context.Background())
	if err != nil || len(list) != len(heldA.ids()) {
		t.Errorf("a lists %v, %v, and was given %v", list, err, heldA.ids())
	}
	mu.Lock()
	size = 5
	mu.Unlock()
	within(t, time.Minute, "seven are taken away", func() bool { return len(heldA.ids())+len(heldB.ids()) == 5 })
	a.Stop()
	b.Stop()
}

// TestTwinFull: a worker too many stays new, goes on trying, and registers when there
// is room.
func TestTwinFull(t *testing.T) {
	t.Parallel()
	n := twin(1)
	first, _ := begin(t, n, "first")
	within(t, time.Minute, "the first registers", func() bool { return first.Status() == WorkerStatusRegistered })
	second, _ := begin(t, n, "second")
	time.Sleep(3 * time.Second)
	if s := second.Status(); s != WorkerStatusNew {
		t.Fatalf("the second of one is %s", s)
	}
	first.Stop()
	within(t, time.Minute, "the second registers", func() bool { return second.Status() == WorkerStatusRegistered })
	second.Stop()
	within(t, time.Minute, "it is dead after Stop", func() bool { return second.Status() == WorkerStatusDead })
}

// TestTwinBarrier: nothing is given before all have come.
func TestTwinBarrier(t *testing.T) {
	t.Parallel()
	n := twin(2)
	a, held := begin(t, n, "a")
	lead(t, n, func() []Task { return tasks(4) })
	time.Sleep(4 * time.Second)
	if got := held.ids(); len(got) != 0 || a.Status() != WorkerStatusRegistered {
		t.Errorf("before the second has come: %s with %v", a.Status(), got)
	}
	b, heldB := begin(t, n, "b")
	within(t, time.Minute, "all four are given", func() bool { return len(held.ids())+len(heldB.ids()) == 4 })
	a.Stop()
	b.Stop()
}

// TestTwinDefaults: what is missing is refused, and a name is made of address and pid.
func TestTwinDefaults(t *testing.T) {
	t.Parallel()
	n := twin(1)
	w, err := NewWorker(n)
	if err != nil {
		t.Fatal(err)
	}
	if address, pid, ok := strings.Cut(w.Name, "-"); !ok || strings.Count(address, ".") != 3 || pid == "" {
		t.Errorf("name %q", w.Name)
	}
	for name, change := range map[string]func(*Node){
		"RootName":    func(n *Node) { n.RootName = "" },
		"MaxNumNodes": func(n *Node) { n.MaxNumNodes = 1 },
	} {
		bad := n
		change(&bad)
		if _, err := NewWorker(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if _, err := NewMaster(MasterConfig{Interval: time.Second}, n); err == nil {
		t.Error("a master without a generator")
	}
	if _, err := NewMaster(MasterConfig{Generator: func(context.Context) ([]Task, error) { return nil, nil }}, n); err == nil {
		t.Error("a master without an interval")
	}
}

// TestTwinOddTasks: of a task without an id, and of two with one, the old one takes
// what it can. (Package peer refuses such a list; the shim makes it what it was.)
func TestTwinOddTasks(t *testing.T) {
	t.Parallel()
	n := twin(1)
	w, held := begin(t, n, "w")
	lead(t, n, func() []Task {
		return []Task{{ID: "x", Raw: []byte("first")}, {Raw: []byte("no id")}, {ID: "x", Raw: []byte("last")}}
	})
	within(t, time.Minute, "one is given", func() bool { return len(held.ids()) == 1 })
	held.mu.Lock()
	if held.holds["x"] != "last" {
		t.Errorf("given %v", held.holds)
	}
	held.mu.Unlock()
	w.Stop()
}
