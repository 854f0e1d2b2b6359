package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/placement"
)

func (a *app) whyCommand() *cobra.Command {
	var workers int64
	cmd := &cobra.Command{
		Use:   "why TASK|JOB|WORKER",
		Short: "explain why a task or a job is where it is or waits, or what a worker may get",
		Long: "Explain why a task or a job is where it is, or why it waits: list the workers, and what keeps it from each.\n" +
			"If several rules exclude workers, each rule has a column. -o json has every rule's verdict on each\n" +
			"worker, with what the worker has and what the rule wants.\n" +
			"TASK#2 names one instance of a task. The tasks of programs are named PROGRAM/TASK. A job is named by its id.\n" +
			"Of a worker it says what state it is in, what follows from that, and where to look further.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := tasksOf(conn).Why(ctx, &rotav1.WhyRequest{Id: args[0], Workers: workers})
				if isNotFound(err) && uuid.Valid(args[0]) {
					d, err := jobsOf(conn).GetJob(ctx, &rotav1.GetJobRequest{Id: args[0], Workers: workers})
					if err != nil {
						return err
					}
					return a.print(d, func(w io.Writer) error { return whyJob(w, d) })
				}
				if id, n, ok := instanceOf(args[0]); isNotFound(err) && ok {
					resp, err = whyInstance(ctx, conn, &rotav1.WhyRequest{Id: id, Workers: workers}, n)
				}
				if isNotFound(err) {
					w, noWorker := workersOf(conn).GetWorker(ctx, &rotav1.GetWorkerRequest{Name: args[0]})
					if noWorker == nil {
						return a.print(w, func(out io.Writer) error { return whyWorker(out, w) })
					}
					if isNotFound(noWorker) && !strings.Contains(args[0], "#") {
						return status.Errorf(codes.NotFound, "no task, job or worker is called %q", args[0])
					}
				}
				if err != nil {
					return err
				}
				return a.print(resp, func(w io.Writer) error { return a.whyText(w, resp) })
			})
		},
		ValidArgsFunction: a.completeTasks,
	}
	cmd.Flags().Int64Var(&workers, "workers", 0, "maximum number of workers to show per job or instance, up to 2,000 (default 100)")
	return cmd
}

// whyWorker says what a worker gets and holds, and what more can be asked.
func whyWorker(out io.Writer, w *rotav1.Worker) error {
	name := terminal.Printable(w.GetName())
	lease := ""
	if ms := w.GetLeaseLeftMs(); ms > 0 {
		lease = ", lease for another " + (time.Duration(ms) * time.Millisecond).Round(100*time.Millisecond).String()
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, "%s is a worker: %s, %s%s\n", name, terminal.Printable(w.GetState()), text.Count(w.GetInstances(), "instance", "instances"), lease)
	if means := workerMeans[w.GetState()]; means != "" {
		fmt.Fprintf(b, "  %s\n", means)
	}
	if most := w.GetMaxTasks(); most > 0 && w.GetInstances() >= most {
		fmt.Fprintf(b, "  it gets no more tasks: it has as many instances as it may (%d)\n", most)
	}
	fmt.Fprintf(b, "  rota worker get %[1]s shows its capacity, labels and kinds\n  rota task list --worker %[1]s shows what it holds; rota why TASK, why that is there\n"+
		"  rota events --worker %[1]s shows what happened to it\n", name)
	_, err := io.WriteString(out, b.String())
	return err
}

// workerMeans says what follows from the state of a worker.
var workerMeans = map[string]string{
	"ready":    "it may get tasks and jobs whose rules and needs it meets; rota why TASK shows it among the workers of a task",
	"cordoned": "it keeps what it holds and gets nothing new until rota worker undrain",
	"draining": "what it holds is moved to others, and it gets nothing new until rota worker undrain",
	"away":     "it is disconnected, and its tasks wait for it until its restart grace is over",
	"lost":     "its lease has ended: what it held runs elsewhere or waits",
}

// whyInstance asks for the task, and leaves of the answer what is of one instance.
func whyInstance(ctx context.Context, conn *grpc.ClientConn, req *rotav1.WhyRequest, index int64) (*rotav1.WhyResponse, error) {
	resp, err := tasksOf(conn).Why(ctx, req)
	if err != nil {
		return nil, err
	}
	all := len(resp.GetInstances())
	resp.Instances = slices.DeleteFunc(resp.GetInstances(), func(w *rotav1.WhyInstance) bool { return w.GetInstance().GetIndex() != index })
	if len(resp.GetInstances()) == 0 {
		return nil, fmt.Errorf("index: %d: task %s has the instances 0 to %d", index, req.GetId(), all-1)
	}
	return resp, nil
}

func (a *app) whyText(out io.Writer, resp *rotav1.WhyResponse) error {
	w := &strings.Builder{}
	for n, why := range resp.GetInstances() {
		in := why.GetInstance()
		if n > 0 {
			fmt.Fprintln(w)
		}
		name := rota.Instance{Task: resp.GetId(), Index: int(in.GetIndex())}
		switch {
		case in.GetWorker() == "":
			fmt.Fprintf(w, "%s is on no worker (%s)\n", terminal.Printable(name.String()), in.GetState())
		case in.GetState() == "waiting": // its worker is away
			fmt.Fprintf(w, "%s is on no worker (waiting); it was on %s, which is away (generation %s)\n",
				terminal.Printable(name.String()), terminal.Printable(in.GetWorker()), generation(in))
		default:
			long := ""
			if in.GetSince() != nil {
				long = " for " + since(in)
			}
			fmt.Fprintf(w, "%s is on %s (%s%s, generation %s)\n", terminal.Printable(name.String()), terminal.Printable(in.GetWorker()), in.GetState(), long, generation(in))
		}
		for _, reason := range why.GetReasons() {
			fmt.Fprintf(w, "  %s\n", terminal.Printable(reason))
		}
		if in.GetError() != "" {
			fmt.Fprintf(w, "  its last error, after %s: %s\n", text.Count(int64(in.GetRestarts()), "restart", "restarts"), terminal.Printable(in.GetError()))
		}
		if err := whyMoves(w, why.GetMoves()); err != nil {
			return err
		}
		if err := errors.Join(whyTable(w, why), whyPools(w, why.GetPools())); err != nil {
			return err
		}
	}
	_, err := io.WriteString(out, w.String())
	return err
}

// whyMoves shows the last moves of an instance, the latest first.
func whyMoves(w io.Writer, moves []*rotav1.WhyMove) error {
	if len(moves) == 0 {
		return nil
	}
	t := terminal.NewTable("MOVED", "FROM", "TO", "BECAUSE")
	for _, m := range moves {
		t.Add(m.GetTime().AsTime().Local().Format(time.DateTime), dash(m.GetFrom()), dash(m.GetTo()), dash(m.GetReason()))
	}
	_, _ = fmt.Fprintln(w)
	return t.Write(w, nil)
}

// explained is an instance of a task, or a job.
type explained interface {
	GetWorkers() []*rotav1.WhyWorker
	GetAllWorkers() int64
	GetFittingWorkers() int64
}

// whyTable shows what the rules say of each worker. There are columns of rules where more
// than one stops something: the last column has only what stops a worker first.
func whyTable(w io.Writer, why explained) error {
	if len(why.GetWorkers()) == 0 {
		return nil
	}
	var columns []string
	for _, o := range why.GetWorkers() {
		for _, f := range o.GetFindings() {
			if f.GetOutcome() == string(placement.Stops) && !slices.Contains(columns, f.GetRule()) {
				columns = append(columns, f.GetRule())
			}
		}
	}
	if len(columns) < 2 {
		columns = nil
	}
	slices.SortFunc(columns, func(a, b string) int {
		return slices.Index(placement.Rules(), placement.Rule(a)) - slices.Index(placement.Rules(), placement.Rule(b))
	})
	head := []string{"WORKER", "FITS"}
	for _, rule := range columns {
		head = append(head, strings.ToUpper(rule))
	}
	t := terminal.NewTable(append(head, "WHY")...)
	for _, o := range why.GetWorkers() {
		line := []string{o.GetWorker(), fits(o)}
		for _, rule := range columns {
			line = append(line, verdict(o, rule))
		}
		t.Add(append(line, dash(o.GetReason()))...)
	}
	_, _ = fmt.Fprintln(w)
	err := t.Write(w, nil)
	if more := why.GetAllWorkers() - int64(len(why.GetWorkers())); more > 0 {
		_, _ = fmt.Fprintf(w, "and %s, ranked lower; %d of %s in all could take it (--workers N shows more)\n",
			text.Count(more, "other worker", "other workers"), why.GetFittingWorkers(), text.Count(why.GetAllWorkers(), "worker", "workers"))
	}
	return err
}

func fits(o *rotav1.WhyWorker) string {
	switch {
	case o.GetChosen():
		return "here"
	case o.GetFits():
		return "yes"
	}
	return "no"
}

// verdict is what a rule says of a worker in a word.
func verdict(o *rotav1.WhyWorker, rule string) string {
	word := "-"
	for _, f := range o.GetFindings() {
		if f.GetRule() == rule {
			if f.GetOutcome() == string(placement.Stops) {
				return "no"
			}
			word = "ok"
		}
	}
	return word
}

// whyPools shows which pools would help.
func whyPools(w io.Writer, pools []*rotav1.WhyPool) error {
	if len(pools) == 0 {
		return nil
	}
	t := terminal.NewTable("POOL", "HELPS", "WHY")
	for _, p := range pools {
		helps := "no"
		if p.GetHelps() {
			helps = "yes"
		}
		t.Add(p.GetPool(), helps, dash(p.GetReason()))
	}
	_, _ = fmt.Fprintln(w)
	return t.Write(w, nil)
}

// whyJob explains where a job is, or why it waits.
func whyJob(out io.Writer, d *rotav1.JobDetail) error {
	j, w := d.GetJob(), &strings.Builder{}
	if j.GetWorker() == "" || j.GetState() == string(job.Queued) {
		fmt.Fprintf(w, "job %s is on no worker (%s)\n", terminal.Printable(j.GetId()), j.GetState())
	} else {
		is, how := "is on", j.GetState()
		if job.State(how).Done() {
			if is = "ran on"; j.GetStarted() == nil {
				is = "was placed on"
			}
			switch exit := exitOf(j); {
			case j.GetSignal() != "":
				how += ", signal " + exit
			case exit != "-":
				how += ", exit status " + exit
			}
			how += ", " + text.Count(j.GetAttempts(), "attempt", "attempts")
		}
		fmt.Fprintf(w, "job %s %s %s (%s, generation %d)\n", terminal.Printable(j.GetId()), is, terminal.Printable(j.GetWorker()), how, j.GetGeneration())
	}
	for _, reason := range []string{j.GetReason(), j.GetError()} {
		if reason != "" {
			fmt.Fprintf(w, "  %s\n", terminal.Printable(reason))
		}
	}
	if j.GetStarted() != nil {
		fmt.Fprintf(w, "  rota job logs %s shows its output\n", terminal.Printable(j.GetId()))
	}
	if err := errors.Join(whyTable(w, d), whyPools(w, d.GetPools())); err != nil {
		return err
	}
	_, err := io.WriteString(out, w.String())
	return err
}
