package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/text"
)

func (a *app) taskLogs() *cobra.Command {
	req := &rotav1.ReadTaskLogsRequest{}
	var tail int64
	c := &cobra.Command{
		Use:   "logs TASK[/INSTANCE]",
		Short: "print what a task wrote",
		Long: "Print the output of a task instance in its current run: stdout and the log of a Go function to stdout, stderr to stderr.\n" +
			"INSTANCE counts from 0 and can be left out if there is only one. While the worker process runs, it keeps the last 64 KiB of\n" +
			"the current run and of the previous one; stderr says how many bytes are lost.\n" +
			"With --follow, also print new output, across restarts and moves. If the task is on no worker, or a worker or a scheduler\n" +
			"is away, the command says so, waits, and continues where it stopped. Ctrl-C ends the command, not the task.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case tail < -1:
				return usagef("--tail: %d: want zero or more lines, or -1 for all", tail)
			case req.GetPrevious() && req.GetFollow():
				return usagef("--previous, --follow: want only one of them: a run that has ended writes nothing more")
			case tail >= 0:
				req.Tail = &tail
			}
			l := &taskLog{app: a, req: req}
			if !req.GetFollow() {
				return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
					if err := l.find(ctx, conn, args[0]); err != nil {
						return err
					}
					return l.copy(ctx, conn)
				})
			}
			return a.follow(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				if err := l.find(ctx, conn, args[0]); err != nil {
					return err
				}
				return l.follow(ctx, conn)
			})
		},
		ValidArgsFunction: a.completeTasks,
	}
	c.Flags().BoolVarP(&req.Follow, "follow", "f", false, "follow what the task writes until interrupted")
	c.Flags().BoolVarP(&req.Previous, "previous", "p", false, "print the run before the current one")
	c.Flags().Int64Var(&tail, "tail", -1, "number of latest lines to start with; -1 for all that are kept")
	c.Flags().StringVar(&req.Worker, "worker", "", "worker to ask, for output from before a move")
	_ = c.RegisterFlagCompletionFunc("worker", a.completeWorkers)
	return c
}

// taskLog is a log that is printed, and how far it was read.
type taskLog struct {
	app  *app
	req  *rotav1.ReadTaskLogsRequest
	run  uint64    // of the last piece
	said time.Time // when a wait was last told of
}

// find finds out what an argument names: a task's id may end like an instance.
func (l *taskLog) find(ctx context.Context, conn *grpc.ClientConn, arg string) error {
	if l.req.GetId() != "" {
		return nil
	}
	_, err := tasksOf(conn).GetTask(ctx, &rotav1.GetTaskRequest{Id: arg})
	if err != nil && !isNotFound(err) {
		return err
	}
	l.req.Id = arg
	if id, n, ok := instanceOf(arg); err != nil && ok {
		l.req.Id, l.req.Index = id, &n
	}
	return nil
}

// instanceOf takes the name of an instance apart, as lists write it or as paths are written.
// A task's id may end like it: ask for that first.
func instanceOf(name string) (task string, index int64, ok bool) {
	at := strings.LastIndexAny(name, "#/")
	if at <= 0 {
		return "", 0, false
	}
	index, err := strconv.ParseInt(name[at+1:], 10, 32)
	return name[:at], index, err == nil && index >= 0
}

// copy prints what comes on one stream.
func (l *taskLog) copy(ctx context.Context, conn *grpc.ClientConn) error {
	a := l.app
	stream, err := tasksOf(conn).ReadTaskLogs(ctx, l.req)
	if err != nil {
		return err
	}
	return each(stream, func(m *rotav1.TaskLog) error {
		if l.req.GetLog() != "" && (m.GetLog() != l.req.GetLog() || m.GetRun() != l.run) {
			a.say("started again on worker %s, generation %d", m.GetWorker(), m.GetGeneration())
		}
		l.req.Tail = nil // it was for where to begin
		l.run, l.req.Log, l.req.Offset, l.said = m.GetRun(), m.GetLog(), m.GetOffset()+int64(len(m.GetData())), time.Time{}
		if m.GetMissed() > 0 {
			a.say("%s left out", text.Count(m.GetMissed(), "byte", "bytes"))
		}
		return a.pass(m.GetStream(), m.GetData())
	})
}

// follow is copy again and again: when the task has moved, its worker is away, or no
// worker has it. It ends with the task, and with the scheduler.
func (l *taskLog) follow(ctx context.Context, conn *grpc.ClientConn) error {
	for {
		err := l.copy(ctx, conn)
		switch code := status.Code(err); {
		case ctx.Err() != nil:
			return ctx.Err()
		case code == codes.OK: // it has left the worker, or that one leaves
		case code == codes.NotFound && l.req.GetLog() != "":
			l.app.say("%s", oneLine(err))
			return nil
		case code == codes.InvalidArgument && l.req.GetLog() != "" && convert.Field(err) == "offset":
			l.req.Log, l.req.Offset = "", 0 // the log is another one
		case code == codes.FailedPrecondition, code == codes.Unavailable && conn.GetState() == connectivity.Ready:
			l.tell(err)
		default:
			return err
		}
		if err := backoff.Sleep(ctx, awayPause); err != nil {
			return err
		}
	}
}

// tell says, now and then, why nothing comes.
func (l *taskLog) tell(err error) {
	if l.said.IsZero() {
		l.said = time.Now().Add(awayPause - sayEvery) // what is over in a moment is no news
	}
	if time.Since(l.said) > sayEvery {
		l.said = time.Now()
		l.app.say("%s; waiting (Ctrl-C ends the wait)", oneLine(err))
	}
}
