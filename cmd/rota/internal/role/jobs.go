package role

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/otlp"
	"github.com/rota-project/rota/internal/compat/schedulerworker"
	"github.com/rota-project/rota/internal/job/output"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/process/words"
	"github.com/rota-project/rota/internal/worker/agent"
	"github.com/rota-project/rota/internal/worker/supervise"
	"github.com/rota-project/rota/worker"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// onlyJobs is the kind that a worker offers which takes jobs and no tasks.
const onlyJobs = "rota.jobs-only"

// jobs is the part of a worker that runs jobs; nil runs none.
type jobs struct {
	agent *agent.Agent
	cfg   *config.Worker
	to    *towards
	log   *slog.Logger
	old   net.Listener // for the calls of an old scheduler; nil: none
}

// newJobs opens the runner of a worker that may run jobs, and listens for the
// calls of an old scheduler. Close it.
func newJobs(ctx context.Context, c *config.Worker, w *worker.Worker, to *towards, link *supervise.Link, spans *otlp.Spans, log *slog.Logger) (*jobs, error) {
	if len(c.Job.Allow) == 0 && c.Jobs.Addr == "" {
		return nil, nil //nolint:nilnil // documented: none
	}
	rc, err := runnerConfig(c)
	if err != nil {
		return nil, byOption(err)
	}
	rc.Hold = link.Hold
	var next atomic.Uint64
	a, err := agent.New(agent.Config{
		Name: c.Name, Incarnation: w.Incarnation(), Runner: rc, Leased: w.LeasedFor, Session: w.Session, TracerProvider: spans.Provider(), Logger: log,
		Connect: func(context.Context) (*grpc.ClientConn, error) {
			return to.dial(c.Schedulers[int(next.Add(1)-1)%len(c.Schedulers)])
		},
	})
	if err != nil {
		return nil, byOption(err)
	}
	j := &jobs{agent: a, cfg: c, to: to, log: log}
	if c.Jobs.Addr != "" {
		if j.old, _, err = listen(ctx, "grpc_server", c.Jobs.Addr, false); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// byOption names a field of the runner's configuration as the worker's option is
// called that it was filled from.
func byOption(err error) error {
	var wrong *rota.FieldError
	if !errors.As(err, &wrong) {
		return err
	}
	named := *wrong
	switch field := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:]; {
	case field != "cgroup" && !strings.HasPrefix(wrong.Field, "jobs."):
		return err
	case field == "argv":
		named.Field = "job"
	case field == "dir":
		named.Field = "job_data"
	case field == "max_running":
		named.Field = "job_slots"
	default:
		named.Field = "job_" + field
	}
	return &named
}

func (t *towards) dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(t.credentials()))
}

func runnerConfig(c *config.Worker) (runner.Config, error) {
	rules := c.Job
	rc := runner.Config{
		Dir: cmp.Or(rules.Data, filepath.Join("rota-data", "jobs-"+c.Name)), MaxRunning: rules.Slots,
		Output: output.Options{MaxBytes: rules.Output}, MaxOutput: rules.OutputTotal,
		Allow: runner.Allow{Dirs: rules.Dirs}, NewPrivileges: c.NewPrivileges,
	}
	limits := process.Limits{
		Memory: rules.Memory, CPUs: rules.CPUs, Processes: int64(rules.Processes), OpenFiles: int64(rules.OpenFiles),
		AddressSpace: rules.AddressSpace, UserProcesses: int64(rules.UserProcesses),
	}
	for _, text := range rules.Allow {
		argv, err := words.Split(text)
		if err != nil || len(argv) == 0 {
			return rc, &rota.FieldError{Field: "job", Value: text, Want: "words and {name:TYPE}, as 'bash {script:path}', or any"}
		}
		if len(argv) == 1 && argv[0] == "any" {
			rc.Allow.Any = true
			continue
		}
		rc.Allow.Commands = append(rc.Allow.Commands, runner.Command{
			Argv: argv, Env: rules.Env, User: rules.User, Timeout: rules.Timeout, Limits: limits,
		})
	}
	rc.Allow.Rules = runner.Rules{User: rules.User, Timeout: rules.Timeout, Limits: limits}
	if rules.Cgroup != "" {
		group, err := process.OpenCgroup(rules.Cgroup)
		if err != nil {
			return rc, err
		}
		rc.Cgroup = group
	}
	return rc, nil
}

func (j *jobs) fence() {
	if j != nil {
		j.agent.Fence()
	}
}

func (j *jobs) die() {
	if j != nil {
		j.agent.Die()
	}
}

// run serves jobs until ctx ends, and returns when they have ended and been told.
func (j *jobs) run(ctx context.Context) (err error) {
	if j == nil {
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { j.agent.Run(ctx, leaveTime(j.cfg)-handOver) })
	if j.old != nil {
		wg.Go(func() {
			if err = j.serveOld(ctx); err != nil {
				j.log.Error("no longer serving the job protocol of older schedulers", "error", err)
			}
		})
	}
	wg.Wait()
	return err
}

func (j *jobs) close() {
	if j != nil && j.old != nil {
		_ = j.old.Close()
	}
}

// serveOld answers the calls of an old scheduler, where the file of an old
// worker says, and registers with it if there is one.
func (j *jobs) serveOld(ctx context.Context) error {
	ac := schedulerworker.AttachConfig{
		Runner: j.agent.Runner(), Listener: j.old, SchedulerCredentials: j.to.credentials(), Log: j.log,
		Scheduler: j.oldScheduler(ctx),
	}
	if host, port, err := net.SplitHostPort(j.old.Addr().String()); err == nil {
		ac.Address = net.JoinHostPort(host, port)
	}
	if j.cfg.Jobs.TLS {
		src, err := pki.Load(pki.Files{Cert: j.cfg.Jobs.CertFile, Key: j.cfg.Jobs.KeyFile})
		if err != nil {
			return err
		}
		conf, err := src.Server(false, "h2")
		if err != nil {
			return err
		}
		ac.ServerCredentials = pki.ServerCredentials(conf)
	}
	return schedulerworker.Attach(ctx, ac)
}

// probeEvery is how often a scheduler that does not answer is asked again what
// it is.
const probeEvery = 500 * time.Millisecond

// oldScheduler finds out whether a scheduler is an old one: it does not know our
// services. It is empty if the first that answers is one of ours, which is
// served by the worker's session.
func (j *jobs) oldScheduler(ctx context.Context) string {
	for ctx.Err() == nil {
		for _, address := range j.cfg.Schedulers {
			conn, err := j.to.dial(address)
			if err != nil {
				continue
			}
			one, cancel := context.WithTimeout(ctx, time.Second)
			_, err = rotav1.NewClusterClient(conn).GetStatus(one, &rotav1.GetStatusRequest{})
			cancel()
			_ = conn.Close()
			switch status.Code(err) {
			case codes.Unimplemented:
				return address
			case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
			default:
				return ""
			}
		}
		select {
		case <-time.After(probeEvery):
		case <-ctx.Done():
		}
	}
	return ""
}
