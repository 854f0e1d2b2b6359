// Package fakecluster is a cluster in memory that answers the services of
// rota.v1, for the tests of what talks to them: the HTTP API, the command line
// and the console. It places tasks on its workers in turn and knows nothing of
// leases, elections or stores. No product code may call it.
package fakecluster

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/bound"
	"github.com/rota-project/rota/internal/api/convert"
)

// epoch is when everything in the cluster began.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Cluster is the whole. Make it with New.
type Cluster struct {
	rotav1.UnimplementedTasksServer
	rotav1.UnimplementedWorkersServer
	rotav1.UnimplementedClusterServer
	rotav1.UnimplementedProgramsServer

	mu       sync.Mutex
	tasks    map[string]*rotav1.TaskDetail
	workers  map[string]*rotav1.Worker
	programs map[string]*rotav1.Program
	revision int64
	watchers map[*watcher]bool
	notified []string
}

// watcher has the changes that one stream has not sent yet.
type watcher struct {
	wake    chan struct{}
	tasks   []*rotav1.TaskEvent
	workers []*rotav1.WorkerEvent
}

// New returns a cluster with the named workers and no tasks.
func New(workers ...string) *Cluster {
	c := &Cluster{
		tasks: map[string]*rotav1.TaskDetail{}, workers: map[string]*rotav1.Worker{},
		revision: 100, watchers: map[*watcher]bool{},
	}
	for i, name := range workers {
		c.workers[name] = &rotav1.Worker{
			Name: name, Incarnation: fmt.Sprintf("i%d", i+1), Pid: int64(1000 + i), State: "ready",
			Zone: string(rune('a' + i%3)), Labels: map[string]string{"disk": "ssd"}, LeaseLeftMs: 4200,
			Host: "host" + name, Kinds: []string{"task"}, Capacity: map[string]float64{"cpus": 4},
			Strength: 1, Version: "v0.0.1", Scheduler: "s1",
		}
	}
	return c
}

// Serve answers at a free port of the loopback interface until stop is called.
func (c *Cluster) Serve() (addr string, stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := grpc.NewServer(grpc.MaxRecvMsgSize(bound.MaxMessage))
	c.Register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Stop
	}()
	return l.Addr().String(), func() { s.Stop(); <-done }, nil
}

// Dial serves and connects, for handlers that want a connection.
func (c *Cluster) Dial() (conn *grpc.ClientConn, stop func(), err error) {
	addr, stopServer, err := c.Serve()
	if err != nil {
		return nil, nil, err
	}
	conn, err = grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(bound.MaxAnswer)))
	if err != nil {
		stopServer()
		return nil, nil, err
	}
	return conn, func() { _ = conn.Close(); stopServer() }, nil
}

// Register registers the services.
func (c *Cluster) Register(s grpc.ServiceRegistrar) {
	rotav1.RegisterTasksServer(s, c)
	rotav1.RegisterWorkersServer(s, c)
	rotav1.RegisterClusterServer(s, c)
	rotav1.RegisterProgramsServer(s, c)
}

// Apply declares tasks.
func (c *Cluster) Apply(tasks ...rota.Task) error {
	_, err := c.ApplyTasks(context.Background(), &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(tasks)})
	return err
}

// Notified returns the reasons of the passes that were asked for.
func (c *Cluster) Notified() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.notified)
}

func (c *Cluster) setState(w *rotav1.Worker, state string) {
	w.State = state
	c.revision++
	if state == "draining" || state == "lost" {
		for _, id := range slices.Sorted(maps.Keys(c.tasks)) {
			for _, in := range c.tasks[id].GetInstances() {
				if in.GetWorker() == w.GetName() {
					c.place(c.tasks[id], in)
					c.tellTask("set", id)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.workers)) {
		c.tellWorker(name)
	}
}

// place puts an instance on the ready worker with the least weight.
func (c *Cluster) place(t *rotav1.TaskDetail, in *rotav1.Instance) {
	if was := c.workers[in.GetWorker()]; was != nil {
		was.Instances--
		was.Weight -= t.GetTask().GetWeight()
	}
	var best *rotav1.Worker
	for _, name := range slices.Sorted(maps.Keys(c.workers)) {
		w := c.workers[name]
		taken := slices.ContainsFunc(t.GetInstances(), func(o *rotav1.Instance) bool { return o != in && o.GetWorker() == name })
		if w.GetState() == "ready" && !taken && (best == nil || w.GetWeight() < best.GetWeight()) {
			best = w
		}
	}
	c.revision++
	in.Since = timestamppb.New(epoch.Add(time.Duration(c.revision) * time.Millisecond))
	if best == nil {
		in.Worker, in.State, in.Generation = "", "waiting", 0
		return
	}
	best.Instances++
	best.Weight += t.GetTask().GetWeight()
	in.Worker, in.State, in.Generation = best.GetName(), "running", uint64(c.revision)
}

func (c *Cluster) remove(id string) {
	for _, in := range c.tasks[id].GetInstances() {
		if w := c.workers[in.GetWorker()]; w != nil {
			w.Instances--
			w.Weight -= c.tasks[id].GetTask().GetWeight()
		}
	}
	c.tellTask("deleted", id)
	delete(c.tasks, id)
	c.revision++
}

func (c *Cluster) summary(id string) *rotav1.Task {
	d := c.tasks[id]
	t := d.GetTask()
	out := &rotav1.Task{
		Id: id, Group: t.GetGroup(), Key: t.GetKey(), Weight: t.GetWeight(), Priority: t.GetPriority(), Kind: t.GetKind(),
	}
	for _, in := range d.GetInstances() {
		out.Instances = append(out.Instances, proto.CloneOf(in))
	}
	return out
}

func (c *Cluster) tellTask(kind, id string) {
	for w := range c.watchers {
		w.tasks = append(w.tasks, &rotav1.TaskEvent{Type: kind, Task: c.summary(id)})
		w.poke()
	}
}

func (c *Cluster) tellWorker(name string) {
	for w := range c.watchers {
		w.workers = append(w.workers, &rotav1.WorkerEvent{Type: "set", Worker: proto.CloneOf(c.workers[name])})
		w.poke()
	}
}

func (w *watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (c *Cluster) watch() *watcher {
	w := &watcher{wake: make(chan struct{}, 1)}
	c.watchers[w] = true
	return w
}

func notFound(what, name string) error {
	return status.Errorf(codes.NotFound, "%s %q: not found", what, name)
}

func hasPrefix(s, prefix string) bool { return strings.HasPrefix(s, prefix) }
