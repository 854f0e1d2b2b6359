package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/taskfile"
)

// stdinName is what errors call the file "-".
const stdinName = "standard input"

// pageSize is how many tasks are asked for at once.
const pageSize = 5000

func (a *app) taskCommand() *cobra.Command {
	return group("task", "declare and show tasks", a.taskList(), a.taskGet(), a.taskLogs(), a.taskApply(), a.taskDelete(), a.taskRelease())
}

func (a *app) taskList() *cobra.Command {
	req := &rotav1.ListTasksRequest{PageSize: pageSize}
	var watch bool
	c := &cobra.Command{
		Use:   "list",
		Short: "list tasks and the workers of their instances",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchTasks(cmd.Context(), req)
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				tasks, err := listTasks(ctx, tasksOf(conn), req)
				if err != nil {
					return err
				}
				return printList(a, tasks, func(w io.Writer) error { return a.taskTable(w, tasks) })
			})
		},
	}
	fs := c.Flags()
	fs.StringVar(&req.Group, "group", "", "list only tasks of this group")
	fs.StringVar(&req.Worker, "worker", "", "list only tasks with an instance on this worker")
	fs.StringVar(&req.State, "state", "", "list only tasks with an instance in this state: waiting, held, granted, starting, running, failing, stopping, stuck")
	fs.StringVar(&req.IdPrefix, "prefix", "", "list only tasks whose id has this prefix")
	fs.BoolVarP(&watch, "watch", "w", false, "print each change until interrupted; survives the loss of a scheduler")
	return c
}

// listTasks asks for page after page.
func listTasks(ctx context.Context, client rotav1.TasksClient, req *rotav1.ListTasksRequest) ([]*rotav1.Task, error) {
	req = proto.CloneOf(req)
	var tasks []*rotav1.Task
	for {
		resp, err := client.ListTasks(ctx, req)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, resp.GetTasks()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return tasks, nil
		}
	}
}

var taskColumns = []string{"TASK", "STATE", "WORKER", "GROUP", ">WEIGHT", ">GENERATION", "SINCE"}

func (a *app) taskTable(w io.Writer, tasks []*rotav1.Task) error {
	return tableOf(taskColumns, addTask, tasks).Write(w, a.paint())
}

func addTask(t *terminal.Table, task *rotav1.Task) {
	if len(task.GetInstances()) == 0 {
		t.Add(task.GetId(), "waiting", "-", dash(task.GetGroup()), number(task.GetWeight()), "-", "-")
	}
	for _, in := range task.GetInstances() {
		id := rota.Instance{Task: task.GetId(), Index: int(in.GetIndex())}
		t.Add(id.String(), in.GetState(), dash(in.GetWorker()), dash(task.GetGroup()),
			number(task.GetWeight()), generation(in), since(in))
	}
}

func generation(in *rotav1.Instance) string {
	if in.GetGeneration() == 0 {
		return "-"
	}
	return fmt.Sprint(in.GetGeneration())
}

func since(in *rotav1.Instance) string {
	if in.GetSince() == nil {
		return "-"
	}
	return age(in.GetSince().AsTime())
}

func (a *app) taskGet() *cobra.Command {
	return get(a, "get TASK", "show a task: its definition, its workers and its state", a.completeTasks, a.taskDetail, func(ctx context.Context, conn *grpc.ClientConn, name string) (*rotav1.TaskDetail, error) {
		return tasksOf(conn).GetTask(ctx, &rotav1.GetTaskRequest{Id: name})
	})
}

func (a *app) taskDetail(w io.Writer, d *rotav1.TaskDetail) error {
	t := terminal.NewTable("FIELD", "VALUE")
	for _, row := range fieldRows(d.GetTask().ProtoReflect()) {
		t.Add(row[0], row[1])
	}
	t.Add("source", d.GetSource())
	if x := d.GetSuspect(); x != nil {
		t.Add("suspect", suspectText(x))
	}
	if err := t.Write(w, nil); err != nil {
		return err
	}
	in := terminal.NewTable("INSTANCE", "STATE", "WORKER", ">GENERATION", "SINCE", ">RESTARTS", "ERROR")
	for _, i := range d.GetInstances() {
		in.Add(fmt.Sprint(i.GetIndex()), i.GetState(), dash(i.GetWorker()), generation(i), since(i), fmt.Sprint(i.GetRestarts()), dash(i.GetError()))
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return in.Write(w, a.paint())
}

func (a *app) taskApply() *cobra.Command {
	var (
		files   []string
		opts    taskfile.Options
		format  string
		columns []string
		dryRun  bool
	)
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "declare or change the tasks of a file",
		Long: "Declare the tasks of files (YAML, JSON, JSON lines or CSV; - for stdin), and change those already declared.\n" +
			"If one task is invalid, nothing changes. A list too long for one call is checked as a whole and sent in parts:\n" +
			"if the cluster fails between two parts, run the command again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usagef("-f: want a file, or - for standard input")
			}
			opts.Format = taskfile.Format(format)
			var err error
			if opts.Columns, err = columnMap(columns); err != nil {
				return err
			}
			tasks, err := a.readTasks(files, opts)
			if err != nil {
				return err
			}
			return a.apply(cmd.Context(), tasks, dryRun)
		},
	}
	fs := c.Flags()
	fs.StringArrayVarP(&files, "file", "f", nil, "file of tasks; - for stdin; repeatable")
	fs.StringVar(&format, "format", "", "format of the files: yaml, json, jsonl or csv; if unset, detected from the file name or content")
	fs.StringArrayVar(&columns, "column", nil, "template that makes a task field from CSV columns, as in 'id={a}-{b}'; repeatable")
	fs.BoolVar(&dryRun, "dry-run", false, "check the tasks without declaring them")
	return c
}

func columnMap(pairs []string) (map[string]string, error) {
	var m map[string]string
	for _, p := range pairs {
		field, text, ok := strings.Cut(p, "=")
		if !ok || field == "" {
			return nil, usagef("--column: %q: want FIELD=TEXT", p)
		}
		if m == nil {
			m = map[string]string{}
		}
		m[field] = text
	}
	return m, nil
}

// readTasks reads all files, among which no id may come twice.
func (a *app) readTasks(files []string, opts taskfile.Options) ([]rota.Task, error) {
	var all []rota.Task
	from := map[string]string{}
	for _, name := range files {
		tasks, err := a.readFile(name, opts)
		if err != nil {
			return nil, err
		}
		if name == "-" {
			name = stdinName
		}
		for _, t := range tasks {
			if other, twice := from[t.ID]; twice {
				return nil, fmt.Errorf("%s: %w", name, &rota.FieldError{Field: "id", Value: t.ID, Want: "an id of its own; " + other + " has it too"})
			}
			from[t.ID] = name
		}
		all = append(all, tasks...)
	}
	return all, nil
}

func (a *app) readFile(name string, opts taskfile.Options) ([]rota.Task, error) {
	if name == "-" {
		return taskfile.Read(a.env.Stdin, stdinName, opts)
	}
	return taskfile.ReadFile(name, opts)
}

func (a *app) taskDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete TASK...",
		Short: "stop tasks and delete them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := tasksOf(conn).DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: ids})
				if err != nil {
					return err
				}
				err = a.print(resp, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%d deleted\n", resp.GetDeleted())
					return err
				})
				if err == nil && resp.GetDeleted() < int64(len(ids)) {
					return errors.New("some of the tasks did not exist")
				}
				return err
			})
		},
		ValidArgsFunction: a.completeTasks,
	}
}

func (a *app) taskRelease() *cobra.Command {
	return &cobra.Command{
		Use:   "release TASK",
		Short: "let a task run that is held on suspicion of killing its workers",
		Long: "Clear the suspicion that a task kills its workers: it may run again, and only later deaths count. rota status\n" +
			"and rota why show such tasks. A change to what the task runs releases it, too.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				detail, err := tasksOf(conn).ReleaseTask(ctx, &rotav1.ReleaseTaskRequest{Id: args[0]})
				if err != nil {
					return err
				}
				return a.print(detail, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "%s may run again\n", terminal.Printable(args[0]))
					return err
				})
			})
		},
		ValidArgsFunction: a.completeTasks,
	}
}

// completeTasks offers the ids of tasks to the shell.
func (a *app) completeTasks(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if a.globals(cmd.Root(), cmd) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var ids []string
	err := a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := tasksOf(conn).ListTasks(ctx, &rotav1.ListTasksRequest{IdPrefix: prefix, PageSize: 200})
		for _, t := range resp.GetTasks() {
			ids = append(ids, t.GetId())
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
