package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/text"
)

// workerCommand is the noun, and by itself the role.
func (a *app) workerCommand() *cobra.Command {
	return a.workerRole(group("worker", "show and control workers", a.workerList(), a.workerGet(),
		a.workerVerb("cordon", "assign nothing new to a worker", rotav1.WorkersClient.CordonWorker, isNow),
		a.workerVerb("drain", "assign nothing new to a worker, and move its tasks away", rotav1.WorkersClient.DrainWorker, isNow),
		a.workerVerb("forget", "take a worker that is lost or away off the lists", rotav1.WorkersClient.ForgetWorker, wasForgotten),
		a.workerStoppable(),
		a.workerVerb("undrain", "end a cordon or a drain", rotav1.WorkersClient.UndrainWorker, isNow),
	))
}

func (a *app) workerList() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "list",
		Short: "list workers and their load",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchWorkers(cmd.Context())
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := workersOf(conn).ListWorkers(ctx, &rotav1.ListWorkersRequest{})
				if err != nil {
					return err
				}
				workers := resp.GetWorkers()
				return printList(a, workers, func(w io.Writer) error {
					return tableOf(workerColumns, addWorker, workers).Write(w, a.paint())
				})
			})
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "print each change until interrupted; survives the loss of a scheduler")
	return c
}

var workerColumns = []string{"WORKER", "STATE", ">PID", ">INSTANCES", ">WEIGHT", ">LEASE", "ZONE", "LABELS"}

func addWorker(t *terminal.Table, w *rotav1.Worker) {
	t.Add(w.GetName(), w.GetState(), fmt.Sprint(w.GetPid()), fmt.Sprint(w.GetInstances()), rounded(w.GetWeight()),
		fmt.Sprintf("%.1fs", float64(w.GetLeaseLeftMs())/1000), dash(w.GetZone()), dash(labels(w.GetLabels())))
}

func labels(m map[string]string) string {
	words := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, k+"="+m[k])
	}
	return strings.Join(words, ",")
}

func (a *app) workerGet() *cobra.Command {
	return get(a, "get WORKER", "show a worker", a.completeWorkers, workerDetail, func(ctx context.Context, conn *grpc.ClientConn, name string) (*rotav1.Worker, error) {
		return workersOf(conn).GetWorker(ctx, &rotav1.GetWorkerRequest{Name: name})
	})
}

func workerDetail(out io.Writer, w *rotav1.Worker) error {
	capacity := make([]string, 0, len(w.GetCapacity()))
	for _, k := range slices.Sorted(maps.Keys(w.GetCapacity())) {
		capacity = append(capacity, k+"="+number(w.GetCapacity()[k]))
	}
	t := terminal.NewTable("FIELD", "VALUE")
	for _, row := range [][2]string{
		{"name", w.GetName()},
		{"state", w.GetState()},
		{"incarnation", w.GetIncarnation()},
		{"pid", fmt.Sprint(w.GetPid())},
		{"host", w.GetHost()},
		{"zone", w.GetZone()},
		{"labels", labels(w.GetLabels())},
		{"kinds", strings.Join(w.GetKinds(), ", ")},
		{"capacity", strings.Join(capacity, ", ")},
		{"max_tasks", fmt.Sprint(w.GetMaxTasks())},
		{"strength", number(w.GetStrength())},
		{"instances", fmt.Sprint(w.GetInstances())},
		{"weight", rounded(w.GetWeight())},
		{"lease_left_ms", fmt.Sprint(w.GetLeaseLeftMs())},
		{"scheduler", w.GetScheduler()},
		{"version", w.GetVersion()},
	} {
		if row[1] != "" {
			t.Add(row[0], row[1])
		}
	}
	return t.Write(out, nil)
}

type workerCall func(rotav1.WorkersClient, context.Context, *rotav1.WorkerRequest, ...grpc.CallOption) (*rotav1.Worker, error)

// isNow and wasForgotten say what a verb has done.
func isNow(w *rotav1.Worker) string {
	return fmt.Sprintf("is %s with %s", w.GetState(), text.Count(w.GetInstances(), "instance", "instances"))
}

func wasForgotten(w *rotav1.Worker) string {
	return fmt.Sprintf("is forgotten; it was %s", w.GetState())
}

func (a *app) workerVerb(verb, short string, do workerCall, done func(*rotav1.Worker) string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " WORKER",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				w, err := do(workersOf(conn), ctx, &rotav1.WorkerRequest{Name: args[0]})
				if err != nil {
					return err
				}
				return a.print(w, func(out io.Writer) error {
					_, err := fmt.Fprintln(out, terminal.Printable(w.GetName()), done(w))
					return err
				})
			})
		},
		ValidArgsFunction: a.completeWorkers,
	}
}

// completeWorkers offers the names of workers to the shell.
func (a *app) completeWorkers(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.globals(cmd.Root(), cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	err := a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := workersOf(conn).ListWorkers(ctx, &rotav1.ListWorkersRequest{})
		for _, w := range resp.GetWorkers() {
			if strings.HasPrefix(w.GetName(), prefix) {
				found = append(found, w.GetName())
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// workerStoppable answers for scripts: status 0 if the workers may be stopped.
func (a *app) workerStoppable() *cobra.Command {
	return &cobra.Command{
		Use:   "stoppable WORKER...",
		Short: "check whether workers can be stopped now",
		Long: "Check whether all these workers can be stopped now: whether their work fits elsewhere, and whether the\n" +
			"budgets allow it. Exit status 0 if so, 1 if not. Node drainers ask GET /v1/workers:stoppable?names=NAME.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				v, err := workersOf(conn).GetStoppable(ctx, &rotav1.GetStoppableRequest{Names: args})
				if err != nil {
					return err
				}
				err = a.print(v, func(out io.Writer) error {
					if !v.GetStoppable() {
						return nil
					}
					_, err := fmt.Fprintf(out, "yes: %s would move\n", text.Count(v.GetMoves(), "instance", "instances"))
					return err
				})
				if err == nil && !v.GetStoppable() {
					err = fmt.Errorf("not now: %s", strings.Join(v.GetReasons(), "; "))
				}
				return err
			})
		},
		ValidArgsFunction: a.completeWorkers,
	}
}
