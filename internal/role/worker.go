package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/config"
	"github.com/rota-project/rota/examples/elevator/lift"
	"github.com/rota-project/rota/examples/wordcount/mapreduce"
	"github.com/rota-project/rota/internal/ending"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/process"
	"github.com/rota-project/rota/supervise"
	"github.com/rota-project/rota/worker"
	"github.com/rota-project/rota/worker/exec"

	"google.golang.org/grpc"
)

// startedAfter is when the start of a worker is surely over.
const startedAfter = 2 * time.Second

// leaveTimeout is how long a worker that was asked to end hands over; then the
// process ends and everything with it.
const leaveTimeout = 30 * time.Second

// Worker runs a worker until ctx ends, and hands over what it holds.
func Worker(ctx context.Context, c *config.Worker, logTo io.Writer) error {
	if c.Supervise && os.Getenv(supervise.IncarnationEnv) == "" {
		return superviseSelf(ctx, c, logTo)
	}
	log := logger(c.Log, logTo)
	exit := func(status int) {
		logs.Flush(logTo)
		os.Exit(status)
	}
	to, err := newTowards(c)
	if err != nil {
		return err
	}
	if to.source != nil {
		followCertificates(ctx, log, to.source)
	}
	var jobs *jobs
	w, err := worker.New(worker.Config{
		Name: c.Name, Incarnation: os.Getenv(supervise.IncarnationEnv), Schedulers: c.Schedulers, DialTLS: to.dialTLS(), Zone: c.Zone,
		Labels: c.Labels, Capacity: c.Capacity, MaxTasks: c.MaxTasks, Strength: c.Strength,
		RestartGrace: c.RestartGrace, Calls: c.Calls, Logger: log, LeaseEnded: func() { jobs.fence() }, Exit: exit,
	})
	if err != nil {
		return err
	}
	if jobs, err = newJobs(ctx, c, w, to, log); err != nil {
		return err
	}
	defer jobs.close()
	owner := "rota-worker-" + c.Name
	if len(c.Exec) > 0 {
		n, err := process.Sweep(owner)
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		if n > 0 {
			log.Warn("killed what an earlier start left behind", "processes", n)
		}
	}
	takes := func(kind string) bool { return len(c.Kinds) == 0 || slices.Contains(c.Kinds, kind) }
	kinds := 0
	for kind, command := range c.Exec {
		f, err := exec.New(exec.Config{Kind: kind, Command: command, Dirs: c.ExecDirs, Output: taskOutput(c.Log, logTo), Owner: owner})
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
			return fmt.Errorf("worker %s: %w", c.Name, &rota.FieldError{Field: "exec", Value: "", Want: "a command for some kind (--exec KIND='...'), --function NAME=URL, --job, or --demo"})
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
		mux := http.NewServeMux()
		mux.Handle("GET /readyz", w.ReadyHandler())
		srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = srv.Serve(l) }()
		defer func() { _ = srv.Close() }()
	}
	defer ending.Left(func() string {
		if n := len(w.Tasks()); n > 0 {
			return fmt.Sprintf("worker %s ran %d task instances; they run elsewhere when its lease has ended", c.Name, n)
		}
		return ""
	})()
	ended := make(chan struct{})
	defer close(ended)
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(leaveTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			log.Error("tasks did not stop in time; the process ends", "after", leaveTimeout)
			exit(1)
		case <-ended:
		}
	})
	defer stop()
	forget := time.AfterFunc(startedAfter, forgetStart)
	defer forget.Stop()
	go func() {
		if w.Joined(ctx) {
			notify(ctx, log, func() bool { return true }) // a loop that hangs ends the process itself
		}
	}()
	done := jobs.run(ctx)
	err = w.Run(ctx)
	return errors.Join(err, done())
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

// superviseSelf runs the same command as a child, and reports its death.
func superviseSelf(ctx context.Context, c *config.Worker, logTo io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("supervise: %w", err)
	}
	report, closeConn, err := exitReporter(c)
	if err != nil {
		return err
	}
	defer closeConn()
	return supervise.Run(ctx, supervise.Config{
		Name: c.Name, Argv: append([]string{self}, os.Args[1:]...), Env: os.Environ(), Output: wholeLines(logTo), Restart: true,
		Exited: report, Grace: leaveTimeout + stopTimeout, Logger: logger(c.Log, logTo),
	})
}

// exitReporter tells whichever scheduler answers that a worker is dead.
func exitReporter(c *config.Worker) (report func(context.Context, string) error, done func(), err error) {
	to, err := newTowards(c)
	if err != nil {
		return nil, nil, err
	}
	name := c.Name
	var conns []*grpc.ClientConn
	done = func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for _, address := range c.Schedulers {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(to.credentials()))
		if err != nil {
			done()
			return nil, nil, fmt.Errorf("scheduler %s: %w", address, err)
		}
		conns = append(conns, conn)
	}
	return func(ctx context.Context, incarnation string) (err error) {
		for _, conn := range conns {
			one, cancel := context.WithTimeout(ctx, time.Second)
			_, e := rotav1.NewSessionsClient(conn).ReportExit(one, &rotav1.ReportExitRequest{Name: name, Incarnation: incarnation})
			cancel()
			if e == nil {
				return nil
			}
			err = errors.Join(err, e)
		}
		return err
	}, done, nil
}
