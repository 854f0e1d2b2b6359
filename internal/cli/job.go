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
	"github.com/rota-project/rota/job"
)

func jobsOf(conn *grpc.ClientConn) rotav1.JobsClient { return rotav1.NewJobsClient(conn) }

func (a *app) jobCommand() *cobra.Command {
	return group("job", "commands that run once, on a worker that fits",
		a.jobRun(), a.jobList(), a.jobGet(), a.jobLogs(), a.jobStop(), a.jobRetry(), a.jobDelete())
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
		Short: "run a command on the worker that fits",
		Long: "Run a command on the worker that fits. The worker runs it only if its own configuration lists it (--job).\n" +
			"With --wait its output comes as it is written, and its exit status is this one's; a signal counts as 128 and its number.\n" +
			"Without, its id is printed, and it goes on by itself.",
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
	fs := c.Flags()
	fs.StringVar(&f.def.Worker, "worker", "", "only on this worker")
	fs.StringArrayVar(&f.def.Require, "label", nil, "only where this holds: zone=a, disk in (ssd,nvme), !spot; may be repeated")
	fs.StringArrayVar(&f.env, "env", nil, "set a variable, NAME=VALUE; NAME alone passes this one's on; may be repeated")
	fs.StringArrayVar(&f.resources, "resource", nil, "take so much of the worker's capacity while it runs, NAME=N; may be repeated")
	fs.StringVar(&f.def.Dir, "dir", "", "the directory to work in, on the worker")
	fs.StringVar(&f.stdin, "stdin", "", "a file to be its standard input; - for this one's")
	fs.DurationVar(&f.timeout, "timeout", 0, "end it after this time; 0 for never")
	fs.DurationVar(&f.grace, "grace", 0, "from the first signal to the last; 0 for 10s")
	fs.Int64Var(&f.def.Retries, "retries", 0, "how often to try again when it fails")
	fs.DurationVar(&f.backoff, "backoff", 0, "wait so long before, and twice as long each time; 0 for 1s")
	fs.DurationVar(&f.maxBackoff, "max-backoff", 0, "but no longer than this; 0 for 5m")
	fs.BoolVar(&f.def.Rerun, "rerun", false, "run it again elsewhere if its worker is lost")
	fs.DurationVar(&f.keep, "keep", 0, "keep it and its output so long after its end; 0 for a day")
	fs.StringVar(&f.id, "id", "", "a UUID for it: asked for twice it runs once")
	fs.BoolVar(&f.wait, "wait", false, "follow its output to its end")
	_ = c.RegisterFlagCompletionFunc("worker", a.completeWorkers)
	return c
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

// exitError ends the command with the status of the job, or the worker, that it
// waited for.
type exitError struct{ status int }

func (e *exitError) Error() string { return "exit status " + strconv.Itoa(e.status) }

// signals are the numbers of the signals that jobs end by, as Linux has them.
var signals = map[string]int{
	"hangup": 1, "interrupt": 2, "quit": 3, "illegal instruction": 4, "trace/breakpoint trap": 5, "aborted": 6, "bus error": 7,
	"floating point exception": 8, "killed": 9, "user defined signal 1": 10, "segmentation fault": 11, "user defined signal 2": 12,
	"broken pipe": 13, "alarm clock": 14, "terminated": 15, "CPU time limit exceeded": 24, "file size limit exceeded": 25,
}

// waitFor follows a job's output, over all of its attempts, and ends as it does.
func (a *app) waitFor(ctx context.Context, j *rotav1.Job) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	watch, err := jobsOf(conn).WatchJobs(ctx, &rotav1.WatchJobsRequest{Id: j.GetId()})
	if err != nil {
		return a.leaveJob(ctx, j, err)
	}
	read := uint64(0)
	for {
		if g := j.GetGeneration(); g > read {
			if err := a.followOutput(ctx, jobsOf(conn), j.GetId(), g, 0, true); err != nil {
				return a.leaveJob(ctx, j, err)
			}
			read = g
		}
		if job.State(j.GetState()).Done() {
			return a.endedAs(j)
		}
		ev, err := watch.Recv()
		switch {
		case err != nil:
			return a.leaveJob(ctx, j, err)
		case ev.GetType() == "deleted":
			return errors.New("the job was deleted")
		case ev.GetType() == "set":
			j = ev.GetJob()
		}
	}
}

// interrupted is the status of a wait that the user has ended, as a shell has it
// for SIGINT: nothing is known of how the job ends.
const interrupted = 128 + 2

// leaveJob ends a wait for a job that has not ended.
func (a *app) leaveJob(ctx context.Context, j *rotav1.Job, err error) error {
	if ctx.Err() == nil {
		return err
	}
	_, _ = fmt.Fprintf(a.env.Stderr, "rota: the job goes on: rota job logs -f %s\n", j.GetId())
	return &exitError{interrupted}
}

func (a *app) endedAs(j *rotav1.Job) error {
	switch job.State(j.GetState()) {
	case job.Succeeded:
		return nil
	case job.Failed:
		if j.GetError() != "" {
			return fmt.Errorf("the job failed: %s", j.GetError())
		}
		if n := signals[j.GetSignal()]; n != 0 {
			return &exitError{128 + n}
		}
		return &exitError{max(1, int(j.GetExitCode()))}
	}
	return fmt.Errorf("the job is %s: %s", j.GetState(), dash(j.GetError()+j.GetSignal()))
}

// followOutput copies an attempt's output to where it belongs. It goes on where
// it was when the worker was away for a moment.
func (a *app) followOutput(ctx context.Context, client rotav1.JobsClient, id string, generation uint64, offset int64, follow bool) error {
	for failures := 0; ; failures++ {
		stream, err := client.ReadOutput(ctx, &rotav1.ReadOutputRequest{Id: id, Generation: generation, Offset: offset, Follow: follow})
		for err == nil {
			var m *rotav1.JobOutput
			if m, err = stream.Recv(); err != nil {
				break
			}
			failures = 0
			offset = m.GetOffset() + int64(len(m.GetData()))
			if m.GetMissed() > 0 {
				_, _ = fmt.Fprintf(a.env.Stderr, "rota: %d bytes of output are gone\n", m.GetMissed())
			}
			to := a.env.Stdout
			if m.GetStream() == "stderr" {
				to = a.env.Stderr
			}
			if _, err := to.Write(m.GetData()); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case isNotFound(err) && generation != 0:
			return nil // it never began: why is the job's own error
		case !isUnavailable(err) || failures >= 10:
			return err
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
		}
	}
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
					t := newTable("JOB", "STATE", "WORKER", ">EXIT", ">ATTEMPTS", "AGE", "COMMAND")
					for _, j := range jobs {
						t.add(j.GetId(), j.GetState(), dash(j.GetWorker()), exitOf(j), fmt.Sprint(j.GetAttempts()), age(j.GetCreated().AsTime()), commandOf(j.GetArgv()))
					}
					return t.write(w, a.paint())
				})
			})
		},
	}
	c.Flags().StringVar(&req.State, "state", "", "only jobs in this state")
	c.Flags().StringVar(&req.Worker, "worker", "", "only jobs on this worker")
	c.Flags().Int64Var(&limit, "limit", 100, "at most so many")
	_ = c.RegisterFlagCompletionFunc("worker", a.completeWorkers)
	return c
}

func exitOf(j *rotav1.Job) string {
	switch {
	case j.ExitCode == nil:
		return "-"
	case j.GetSignal() != "":
		return j.GetSignal()
	}
	return fmt.Sprint(j.GetExitCode())
}

// commandOf shows a command in one line; what has spaces is quoted.
func commandOf(argv []string) string {
	words := make([]string, len(argv))
	for n, w := range argv {
		if words[n] = printable(w); w == "" || strings.ContainsAny(w, " \t\n\"'") {
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
	return &cobra.Command{
		Use:   "get JOB",
		Short: "show one job: what it is, where it runs, how it ended",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.call(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				d, err := jobsOf(conn).GetJob(ctx, &rotav1.GetJobRequest{Id: args[0]})
				if err != nil {
					return err
				}
				return a.print(d, func(w io.Writer) error { return a.jobDetail(w, d) })
			})
		},
		ValidArgsFunction: a.completeJobs,
	}
}

func (a *app) jobDetail(w io.Writer, d *rotav1.JobDetail) error {
	j, def := d.GetJob(), d.GetDefinition()
	ms := func(v int64) string {
		if v == 0 {
			return ""
		}
		return (time.Duration(v) * time.Millisecond).String()
	}
	t := newTable("FIELD", "VALUE")
	for _, row := range [][2]string{
		{"id", j.GetId()},
		{"command", commandOf(j.GetArgv())},
		{"state", j.GetState()},
		{"reason", j.GetReason()},
		{"worker", j.GetWorker()},
		{"exit", exitOf(j)},
		{"error", j.GetError()},
		{"created", age(j.GetCreated().AsTime())},
		{"dir", def.GetDir()},
		{"only on", def.GetWorker()},
		{"labels", strings.Join(def.GetRequire(), ", ")},
		{"environment", strings.Join(slices.Sorted(maps.Keys(def.GetEnv())), ", ")},
		{"timeout", ms(def.GetTimeoutMs())},
		{"retries", fmt.Sprint(def.GetRetries())},
		{"kept", ms(def.GetKeepMs())},
	} {
		if row[1] != "" {
			t.add(row[0], row[1])
		}
	}
	if err := t.write(w, nil); err != nil || len(d.GetAttempts()) == 0 {
		return err
	}
	_, _ = fmt.Fprintln(w)
	t = newTable(">ATTEMPT", "WORKER", "STATE", ">GENERATION", "PLACED", "EXIT", "ERROR")
	for _, at := range d.GetAttempts() {
		exit := exitOf(&rotav1.Job{ExitCode: at.ExitCode, Signal: at.GetSignal()})
		t.add(fmt.Sprint(at.GetNumber()), at.GetWorker(), at.GetState(), fmt.Sprint(at.GetGeneration()), age(at.GetPlaced().AsTime()), exit, dash(at.GetError()))
	}
	return t.write(w, a.paint())
}

func (a *app) jobLogs() *cobra.Command {
	var follow bool
	var offset int64
	var generation uint64
	c := &cobra.Command{
		Use:   "logs JOB",
		Short: "print what a job wrote, stdout and stderr each to its own",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			conn, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			return a.followOutput(cmd.Context(), jobsOf(conn), args[0], generation, offset, follow)
		},
		ValidArgsFunction: a.completeJobs,
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until it ends")
	c.Flags().Int64Var(&offset, "offset", 0, "begin after so many bytes; below zero: so many before the end")
	c.Flags().Uint64Var(&generation, "generation", 0, "of this attempt; 0 for the last")
	return c
}

func (a *app) jobStop() *cobra.Command {
	return a.jobVerb("stop", "ask for a job's end", func(ctx context.Context, c rotav1.JobsClient, id string) (*rotav1.Job, error) {
		return c.StopJob(ctx, &rotav1.StopJobRequest{Id: id})
	})
}

func (a *app) jobRetry() *cobra.Command {
	c := a.jobVerb("retry", "run a job that is done once more", func(ctx context.Context, c rotav1.JobsClient, id string) (*rotav1.Job, error) {
		return c.RetryJob(ctx, &rotav1.RetryJobRequest{Id: id})
	})
	c.Long = "Run a job that is done once more, with all its retries.\n" +
		"One that is lost may still run on a worker that is only cut off, unless it was to be run again by itself (--rerun): make sure\n" +
		"that the worker is dead, or that two runs at once do no harm."
	return c
}

func (a *app) jobDelete() *cobra.Command {
	return a.jobVerb("delete", "forget a job that is done, with its output", func(ctx context.Context, c rotav1.JobsClient, id string) (*rotav1.Job, error) {
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
