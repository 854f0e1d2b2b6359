package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// mostLog is how much of a log is shown, in bytes, and lastLines how much of a task's
// is asked for.
const (
	mostLog   = 64 << 10
	lastLines = 500
)

// asker carries out effects, one at a time.
type asker struct{ cfg Config }

// do answers the message that the effect ends with. A connection on which nobody
// answers is let go of: the next effect makes another.
func (a *asker) do(ctx context.Context, e Effect) any {
	conn, err := a.cfg.Connect(ctx)
	if err == nil {
		limit, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
		defer cancel()
		ctx = limit
	}
	var msg any
	switch e := e.(type) {
	case Ask:
		var m Answer
		if err == nil {
			m, err = ask(ctx, conn, e)
		}
		m.Ask, m.At, m.Err = e, time.Now(), err
		msg = m
	case Look:
		m := Looked{Look: e}
		if err == nil {
			m.Text, err = a.look(ctx, conn, e)
		}
		m.Err = err
		msg = m
	case Plan:
		m := Planned{Worker: e.Worker}
		if err == nil {
			m.Text, err = a.plan(ctx, conn, e.Worker)
		}
		m.Err = err
		msg = m
	case Do:
		m := Done{Do: e}
		if err == nil {
			m.Now, err = change(ctx, conn, e)
		}
		m.Err = err
		msg = m
	}
	if code := status.Code(err); err != nil && (code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled) {
		a.cfg.Disconnect()
	}
	return msg
}

func ask(ctx context.Context, conn *grpc.ClientConn, e Ask) (m Answer, err error) {
	if m.Status, err = rotav1.NewClusterClient(conn).GetStatus(ctx, &rotav1.GetStatusRequest{}); err != nil {
		return m, err
	}
	switch e.View {
	case Map, Workers:
		req := &rotav1.ListWorkersRequest{Text: e.Text, OrderBy: e.Order, PageSize: pageSize, PageToken: e.Token}
		if e.View == Map {
			req.PageSize, req.OrderBy = mapSize, "zone"
		}
		list, err := rotav1.NewWorkersClient(conn).ListWorkers(ctx, req)
		if err != nil {
			return m, err
		}
		m.Workers, m.Next, m.Total = list.GetWorkers(), list.GetNextPageToken(), list.GetTotal()
		if e.View != Map {
			return m, nil
		}
		if m.Status.GetTasks().GetDeclared() <= mapTasks && m.Total <= mapBars {
			tasks, err := rotav1.NewTasksClient(conn).ListTasks(ctx, &rotav1.ListTasksRequest{PageSize: mapTasks})
			if err != nil {
				return m, err
			}
			m.Tasks = tasks.GetTasks()
		}
		m.Events, err = recent(ctx, conn)
		return m, err
	case Tasks:
		list, err := rotav1.NewTasksClient(conn).ListTasks(ctx, &rotav1.ListTasksRequest{
			Text: e.Text, Worker: e.Worker, OrderBy: e.Order, PageSize: pageSize, PageToken: e.Token,
		})
		m.Tasks, m.Next, m.Total = list.GetTasks(), list.GetNextPageToken(), list.GetTotal()
		return m, err
	case Jobs:
		list, err := rotav1.NewJobsClient(conn).ListJobs(ctx, &rotav1.ListJobsRequest{Text: e.Text, Worker: e.Worker, PageSize: pageSize, PageToken: e.Token})
		m.Jobs, m.Next, m.Total = list.GetJobs(), list.GetNextPageToken(), list.GetTotal()
		return m, err
	}
	return m, fmt.Errorf("no view %d", e.View)
}

// recent are the latest events, the latest first. A cluster of replicas has none.
func recent(ctx context.Context, conn *grpc.ClientConn) ([]*rotav1.Event, error) {
	list, err := rotav1.NewEventsClient(conn).ListEvents(ctx, &rotav1.ListEventsRequest{PageSize: recentSize})
	if code := status.Code(err); code == codes.Unimplemented || code == codes.FailedPrecondition {
		return nil, nil
	}
	return list.GetEvents(), err
}

func (a *asker) look(ctx context.Context, conn *grpc.ClientConn, e Look) (string, error) {
	var b strings.Builder
	switch {
	case e.What == "logs" && e.Item.Job != "":
		return output(ctx, conn, e.Item.Job)
	case e.What == "logs":
		return taskLog(ctx, conn, e.Item)
	case e.Item.Job != "":
		d, err := rotav1.NewJobsClient(conn).GetJob(ctx, &rotav1.GetJobRequest{Id: e.Item.Job})
		if err != nil {
			return "", err
		}
		err = a.cfg.Words.Job(&b, d)
		return b.String(), err
	}
	w, err := rotav1.NewTasksClient(conn).Why(ctx, &rotav1.WhyRequest{Id: e.Item.Task})
	if err != nil {
		return "", err
	}
	err = a.cfg.Words.Why(&b, w)
	return b.String(), err
}

func taskLog(ctx context.Context, conn *grpc.ClientConn, item Item) (string, error) {
	tail := int64(lastLines)
	stream, err := rotav1.NewTasksClient(conn).ReadTaskLogs(ctx, &rotav1.ReadTaskLogsRequest{Id: item.Task, Index: &item.Index, Tail: &tail})
	if err != nil {
		return "", err
	}
	return gather(func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	})
}

func output(ctx context.Context, conn *grpc.ClientConn, job string) (string, error) {
	stream, err := rotav1.NewJobsClient(conn).ReadOutput(ctx, &rotav1.ReadOutputRequest{Id: job, Offset: -mostLog})
	if err != nil {
		return "", err
	}
	return gather(func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	})
}

// gather is the end of what a stream brings.
func gather(recv func() ([]byte, error)) (string, error) {
	var all []byte
	for {
		data, err := recv()
		if errors.Is(err, io.EOF) {
			return string(all), nil
		}
		if err != nil {
			return "", err
		}
		if all = append(all, data...); len(all) > mostLog {
			all = all[len(all)-mostLog:]
		}
	}
}

func (a *asker) plan(ctx context.Context, conn *grpc.ClientConn, worker string) (string, error) {
	p, err := rotav1.NewClusterClient(conn).GetPlan(ctx, &rotav1.GetPlanRequest{Without: []string{worker}})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := a.cfg.Words.Plan(&b, p); err != nil {
		return "", err
	}
	// The sum, which stands at the end, is what the answer hangs on.
	moves, sum := cutLast(strings.TrimRight(b.String(), "\n"))
	return strings.TrimRight(sum+"\n\n"+moves, "\n"), nil
}

// cutLast divides a text before its last line.
func cutLast(s string) (before, last string) {
	i := strings.LastIndexByte(s, '\n')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

func change(ctx context.Context, conn *grpc.ClientConn, e Do) (*rotav1.Worker, error) {
	c, req := rotav1.NewWorkersClient(conn), &rotav1.WorkerRequest{Name: e.Worker}
	switch e.Verb {
	case "drain":
		return c.DrainWorker(ctx, req)
	case "cordon":
		return c.CordonWorker(ctx, req)
	case "undrain":
		return c.UndrainWorker(ctx, req)
	}
	return nil, fmt.Errorf("no verb %q", e.Verb)
}
