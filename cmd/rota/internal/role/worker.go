package role

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/otlp"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/api/rest"
	"github.com/rota-project/rota/internal/ending"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/internal/notify"
	"github.com/rota-project/rota/internal/origin"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/program/demo/lift"
	"github.com/rota-project/rota/internal/program/demo/mapreduce"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/worker/exec"
	"github.com/rota-project/rota/internal/worker/supervise"
	"github.com/rota-project/rota/worker"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// startedAfter is when the start of a worker is surely over.
const startedAfter = 2 * time.Second

// leaveTime is how long a worker that was asked to end hands over: its processes
// have their grace. Then it ends and everything with it.
func leaveTime(c *config.Worker) time.Duration {
	const least = 30 * time.Second
	longest := time.Duration(0)
	for _, grace := range c.ExecGrace {
		longest = max(longest, grace)
	}
	return max(least, longest+handOver)
}

// handOver is how much of its leaveTime a worker keeps for saying what has ended.
const handOver = 5 * time.Second

// Worker runs a worker until ctx ends, and hands over what it holds.
func Worker(ctx context.Context, c *config.Worker, logTo io.Writer) error {
	log := logger(c.Log, logTo)
	exit := func(status int) {
		logs.Flush(logTo)
		os.Exit(status)
	}
	link, err := supervise.Join()
	if err != nil {
		return err
	}
	spans, err := otlp.Open(ctx, c.Trace, otlp.Process{Role: "worker", Name: c.Name, Log: log})
	if err != nil {
		return err
	}
	defer spans.Close()
	to, err := newTowards(c)
	if err != nil {
		return err
	}
	if to.source != nil {
		ofPool := strings.HasPrefix(c.Name, engine.NamePrefix)
		followCertificates(ctx, log, to.source, ofPool)
		if ofPool {
			go renewCertificate(ctx, c, to.source, log)
		}
	}
	var calls *tls.Config
	if to.source != nil && c.TLSCert != "" {
		if calls, err = to.source.SchedulersOnly(); err != nil {
			return err
		}
	}
	var jobs *jobs
	jobsEnded := make(chan struct{})
	w, err := worker.New(worker.Config{
		Name: c.Name, Incarnation: os.Getenv(supervise.IncarnationEnv), Schedulers: c.Schedulers, DialTLS: to.dialTLS(), Zone: c.Zone,
		Labels: c.Labels, Capacity: c.Capacity, MaxTasks: c.MaxTasks, Strength: c.Strength,
		RestartGrace: c.RestartGrace, Calls: c.Calls, CallsTLS: calls, Guard: link, LeaveAfter: jobsEnded, TracerProvider: spans.Provider(), Logger: log, LeaseEnded: func() { jobs.fence() }, Exit: exit,
	})
	if err != nil {
		return err
	}
	if jobs, err = newJobs(ctx, c, w, to, link, spans, log); err != nil {
		return err
	}
	defer jobs.close()
	dieWithKeeper(link, jobs, log)
	if n := process.Sweep(); n > 0 {
		log.Warn("killed processes that dead workers had left behind", "processes", n)
	}
	takes := func(kind string) bool { return len(c.Kinds) == 0 || slices.Contains(c.Kinds, kind) }
	kinds := 0
	for kind, command := range c.Exec {
		f, err := exec.New(exec.Config{Kind: kind, Command: command, Dirs: c.ExecDirs, Output: taskOutput(c.Log, logTo), Grace: c.ExecGrace[kind], NewPrivileges: c.NewPrivileges, Logger: log})
		if err != nil {
			return err
		}
		if takes(kind) {
			kinds++
			if err := w.HandleTask(kind, f); err != nil {
				return err
			}
		}
	}
	if c.Demo && takes(rota.DefaultKind) {
		kinds++
		d := newDemo(c.Name)
		if err := w.HandleTask(rota.DefaultKind, d.run); err != nil {
			return err
		}
		if err := w.HandleFunction("hello", http.HandlerFunc(d.hello)); err != nil {
			return err
		}
		go d.tell(ctx, log)
	}
	if c.Demo && len(c.Kinds) == 0 { // what the programs among the examples run
		kinds++
		if err := errors.Join(lift.Register(w), mapreduce.Register(w)); err != nil {
			return err
		}
	}
	if err := offerFunctions(c, w); err != nil {
		return err
	}
	if kinds == 0 && len(c.Functions) == 0 {
		if jobs == nil {
			return fmt.Errorf("worker %s: %w", c.Name, idle(c))
		}
		// It takes jobs only: a kind that no task has.
		if err := w.HandleTask(onlyJobs, func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
			return err
		}
	}
	if c.HTTP != "" {
		l, _, err := listen(ctx, "http", c.HTTP, false)
		if err != nil {
			return err
		}
		guard, err := origin.New(origin.Config{Addrs: []string{l.Addr().String()}})
		if err != nil {
			return err
		}
		mux := http.NewServeMux()
		mux.Handle("GET /readyz", w.ReadyHandler())
		mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "ok\n") })
		mux.Handle("GET /metrics", promhttp.HandlerFor(workerMetrics(w, spans.Lost), promhttp.HandlerOpts{}))
		srv := rest.NewServer(guard.Handler(mux, nil))
		go func() { _ = srv.Serve(l) }()
		defer func() { _ = srv.Close() }()
	}
	defer ending.Left(func() string {
		if n := len(w.Tasks()); n > 0 {
			return fmt.Sprintf("worker %s ran %d task instances; they run elsewhere once its lease has ended", c.Name, n)
		}
		return ""
	})()
	ended := make(chan struct{})
	defer close(ended)
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(leaveTime(c))
		defer timer.Stop()
		select {
		case <-timer.C:
			log.Error("tasks did not stop in time; exiting", "after", leaveTime(c))
			exit(1)
		case <-ended:
		}
	})
	defer stop()
	forget := time.AfterFunc(startedAfter, forgetStart)
	defer forget.Stop()
	defer notify.Run(ctx, log, w.Joined, func() bool { return true })() // a loop that hangs ends the process itself
	jobsCtx, stopJobs := context.WithCancel(ctx)
	defer stopJobs()
	var jobsErr error
	go func() {
		jobsErr = jobs.run(jobsCtx)
		close(jobsEnded)
	}()
	err = w.Run(ctx)
	stopJobs() // the worker may have ended by itself
	<-jobsEnded
	return errors.Join(err, jobsErr)
}

// taskOutput writes what the processes of tasks write into the worker's log,
// each line with its task.
func taskOutput(c config.Log, logTo io.Writer) func(exec.Fields, string) io.WriteCloser {
	out := logs.Output(logTo, c.Format)
	return func(f exec.Fields, stream string) io.WriteCloser {
		to := out.With("task", f.ID, "index", f.Index, "generation", f.Generation, "stream", stream)
		return logs.NewLines(func(line string) { to.Info(line) })
	}
}

// idle says of a worker that it would have nothing to do, and why.
func idle(c *config.Worker) error {
	can := slices.Sorted(maps.Keys(c.Exec))
	if c.Demo {
		can = append(can, rota.DefaultKind)
	}
	if len(can) > 0 { // and none of it is taken
		return &rota.FieldError{Field: "kinds", Value: text.Clip(strings.Join(c.Kinds, ","), text.Short), Want: "a kind that it has a command for, which are " + text.Clip(strings.Join(can, ", "), text.Short)}
	}
	return &rota.FieldError{Field: "exec", Value: "", Want: "a command for some kind (--exec KIND='...'), --function NAME=URL, --job, or --demo"}
}
