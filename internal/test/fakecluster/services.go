package fakecluster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
)

// ListTasks implements rotav1.TasksServer. The page token is the last id.
func (c *Cluster) ListTasks(_ context.Context, req *rotav1.ListTasksRequest) (*rotav1.ListTasksResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := int(req.GetPageSize())
	if size == 0 {
		size = 1000
	}
	resp := &rotav1.ListTasksResponse{}
	for _, id := range slices.Sorted(maps.Keys(c.tasks)) {
		if id <= req.GetPageToken() && req.GetPageToken() != "" || !hasPrefix(id, req.GetIdPrefix()) {
			continue
		}
		t := c.summary(id)
		has := func(ok func(*rotav1.Instance) bool) bool { return slices.ContainsFunc(t.GetInstances(), ok) }
		if (req.GetGroup() != "" && req.GetGroup() != t.GetGroup()) ||
			(req.GetWorker() != "" && !has(func(in *rotav1.Instance) bool { return in.GetWorker() == req.GetWorker() })) ||
			(req.GetState() != "" && !has(func(in *rotav1.Instance) bool { return in.GetState() == req.GetState() })) {
			continue
		}
		if len(resp.GetTasks()) == size {
			resp.NextPageToken = resp.GetTasks()[size-1].GetId()
			break
		}
		resp.Tasks = append(resp.Tasks, t)
	}
	return resp, nil
}

// GetTask implements rotav1.TasksServer.
func (c *Cluster) GetTask(_ context.Context, req *rotav1.GetTaskRequest) (*rotav1.TaskDetail, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.tasks[req.GetId()]
	if !ok {
		return nil, notFound("task", req.GetId())
	}
	return proto.CloneOf(d), nil
}

// ReadTasks implements rotav1.TasksServer: no client of this fake calls it.
func (c *Cluster) ReadTasks(context.Context, *rotav1.ReadTasksRequest) (*rotav1.ReadTasksResponse, error) {
	return &rotav1.ReadTasksResponse{}, nil
}

// ApplyTasks implements rotav1.TasksServer.
func (c *Cluster) ApplyTasks(_ context.Context, req *rotav1.ApplyTasksRequest) (*rotav1.ApplyTasksResponse, error) {
	tasks, err := convert.TasksFromProto(req.GetTasks())
	if err != nil {
		return nil, convert.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := &rotav1.ApplyTasksResponse{}
	for _, t := range tasks {
		def := convert.TaskToProto(t.Normalize())
		was, there := c.tasks[t.ID]
		switch {
		case !there:
			resp.Created++
		case proto.Equal(was.GetTask(), def):
			resp.Unchanged++
			continue
		default:
			resp.Changed++
		}
		if req.GetDryRun() {
			continue
		}
		if there {
			c.remove(t.ID)
		}
		d := &rotav1.TaskDetail{Task: def, Source: "declared"}
		for i := range def.GetReplicas() {
			d.Instances = append(d.Instances, &rotav1.Instance{Index: i})
		}
		c.tasks[t.ID] = d
		for _, in := range d.GetInstances() {
			c.place(d, in)
		}
		c.tellTask("set", t.ID)
	}
	for _, name := range slices.Sorted(maps.Keys(c.workers)) {
		c.tellWorker(name)
	}
	return resp, nil
}

// DeleteTasks implements rotav1.TasksServer: all of them or none.
func (c *Cluster) DeleteTasks(_ context.Context, req *rotav1.DeleteTasksRequest) (*rotav1.DeleteTasksResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range req.GetIds() {
		if c.tasks[id] == nil {
			return nil, notFound("task", id)
		}
	}
	for _, id := range req.GetIds() {
		c.remove(id)
	}
	return &rotav1.DeleteTasksResponse{Deleted: int64(len(req.GetIds()))}, nil
}

// Why implements rotav1.TasksServer.
func (c *Cluster) Why(_ context.Context, req *rotav1.WhyRequest) (*rotav1.WhyResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.tasks[req.GetId()]
	if !ok {
		return nil, notFound("task", req.GetId())
	}
	resp := &rotav1.WhyResponse{Id: req.GetId()}
	for _, in := range d.GetInstances() {
		why := &rotav1.WhyInstance{Instance: proto.CloneOf(in), Reasons: []string{"it had the least weight when the task came"}}
		if in.GetWorker() == "" {
			why.Reasons = []string{"no worker is ready"}
		}
		for _, name := range slices.Sorted(maps.Keys(c.workers)) {
			w := c.workers[name]
			if name == in.GetWorker() {
				why.Workers = slices.Insert(why.GetWorkers(), 0, &rotav1.WhyWorker{Worker: name, Fits: true, Chosen: true})
			} else {
				why.Workers = append(why.Workers, &rotav1.WhyWorker{
					Worker: name, Fits: w.GetState() == "ready", Reason: fmt.Sprintf("is %s, weight %g", w.GetState(), w.GetWeight()),
				})
			}
			why.AllWorkers++
		}
		resp.Instances = append(resp.Instances, why)
	}
	return resp, nil
}

// WatchTasks implements rotav1.TasksServer.
func (c *Cluster) WatchTasks(_ *rotav1.WatchTasksRequest, stream grpc.ServerStreamingServer[rotav1.TaskEvent]) error {
	c.mu.Lock()
	w := c.watch()
	for _, id := range slices.Sorted(maps.Keys(c.tasks)) {
		w.tasks = append(w.tasks, &rotav1.TaskEvent{Type: "set", Task: c.summary(id)})
	}
	w.tasks = append(w.tasks, &rotav1.TaskEvent{Type: "synced"})
	w.poke()
	c.mu.Unlock()
	return send(c, w, stream, func() []*rotav1.TaskEvent { return take(&w.tasks) })
}

// WatchWorkers implements rotav1.WorkersServer.
func (c *Cluster) WatchWorkers(_ *rotav1.WatchWorkersRequest, stream grpc.ServerStreamingServer[rotav1.WorkerEvent]) error {
	c.mu.Lock()
	w := c.watch()
	for _, name := range slices.Sorted(maps.Keys(c.workers)) {
		w.workers = append(w.workers, &rotav1.WorkerEvent{Type: "set", Worker: proto.CloneOf(c.workers[name])})
	}
	w.workers = append(w.workers, &rotav1.WorkerEvent{Type: "synced"})
	w.poke()
	c.mu.Unlock()
	return send(c, w, stream, func() []*rotav1.WorkerEvent { return take(&w.workers) })
}

func take[E any](queue *[]E) []E {
	out := *queue
	*queue = nil
	return out
}

func send[E any](c *Cluster, w *watcher, stream grpc.ServerStreamingServer[E], next func() []*E) error {
	defer func() {
		c.mu.Lock()
		delete(c.watchers, w)
		c.mu.Unlock()
	}()
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-w.wake:
		}
		c.mu.Lock()
		list := next()
		c.mu.Unlock()
		for _, ev := range list {
			if err := stream.Send(ev); err != nil {
				return err
			}
		}
	}
}

// ListWorkers implements rotav1.WorkersServer.
func (c *Cluster) ListWorkers(context.Context, *rotav1.ListWorkersRequest) (*rotav1.ListWorkersResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := &rotav1.ListWorkersResponse{}
	for _, name := range slices.Sorted(maps.Keys(c.workers)) {
		resp.Workers = append(resp.Workers, proto.CloneOf(c.workers[name]))
	}
	return resp, nil
}

// GetWorker implements rotav1.WorkersServer.
func (c *Cluster) GetWorker(_ context.Context, req *rotav1.GetWorkerRequest) (*rotav1.Worker, error) {
	return c.worker(req.GetName(), "")
}

// CordonWorker implements rotav1.WorkersServer.
func (c *Cluster) CordonWorker(_ context.Context, req *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return c.worker(req.GetName(), "cordoned")
}

// DrainWorker implements rotav1.WorkersServer.
func (c *Cluster) DrainWorker(_ context.Context, req *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return c.worker(req.GetName(), "draining")
}

// UndrainWorker implements rotav1.WorkersServer.
func (c *Cluster) UndrainWorker(_ context.Context, req *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return c.worker(req.GetName(), "ready")
}

// ForgetWorker implements rotav1.WorkersServer.
func (c *Cluster) ForgetWorker(_ context.Context, req *rotav1.WorkerRequest) (*rotav1.Worker, error) {
	return c.worker(req.GetName(), "")
}

func (c *Cluster) worker(name, state string) (*rotav1.Worker, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.workers[name]
	if !ok {
		return nil, notFound("worker", name)
	}
	if state != "" {
		c.setState(w, state)
	}
	return proto.CloneOf(w), nil
}

// GetStatus implements rotav1.ClusterServer.
func (c *Cluster) GetStatus(context.Context, *rotav1.GetStatusRequest) (*rotav1.Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &rotav1.Status{
		Leader: "s1", Epoch: 7, Revision: c.revision, Version: "v0.0.1",
		Schedulers: []*rotav1.Scheduler{
			{Name: "s1", Grpc: "127.0.0.1:50000", Http: "127.0.0.1:3000", Leader: true},
			{Name: "s2", Grpc: "127.0.0.1:50001", Http: "127.0.0.1:3001"},
		},
		Workers: &rotav1.WorkerCounts{}, Tasks: &rotav1.TaskCounts{Declared: int64(len(c.tasks))},
		Sources: []*rotav1.Source{{Name: "declared", Tasks: int64(len(c.tasks))}},
	}
	var most, sum, ready float64
	for _, w := range c.workers {
		switch w.GetState() {
		case "draining":
			s.Workers.Draining++
		case "lost":
			s.Workers.Lost++
		default:
			s.Workers.Ready++
			ready++
		}
		most, sum = max(most, w.GetWeight()), sum+w.GetWeight()
	}
	s.Imbalance = 1
	if sum > 0 && ready > 0 {
		s.Imbalance = most / (sum / ready)
	}
	for _, d := range c.tasks {
		for _, in := range d.GetInstances() {
			if in.GetState() == "running" {
				s.Tasks.Running++
			} else {
				s.Tasks.Waiting++
			}
		}
	}
	return s, nil
}

// GetPlan implements rotav1.ClusterServer: what the named workers hold would
// go to others, and that is all.
func (c *Cluster) GetPlan(_ context.Context, req *rotav1.GetPlanRequest) (*rotav1.Plan, error) {
	if _, err := convert.TasksFromProto(req.GetTasks()); err != nil {
		return nil, convert.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []string
	for _, name := range slices.Sorted(maps.Keys(c.workers)) {
		if !slices.Contains(req.GetWithout(), name) {
			left = append(left, name)
		}
	}
	p := &rotav1.Plan{Summary: &rotav1.PlanSummary{ImbalanceBefore: 1, ImbalanceAfter: 1}}
	for _, id := range slices.Sorted(maps.Keys(c.tasks)) {
		for _, in := range c.tasks[id].GetInstances() {
			if !slices.Contains(req.GetWithout(), in.GetWorker()) {
				continue
			}
			if len(left) == 0 {
				p.Waiting = append(p.Waiting, &rotav1.WaitingInstance{Task: id, Index: in.GetIndex(), Reason: "no worker is left"})
				continue
			}
			p.Moves = append(p.Moves, &rotav1.Move{
				Task: id, Index: in.GetIndex(), From: in.GetWorker(), To: left[len(p.GetMoves())%len(left)],
				Reason: "worker " + in.GetWorker() + " is gone", Forced: true,
			})
		}
	}
	n := int64(len(p.GetMoves()))
	p.Summary.Moves, p.Summary.Forced, p.Summary.Waiting = n, n, int64(len(p.GetWaiting()))
	if !req.GetAll() && n > 1000 {
		p.Moves = p.GetMoves()[:1000]
	}
	return p, nil
}

// NotifySchedule implements rotav1.ClusterServer.
func (c *Cluster) NotifySchedule(_ context.Context, req *rotav1.NotifyScheduleRequest) (*rotav1.NotifyScheduleResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notified = append(c.notified, req.GetReason())
	return &rotav1.NotifyScheduleResponse{}, nil
}
