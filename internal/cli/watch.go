package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/api/jsonpb"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// event is a change of a task or a worker, or "synced".
type event interface {
	proto.Message
	GetType() string
}

// watch prints what is, and then each change, until the user or the server ends
// it: an event a line (jsonl), or rows: first all of what is, then changes.
type watch[E event] struct {
	app     *app
	recv    func() (E, error)
	keep    func(E) bool
	columns []string
	row     func(*table, E)
	headed  bool
}

func (w *watch[E]) run() error {
	var found []E // before "synced"
	synced := w.app.output == "jsonl"
	for {
		ev, err := w.recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the server has ended the watch")
		}
		if err != nil {
			return err
		}
		switch {
		case ev.GetType() == "synced" && w.app.output == "jsonl":
			err = w.print(ev)
		case ev.GetType() == "synced":
			synced = true
			err = w.print(found...)
			found = nil
		case !w.keep(ev):
		case synced:
			err = w.print(ev)
		default:
			found = append(found, ev)
		}
		if err != nil {
			return err
		}
	}
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
	t := newTable(w.columns...)
	for _, ev := range events {
		w.row(t, ev)
	}
	t.headless, w.headed = w.headed, true
	return t.write(w.app.env.Stdout, w.app.paint())
}

// watchable refuses the output that has no end to close its bracket at.
func (a *app) watchable() error {
	if a.output == "json" {
		return usagef("--watch: want -o table or -o jsonl: an array would never end")
	}
	return nil
}

func (a *app) watchTasks(ctx context.Context, only *rotav1.ListTasksRequest) error {
	if err := a.watchable(); err != nil {
		return err
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	stream, err := tasksOf(conn).WatchTasks(ctx, &rotav1.WatchTasksRequest{})
	if err != nil {
		return err
	}
	w := watch[*rotav1.TaskEvent]{
		app:     a,
		recv:    stream.Recv,
		keep:    func(ev *rotav1.TaskEvent) bool { return matches(only, ev) },
		columns: taskColumns,
		row: func(t *table, ev *rotav1.TaskEvent) {
			if ev.GetType() == "deleted" {
				t.add(ev.GetTask().GetId(), "deleted", "-", dash(ev.GetTask().GetGroup()), "-", "-", "-")
				return
			}
			addTask(t, ev.GetTask())
		},
	}
	return w.run()
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
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	stream, err := workersOf(conn).WatchWorkers(ctx, &rotav1.WatchWorkersRequest{})
	if err != nil {
		return err
	}
	w := watch[*rotav1.WorkerEvent]{
		app:     a,
		recv:    stream.Recv,
		keep:    func(*rotav1.WorkerEvent) bool { return true },
		columns: workerColumns,
		row: func(t *table, ev *rotav1.WorkerEvent) {
			if ev.GetType() == "deleted" {
				t.add(ev.GetWorker().GetName(), "deleted", "-", "-", "-", "-", "-", "-")
				return
			}
			addWorker(t, ev.GetWorker())
		},
	}
	return w.run()
}
