package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/process/words"
	"github.com/rota-project/rota/internal/text"
)

func jobsOf(conn *grpc.ClientConn) rotav1.JobsClient { return rotav1.NewJobsClient(conn) }

func (a *app) jobCommand() *cobra.Command {
	return group("job", "commands that run once, on a worker that fits",
		a.jobRun(), a.jobList(), a.jobGet(), a.jobLogs(), a.jobStop(), a.jobRetry(), a.jobDelete(), a.jobScheduleCommand())
}

// jobFlags are what job run asks for.
type jobFlags struct {
	def                  rotav1.JobDefinition
	env, resources       []string
	stdin                string
	timeout, grace, keep time.Duration
	backoff, maxBackoff  time.Duration
	wait                 bool
	id                   string
}

func (a *app) jobRun() *cobra.Command {
	var f jobFlags
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "run a command on a worker that fits",
		Long: "Run a command on a worker that fits. The worker runs it only if its own configuration lists it (--job).\n" +
			"With --wait, print its output as it is written, and exit with its exit status; for a signal that is 128 plus its number.\n" +
			"If the scheduler goes away, the wait continues with the next address of --server. Ctrl-C ends the wait (status 130), not the job.\n" +
			"Without --wait, print the job's id and exit; the job runs on.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("the command is missing: rota job run --wait -- seq 5")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(a, args); err != nil {
				return err
			}
			var j *rotav1.Job
			err := a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) (err error) {
				j, err = jobsOf(conn).RunJob(ctx, &rotav1.RunJobRequest{Job: &f.def, Id: f.id})
				return err
			})
			if err != nil {
				return err
			}
			if !f.wait {
				return a.print(j, func(w io.Writer) error { return printID(w, j) })
			}
			return a.waitFor(cmd.Context(), j)
		},
	}
	f.flags(a, c)
	c.Flags().StringVar(&f.id, "id", "", "UUID of the job; a second run with the same UUID has no effect")
	c.Flags().BoolVar(&f.wait, "wait", false, "wait for the job and print its output")
	c.ValidArgsFunction = a.completeCommands
	return c
}

// flags adds those that say what a job is.
func (f *jobFlags) flags(a *app, c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.def.Worker, "worker", "", "worker to run on")
	fs.StringArrayVar(&f.def.Require, "label", nil, "label rule that the worker must match: zone=a, disk in (ssd,nvme), !spot; repeatable")
	fs.StringArrayVar(&f.env, "env", nil, "environment variable NAME=VALUE; NAME alone takes the value from this environment; repeatable")
	fs.StringArrayVar(&f.resources, "resource", nil, "resource to reserve on the worker while the job runs, NAME=N; repeatable")
	fs.StringVar(&f.def.Dir, "dir", "", "working directory on the worker")
	fs.StringVar(&f.stdin, "stdin", "", "file to use as standard input; - for stdin")
	fs.DurationVar(&f.timeout, "timeout", 0, "time limit of the job; 0 for none")
	fs.DurationVar(&f.grace, "grace", 0, "time between SIGTERM and SIGKILL; 0 for 10s")
	fs.Int64Var(&f.def.Retries, "retries", 0, "number of retries after a failure")
	fs.DurationVar(&f.backoff, "backoff", 0, "wait before the first retry, doubled each time; 0 for 1s")
	fs.DurationVar(&f.maxBackoff, "max-backoff", 0, "longest wait between retries; 0 for 5m")
	fs.BoolVar(&f.def.Rerun, "rerun", false, "run the job again elsewhere if its worker is lost")
	fs.DurationVar(&f.keep, "keep", 0, "time to keep the job and its output after its end; 0 for a day")
	_ = c.RegisterFlagCompletionFunc("worker", a.completeWorkers)
}

func (f *jobFlags) complete(a *app, args []string) error {
	f.def.Argv = args
	f.def.TimeoutMs, f.def.GraceMs, f.def.KeepMs = f.timeout.Milliseconds(), f.grace.Milliseconds(), f.keep.Milliseconds()
	f.def.BackoffMs, f.def.MaxBackoffMs = f.backoff.Milliseconds(), f.maxBackoff.Milliseconds()
	f.def.Env = map[string]string{}
	for _, e := range f.env {
		name, value, ok := strings.Cut(e, "=")
		if name == "" {
			return usagef("--env: %q: want NAME=VALUE", e)
		}
		if !ok {
			if value, ok = a.env.Lookup(name); !ok {
				return usagef("--env: %s is not set here", name)
			}
		}
		f.def.Env[name] = value
	}
	f.def.Resources = map[string]float64{}
	for _, r := range f.resources {
		name, amount, _ := strings.Cut(r, "=")
		n, err := strconv.ParseFloat(amount, 64)
		if err != nil || name == "" {
			return usagef("--resource: %q: want NAME=N", r)
		}
		f.def.Resources[name] = n
	}
	if f.stdin == "" {
		return nil
	}
	in := a.env.Stdin
	if f.stdin != "-" {
		file, err := os.Open(f.stdin)
		if err != nil {
			return fmt.Errorf("--stdin: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, job.MaxStdin+1))
	if err != nil {
		return fmt.Errorf("--stdin: %w", err)
	}
	if len(data) > job.MaxStdin {
		return fmt.Errorf("--stdin: more than %d bytes", job.MaxStdin)
	}
	f.def.StdinBase64 = data
	return nil
}

func printID(w io.Writer, j *rotav1.Job) error {
	_, err := fmt.Fprintln(w, j.GetId())
	return err
}

func (a *app) jobList() *cobra.Command {
	req := &rotav1.ListJobsRequest{}
	var limit int64
	c := &cobra.Command{
		Use:   "list",
		Short: "list jobs, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usagef("--limit: %d: want at least 1", limit)
			}
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				var jobs []*rotav1.Job
				for {
					req.PageSize = min(1000, limit-int64(len(jobs)))
					resp, err := jobsOf(conn).ListJobs(ctx, req)
					if err != nil {
						return err
					}
					jobs = append(jobs, resp.GetJobs()...)
					if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" || int64(len(jobs)) >= limit {
						break
					}
				}
				return printList(a, jobs, func(w io.Writer) error {
					return tableOf(jobColumns, addJob, jobs).Write(w, a.paint())
				})
			})
		},
	}
	c.Flags().StringVar(&req.State, "state", "", "list only jobs in this state")
	c.Flags().StringVar(&req.Worker, "worker", "", "list only jobs on this worker")
	c.Flags().Int64Var(&limit, "limit", 100, "maximum number of jobs to list")
	_ = c.RegisterFlagCompletionFunc("worker", a.completeWorkers)
	return c
}

var jobColumns = []string{"JOB", "STATE", "WORKER", ">EXIT", ">ATTEMPTS", "AGE", "COMMAND"}

func addJob(t *terminal.Table, j *rotav1.Job) {
	t.Add(j.GetId(), j.GetState(), dash(j.GetWorker()), exitOf(j), fmt.Sprint(j.GetAttempts()), age(j.GetCreated().AsTime()), commandOf(j.GetArgv()))
}

// exitOf is the exit status of a job, or the signal that ended it; a dash if it is not over
// or was never started.
func exitOf(j *rotav1.Job) string {
	switch {
	case j.GetSignal() != "":
		return j.GetSignal()
	case j.ExitCode == nil || j.GetExitCode() < 0:
		return "-"
	}
	return fmt.Sprint(j.GetExitCode())
}

// commandOf shows a command in one line; what has spaces is quoted.
func commandOf(argv []string) string {
	words := make([]string, len(argv))
	for n, w := range argv {
		if words[n] = terminal.Printable(w); w == "" || strings.ContainsAny(w, " \t\n\"'") {
			words[n] = strconv.Quote(w)
		}
	}
	text := strings.Join(words, " ")
	if r := []rune(text); len(r) > 60 {
		return string(r[:57]) + "..."
	}
	return text
}

func (a *app) jobGet() *cobra.Command {
	return get(a, "get JOB", "show a job: its command, its worker and its result", a.completeJobs, a.jobDetail, func(ctx context.Context, conn *grpc.ClientConn, name string) (*rotav1.JobDetail, error) {
		return jobsOf(conn).GetJob(ctx, &rotav1.GetJobRequest{Id: name})
	})
}

func (a *app) jobDetail(w io.Writer, d *rotav1.JobDetail) error {
	j := d.GetJob()
	t := terminal.NewTable("FIELD", "VALUE")
	for _, row := range [][2]string{
		{"id", j.GetId()},
		{"command", commandOf(j.GetArgv())},
		{"state", j.GetState()},
		{"reason", j.GetReason()},
		{"schedule", j.GetSchedule()},
		{"worker", j.GetWorker()},
		{"exit", exitOf(j)},
		{"error", j.GetError()},
		{"created", age(j.GetCreated().AsTime())},
	} {
		if row[1] != "" {
			t.Add(row[0], row[1])
		}
	}
	for _, row := range definitionRows(d.GetDefinition()) {
		t.Add(row[0], row[1])
	}
	if err := t.Write(w, nil); err != nil {
		return err
	}
	var err error
	if j.GetState() == string(job.Queued) {
		err = whyTable(w, d)
	}
	if err != nil || len(d.GetAttempts()) == 0 {
		return err
	}
	_, _ = fmt.Fprintln(w)
	t = terminal.NewTable(">ATTEMPT", "WORKER", "STATE", ">GENERATION", "PLACED", "EXIT", "ERROR")
	for _, at := range d.GetAttempts() {
		exit := exitOf(&rotav1.Job{ExitCode: at.ExitCode, Signal: at.GetSignal()})
		t.Add(fmt.Sprint(at.GetNumber()), at.GetWorker(), at.GetState(), fmt.Sprint(at.GetGeneration()), age(at.GetPlaced().AsTime()), exit, dash(at.GetError()))
	}
	return t.Write(w, a.paint())
}

// definitionRows shows what was asked for, field by field, so that none can be
// forgotten; of the environment the names only, and of the input its length.
func definitionRows(d *rotav1.JobDefinition) (rows [][2]string) {
	for _, row := range fieldRows(d.ProtoReflect()) {
		name, value := row[0], row[1]
		switch name {
		case "argv": // the command
			continue
		case "env":
			value = strings.Join(slices.Sorted(maps.Keys(d.GetEnv())), ", ")
		case "stdin":
			value = text.Count(len(d.GetStdin()), "byte", "bytes")
		case "worker":
			name = "only_on"
		}
		if bare, ok := strings.CutSuffix(name, "_ms"); ok {
			if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
				name, value = bare, (time.Duration(ms) * time.Millisecond).String()
			}
		}
		rows = append(rows, [2]string{name, value})
	}
	return rows
}

func (a *app) jobStop() *cobra.Command {
	return a.jobVerb("stop", "stop a job", func(ctx context.Context, c rotav1.JobsClient, id string) (*rotav1.Job, error) {
		return c.StopJob(ctx, &rotav1.StopJobRequest{Id: id})
	})
}

func (a *app) jobRetry() *cobra.Command {
	c := a.jobVerb("retry", "run a finished job again", func(ctx context.Context, c rotav1.JobsClient, id string) (*rotav1.Job, error) {
		return c.RetryJob(ctx, &rotav1.RetryJobRequest{Id: id})
	})
	c.Long = "Run a finished job again, with all its retries.\n" +
		"A lost job may still be running on a worker that is only cut off, unless it was started with --rerun: make sure\n" +
		"that the worker is dead, or that two runs at once do no harm."
	return c
}

func (a *app) jobDelete() *cobra.Command {
	return a.jobVerb("delete", "delete a finished job and its output", func(ctx context.Context, c rotav1.JobsClient, id string) (*rotav1.Job, error) {
		_, err := c.DeleteJob(ctx, &rotav1.DeleteJobRequest{Id: id})
		return &rotav1.Job{Id: id, State: "deleted"}, err
	})
}

func (a *app) jobVerb(verb, short string, do func(context.Context, rotav1.JobsClient, string) (*rotav1.Job, error)) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " JOB",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				j, err := do(ctx, jobsOf(conn), args[0])
				if err != nil {
					return err
				}
				return a.print(j, func(w io.Writer) error {
					state := j.GetState()
					if j.GetStopAsked() && !job.State(state).Done() {
						state = "asked to stop"
					}
					_, err := fmt.Fprintf(w, "%s is %s\n", j.GetId(), state)
					return err
				})
			})
		},
		ValidArgsFunction: a.completeJobs,
	}
}

// completeCommands offers the next word of the commands that workers take.
func (a *app) completeCommands(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if a.globals(cmd.Root(), cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	err := a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := jobsOf(conn).ListCommands(ctx, &rotav1.ListCommandsRequest{})
		for _, c := range resp.GetCommands() {
			for _, word := range nextWords(c.GetArgv(), args) {
				if strings.HasPrefix(word, prefix) {
					found = append(found, word+"\t"+commandOf(c.GetArgv())+", "+text.Count(c.GetWorkers(), "worker", "workers"))
				}
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// nextWords are the words that may follow args in a command line of this template, as far as
// they can be listed.
func nextWords(template, args []string) []string {
	if len(args) >= len(template) {
		return nil
	}
	for n, t := range template[:len(args)+1] {
		w, err := words.Parse(t)
		if err != nil {
			return nil
		}
		offers := w.Offers()
		if n == len(args) {
			return offers
		}
		if len(offers) > 0 && !slices.Contains(offers, args[n]) {
			return nil
		}
	}
	return nil
}

// completeJobs offers the newest jobs.
func (a *app) completeJobs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	_ = a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := jobsOf(conn).ListJobs(ctx, &rotav1.ListJobsRequest{PageSize: 100})
		for _, j := range resp.GetJobs() {
			ids = append(ids, j.GetId()+"\t"+commandOf(j.GetArgv()))
		}
		return err
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}
