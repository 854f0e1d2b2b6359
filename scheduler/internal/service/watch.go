package service

import (
	"context"
	"slices"
	"sync"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/view"

	"google.golang.org/grpc"
)

// Types of an event.
const (
	eventSet     = "set"
	eventDeleted = "deleted"
	eventSynced  = "synced" // what comes after it is new
)

// changed collects the names of what changed, until the watcher has been told:
// one that reads slowly is told less often, never wrongly.
type changed struct {
	mu     sync.Mutex
	names  map[string]struct{}
	signal chan struct{}
}

func newChanged() *changed {
	return &changed{names: map[string]struct{}{}, signal: make(chan struct{}, 1)}
}

func (c *changed) add(names ...string) {
	if len(names) == 0 {
		return
	}
	c.mu.Lock()
	for _, n := range names {
		c.names[n] = struct{}{}
	}
	c.mu.Unlock()
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

func (c *changed) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]string, 0, len(c.names))
	for n := range c.names {
		out = append(out, n)
	}
	clear(c.names)
	slices.Sort(out)
	return out
}

// watch sends everything that first names, a sign that this was all, and then
// whatever each names, until ctx ends.
func (s *Service) watch(ctx context.Context, first func() []string, each func(*view.Delta) []string,
	send func(names []string) error, synced func() error,
) error {
	c := newChanged()
	var all []string
	sub := s.cfg.View.Subscribe(func() { all = first() }, func(d *view.Delta) { c.add(each(d)...) })
	defer sub.Close()
	if err := send(all); err != nil {
		return err
	}
	if err := synced(); err != nil {
		return err
	}
	for {
		select {
		case <-c.signal:
			if err := send(c.take()); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// watchChunk is how many names are looked up while the view stands still.
const watchChunk = 500

// WatchTasks answers the tasks as they are and then each change.
func (s *Service) WatchTasks(_ *rotav1.WatchTasksRequest, stream grpc.ServerStreamingServer[rotav1.TaskEvent]) error {
	v := s.cfg.View
	return s.watch(stream.Context(), func() (ids []string) {
		for t := range v.Tasks.All() {
			ids = append(ids, t.ID)
		}
		return ids
	}, func(d *view.Delta) (ids []string) {
		for _, c := range d.Tasks {
			ids = append(ids, c.Key)
		}
		for _, changes := range d.Grants {
			for _, c := range changes {
				ids = append(ids, c.Last().Instance.Task)
			}
		}
		for _, c := range d.Sessions {
			if c.New == nil && v.Grants[c.Name] != nil { // what it held waits
				for g := range v.Grants[c.Name].All() {
					ids = append(ids, g.Instance.Task)
				}
			}
		}
		for _, changes := range d.Acks {
			for _, c := range changes {
				// Those that went with a lease, too: what it says of a state is no more.
				ids = append(ids, c.Last().Instance.Task)
			}
		}
		return ids
	}, func(ids []string) error {
		for chunk := range slices.Chunk(ids, watchChunk) {
			var events []*rotav1.TaskEvent
			v.Read(func() {
				for _, id := range chunk {
					if t, ok := v.Tasks.Get(id); ok {
						events = append(events, &rotav1.TaskEvent{Type: eventSet, Task: s.task(t)})
					} else {
						events = append(events, &rotav1.TaskEvent{Type: eventDeleted, Task: &rotav1.Task{Id: id}})
					}
				}
			})
			for _, e := range events {
				if err := stream.Send(e); err != nil {
					return err
				}
			}
		}
		return nil
	}, func() error { return stream.Send(&rotav1.TaskEvent{Type: eventSynced}) })
}

// WatchWorkers answers the workers as they are and then each change.
func (s *Service) WatchWorkers(_ *rotav1.WatchWorkersRequest, stream grpc.ServerStreamingServer[rotav1.WorkerEvent]) error {
	v := s.cfg.View
	return s.watch(stream.Context(), s.workerNames, func(d *view.Delta) (names []string) {
		for _, c := range d.Sessions {
			names = append(names, c.Name)
		}
		for worker := range d.Grants {
			names = append(names, worker)
		}
		return append(names, d.Nodes...)
	}, func(names []string) error {
		var events []*rotav1.WorkerEvent
		v.Read(func() {
			for _, name := range names {
				if w := s.worker(name); w != nil {
					events = append(events, &rotav1.WorkerEvent{Type: eventSet, Worker: w})
				} else {
					events = append(events, &rotav1.WorkerEvent{Type: eventDeleted, Worker: &rotav1.Worker{Name: name}})
				}
			}
		})
		for _, e := range events {
			if err := stream.Send(e); err != nil {
				return err
			}
		}
		return nil
	}, func() error { return stream.Send(&rotav1.WorkerEvent{Type: eventSynced}) })
}
