package cli

import (
	"context"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/api/jsonpb"
)

// event is a change of a task or a worker, or "synced".
type event interface {
	proto.Message
	GetType() string
}

// watch prints what is, and then each change, until the user ends it: an event a
// line (jsonl), or rows: first all of what is, then changes. Where it goes on with
// another scheduler it prints what has changed meanwhile, and nothing twice.
type watch[E event] struct {
	app     *app
	open    func(context.Context, *grpc.ClientConn) (recv func() (E, error), err error)
	name    func(E) string
	gone    func(name string) E   // the event that says so
	lasting func(E) proto.Message // without what changes all the time
	keep    func(E) bool
	columns []string
	row     func(*terminal.Table, E)
	headed  bool
	// seen is a sum of the last event of everything that there is; nil before the
	// first "synced".
	seen map[string]uint64
}

// sums is the seed of the sums of this process.
var sums = maphash.MakeSeed()

func (w *watch[E]) run(ctx context.Context) error {
	return w.app.follow(ctx, func(ctx context.Context, conn *grpc.ClientConn) error {
		recv, err := w.open(ctx, conn)
		if err != nil {
			return err
		}
		if err := w.catchUp(recv); err != nil {
			return err
		}
		for {
			ev, err := received(recv())
			if err != nil {
				return err
			}
			if w.news(ev, w.seen) && w.keep(ev) {
				if err := w.print(ev); err != nil {
					return err
				}
			}
		}
	})
}

// catchUp reads all of what is, and prints what has not been printed.
func (w *watch[E]) catchUp(recv func() (E, error)) error {
	first := w.seen == nil
	here := map[string]uint64{}
	var found []E
	for {
		ev, err := received(recv())
		if err != nil {
			return err
		}
		if ev.GetType() == "synced" {
			for _, name := range slices.Sorted(maps.Keys(w.seen)) {
				if _, there := here[name]; !there {
					if ev := w.gone(name); w.keep(ev) {
						found = append(found, ev)
					}
				}
			}
			w.seen = here
			if w.app.output == "jsonl" && first {
				found = append(found, ev)
			} else if len(found) == 0 && !first {
				return nil
			}
			return w.print(found...)
		}
		if w.news(ev, here) && w.keep(ev) && (first || w.seen[w.name(ev)] != here[w.name(ev)]) {
			found = append(found, ev)
		}
	}
}

// news notes the sum of an event, and reports whether it differs from the last.
func (w *watch[E]) news(ev E, in map[string]uint64) bool {
	name := w.name(ev)
	was, there := in[name]
	if ev.GetType() == "deleted" {
		delete(in, name)
		return there
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(w.lasting(ev))
	if err != nil {
		return true // what came over the wire goes back: it cannot be
	}
	in[name] = maphash.Bytes(sums, b)
	return !there || was != in[name]
}

func (w *watch[E]) print(events ...E) error {
	if w.app.output == "jsonl" {
		for _, ev := range events {
			line, err := jsonpb.Marshal(ev)
			if err != nil {
				return err
			}
			if err := w.app.printJSON(line); err != nil {
				return err
			}
		}
		return nil
	}
	t := terminal.NewTable(w.columns...)
	for _, ev := range events {
		w.row(t, ev)
	}
	t.Headless, w.headed = w.headed, true
	return t.Write(w.app.env.Stdout, w.app.paint())
}

// watchable refuses the output that has no end to close its bracket at.
func (a *app) watchable() error {
	if a.output == "json" {
		return usagef("--watch: want -o table or -o jsonl: a JSON array would never end")
	}
	return nil
}

func (a *app) watchTasks(ctx context.Context, only *rotav1.ListTasksRequest) error {
	if err := a.watchable(); err != nil {
		return err
	}
	w := watch[*rotav1.TaskEvent]{
		app: a,
		open: func(ctx context.Context, conn *grpc.ClientConn) (func() (*rotav1.TaskEvent, error), error) {
			stream, err := tasksOf(conn).WatchTasks(ctx, &rotav1.WatchTasksRequest{})
			if err != nil {
				return nil, err
			}
			return stream.Recv, nil
		},
		name: func(ev *rotav1.TaskEvent) string { return ev.GetTask().GetId() },
		gone: func(id string) *rotav1.TaskEvent {
			return &rotav1.TaskEvent{Type: "deleted", Task: &rotav1.Task{Id: id}}
		},
		lasting: func(ev *rotav1.TaskEvent) proto.Message { return ev.GetTask() },
		keep:    func(ev *rotav1.TaskEvent) bool { return matches(only, ev) },
		columns: taskColumns,
		row: func(t *terminal.Table, ev *rotav1.TaskEvent) {
			if ev.GetType() == "deleted" {
				t.Add(ev.GetTask().GetId(), "deleted", "-", dash(ev.GetTask().GetGroup()), "-", "-", "-")
				return
			}
			addTask(t, ev.GetTask())
		},
	}
	return w.run(ctx)
}

// matches is what the server does for a list. A deletion is always told.
func matches(only *rotav1.ListTasksRequest, ev *rotav1.TaskEvent) bool {
	task := ev.GetTask()
	if !strings.HasPrefix(task.GetId(), only.GetIdPrefix()) {
		return false
	}
	if ev.GetType() == "deleted" {
		return true
	}
	if only.GetGroup() != "" && only.GetGroup() != task.GetGroup() {
		return false
	}
	has := func(ok func(*rotav1.Instance) bool) bool { return slices.ContainsFunc(task.GetInstances(), ok) }
	return (only.GetWorker() == "" || has(func(in *rotav1.Instance) bool { return in.GetWorker() == only.GetWorker() })) &&
		(only.GetState() == "" || has(func(in *rotav1.Instance) bool { return in.GetState() == only.GetState() }))
}

func (a *app) watchWorkers(ctx context.Context) error {
	if err := a.watchable(); err != nil {
		return err
	}
	w := watch[*rotav1.WorkerEvent]{
		app: a,
		open: func(ctx context.Context, conn *grpc.ClientConn) (func() (*rotav1.WorkerEvent, error), error) {
			stream, err := workersOf(conn).WatchWorkers(ctx, &rotav1.WatchWorkersRequest{})
			if err != nil {
				return nil, err
			}
			return stream.Recv, nil
		},
		name: func(ev *rotav1.WorkerEvent) string { return ev.GetWorker().GetName() },
		gone: func(name string) *rotav1.WorkerEvent {
			return &rotav1.WorkerEvent{Type: "deleted", Worker: &rotav1.Worker{Name: name}}
		},
		lasting: func(ev *rotav1.WorkerEvent) proto.Message {
			worker := proto.CloneOf(ev.GetWorker())
			worker.LeaseLeftMs = 0
			return worker
		},
		keep:    func(*rotav1.WorkerEvent) bool { return true },
		columns: workerColumns,
		row: func(t *terminal.Table, ev *rotav1.WorkerEvent) {
			if ev.GetType() == "deleted" {
				t.Add(ev.GetWorker().GetName(), "deleted", "-", "-", "-", "-", "-", "-")
				return
			}
			addWorker(t, ev.GetWorker())
		},
	}
	return w.run(ctx)
}
