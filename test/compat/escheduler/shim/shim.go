package escheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/peer"
	"github.com/rota-project/rota/store/etcd"
	"github.com/rota-project/rota/worker"
)

// The states of a worker.
const (
	WorkerStatusNew         = "new"
	WorkerStatusRegistered  = "registered"
	WorkerStatusInBarrier   = "in_barrier"
	WorkerStatusLeftBarrier = "left_barrier"
	WorkerStatusDead        = "dead"
)

// What happened to a task.
const (
	ActionNew     = 1
	ActionDeleted = 2
)

// ErrWorkerNumExceedMaximum is why a worker stays new.
var ErrWorkerNumExceedMaximum = peer.ErrWorkerNumExceedMaximum

type (
	// RawData is a task's payload.
	RawData []byte
	// Task is a task as the old system has it.
	Task struct {
		P     float64
		Key   string
		Group string
		ID    string
		Raw   RawData
	}
	// Generator lists the tasks.
	Generator func(ctx context.Context) ([]Task, error)
)

// Node says which cluster a worker or a master is part of.
type Node struct {
	EtcdConfig  clientv3.Config
	RootName    string
	TTL         int64
	MaxNumNodes int
	Name        string
}

// Validate fills in defaults.
func (n *Node) Validate() error {
	if n.TTL == 0 {
		n.TTL = 10
	}
	switch {
	case n.RootName == "":
		return errors.New("RootName is required")
	case n.MaxNumNodes < 2:
		return fmt.Errorf("MaxNumNodes is %d < 2", n.MaxNumNodes)
	}
	return nil
}

// MasterConfig is how a master schedules.
type MasterConfig struct {
	Interval      time.Duration
	Timeout       time.Duration
	Generator     Generator
	ReBalanceWait time.Duration
	Replicas      int
}

// TaskChange is a task given or taken away.
type TaskChange struct {
	Action int
	Task
}

func (t TaskChange) String() string { return fmt.Sprintf("%d %s", t.Action, t.ID) }

// CreatedTask is the task, if it was given.
func (t TaskChange) CreatedTask() (Task, bool) { return t.Task, t.Action == ActionNew }

// DeletedTask is the task's id, if it was taken away.
func (t TaskChange) DeletedTask() (string, bool) { return t.ID, t.Action == ActionDeleted }

// WatchEvent is what WatchTask gives.
type WatchEvent interface {
	CreatedTask() (Task, bool)
	DeletedTask() (string, bool)
}

// root is what the workers and masters of one root in this process share.
type root struct {
	joining sync.Mutex

	mu      sync.Mutex
	masters []*Master // those that have started
	workers []*Worker
}

var roots = struct {
	sync.Mutex
	m map[string]*root
}{m: map[string]*root{}}

func rootOf(name string) *root {
	roots.Lock()
	defer roots.Unlock()
	if roots.m[name] == nil {
		roots.m[name] = &root{}
	}
	return roots.m[name]
}

func (r *root) master() *Master {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.masters) == 0 {
		return nil
	}
	return r.masters[0]
}

// notify has the replicas ask the generator.
func (r *root) notify(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		if w.node.NotifySchedule(context.Background(), reason) == nil {
			return
		}
	}
}

// Master is the list of tasks: who leads is the replicas' own affair.
type Master struct {
	Node
	config MasterConfig
	stop   context.CancelFunc
	ctx    context.Context //nolint:containedctx // as the old one has it
}

// NewMaster returns a master that has not started.
func NewMaster(config MasterConfig, node Node) (*Master, error) {
	switch {
	case config.Interval == 0:
		return nil, errors.New("interval is required")
	case config.Generator == nil:
		return nil, errors.New("generator is required")
	}
	if err := node.Validate(); err != nil {
		return nil, err
	}
	m := &Master{Node: node, config: config}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m, nil
}

// Start is a master until Stop.
func (m *Master) Start() {
	r := rootOf(m.RootName)
	r.mu.Lock()
	r.masters = append(r.masters, m)
	r.mu.Unlock()
	r.notify("a master begins")
	<-m.ctx.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.masters {
		if other == m {
			r.masters = append(r.masters[:i:i], r.masters[i+1:]...)
			return
		}
	}
}

// Stop ends Start.
func (m *Master) Stop() { m.stop() }

// NotifySchedule asks for a pass.
func (m *Master) NotifySchedule(reason string) { rootOf(m.RootName).notify(reason) }

// ElectionKey is the key that whoever leads holds.
func (m *Master) ElectionKey() string { return path.Join("/", m.RootName, "election") }

// Worker is a replica.
type Worker struct {
	Node
	logger *slog.Logger
	root   *root
	node   *peer.Node
	given  <-chan worker.Event
	tasks  chan WatchEvent

	mu      sync.Mutex
	left    bool // TryLeaveBarrier was called
	stopped bool
}

// NewWorker returns a worker that has not started.
func NewWorker(n Node) (*Worker, error) {
	if err := n.Validate(); err != nil {
		return nil, err
	}
	w := &Worker{Node: n, logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), root: rootOf(n.RootName), tasks: make(chan WatchEvent)}
	c := peer.Config{
		Etcd: etcd.Config{Endpoints: n.EtcdConfig.Endpoints, User: n.EtcdConfig.Username, Password: n.EtcdConfig.Password, TLS: n.EtcdConfig.TLS},
		Root: n.RootName, Name: n.Name, TTL: time.Duration(n.TTL) * time.Second,
		MaxNumNodes: n.MaxNumNodes - 1, Gather: n.MaxNumNodes - 1, GatherWait: time.Hour, Interval: time.Second,
		Generator: w.generate, Logger: w.logger,
	}
	var err error
	if w.node, err = peer.New(c); err != nil {
		return nil, err
	}
	w.Name = w.node.Name()
	w.given, err = w.node.WatchTask()
	return w, err
}

// generate asks the master of this process.
func (w *Worker) generate(ctx context.Context) ([]rota.Task, error) {
	m := w.root.master()
	if m == nil {
		return nil, errors.New("no master has started in this process")
	}
	list, err := m.config.Generator(ctx)
	if err != nil {
		return nil, err
	}
	last := map[string]int{} // the old one leaves tasks without an id aside, and takes the last of one id
	var out []rota.Task
	for _, t := range list {
		one := rota.Task{ID: t.ID, Group: t.Group, Key: t.Key, Priority: t.P, Payload: t.Raw}
		at, twice := last[t.ID]
		switch {
		case t.ID == "":
		case twice:
			out[at] = one
		default:
			last[t.ID] = len(out)
			out = append(out, one)
		}
	}
	return out, nil
}

// Start returns after Stop, as the old one's.
func (w *Worker) Start() {
	w.root.joining.Lock() // the old one registers one by one
	w.root.mu.Lock()
	w.root.workers = append(w.root.workers, w)
	w.root.mu.Unlock()
	w.node.Start()
	go w.forward()
	for w.node.Status() == worker.StatusNew && !errors.Is(w.node.Err(), ErrWorkerNumExceedMaximum) && w.Status() != WorkerStatusDead {
		time.Sleep(10 * time.Millisecond)
	}
	w.root.joining.Unlock()
	w.root.notify("a worker begins")
	<-w.node.Done()
}

// forward gives what the replica was given, in the old form.
func (w *Worker) forward() {
	defer close(w.tasks)
	for e := range w.given {
		t := e.Task
		change := TaskChange{Action: ActionNew, Task: Task{P: t.Priority, Key: t.Key, Group: t.Group, ID: t.ID, Raw: t.Payload}}
		if !e.Given {
			change = TaskChange{Action: ActionDeleted, Task: Task{ID: t.ID}}
		}
		select {
		case w.tasks <- change:
		case <-w.node.Done():
			return
		}
	}
}

// WatchTask gives the events of this worker.
func (w *Worker) WatchTask() <-chan WatchEvent { return w.tasks }

// Status is that of the replica in the old words: before the first plan a worker
// waits at the barrier as registered, and it is in the barrier until it asks to leave.
func (w *Worker) Status() string {
	w.mu.Lock()
	left, stopped := w.left, w.stopped
	w.mu.Unlock()
	switch s := w.node.Status(); {
	case stopped, s == worker.StatusDead:
		return WorkerStatusDead
	case s == worker.StatusRegistered, s == worker.StatusInBarrier, s == worker.StatusLeftBarrier && w.root.master() == nil:
		return WorkerStatusRegistered
	case s == worker.StatusLeftBarrier && !left:
		return WorkerStatusInBarrier
	case s == worker.StatusLeftBarrier:
		return WorkerStatusLeftBarrier
	}
	return WorkerStatusNew
}

// TryLeaveBarrier waits until all tasks run, at most d.
func (w *Worker) TryLeaveBarrier(d time.Duration) bool {
	w.mu.Lock()
	w.left = true
	w.mu.Unlock()
	return w.node.TryLeaveBarrier(d)
}

// IsAllRunning reports whether all tasks of the cluster run.
func (w *Worker) IsAllRunning() bool { return w.node.IsAllRunning() }

// Tasks are the ids of what this worker was assigned.
func (w *Worker) Tasks(context.Context) (map[string]struct{}, error) {
	c, err := w.node.Cluster()
	if err != nil {
		return nil, err
	}
	out := map[string]struct{}{}
	for _, p := range c.Instances {
		if p.Replica == w.Name {
			out[p.Task] = struct{}{}
		}
	}
	return out, nil
}

// Stop leaves.
func (w *Worker) Stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.node.Stop(ctx); err != nil {
		w.logger.Error("stop", "error", err)
	}
}
