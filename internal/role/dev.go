package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/api/convert"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/config"
	"github.com/rota-project/rota/examples/flights"
	"github.com/rota-project/rota/internal/ending"
	"github.com/rota-project/rota/process"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/supervise"
	"github.com/rota-project/rota/taskfile"
	"github.com/rota-project/rota/view"
)

// gatherFor is how long the first plan waits for all workers of rota dev.
const gatherFor = 3 * time.Second

// Dev runs a whole cluster on loopback until ctx ends: an embedded etcd and a
// scheduler in this process, workers as its children. out is told where things
// are and what to try.
func Dev(ctx context.Context, c *config.Dev, out, logTo io.Writer) error {
	began := time.Now()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	tasks, err := devTasks(c)
	if err != nil {
		return err
	}
	grpcL, grpcMoved, err := listen(ctx, "grpc", c.GRPC, c.AnyGRPC)
	if err != nil {
		return err
	}
	httpL, httpMoved, err := listen(ctx, "http", c.HTTP, c.AnyHTTP)
	if err != nil {
		_ = grpcL.Close()
		return err
	}
	dir := c.DataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "rota-dev-*"); err != nil {
			_ = errors.Join(grpcL.Close(), httpL.Close())
			return fmt.Errorf("dev: %w", err)
		}
		remove := func() { _ = os.RemoveAll(dir) }
		defer remove()
		defer ending.Left(func() string {
			remove()
			return "the workers and what they ran were killed; the state is removed"
		})()
	}
	defer ending.Left(func() string {
		process.KillAll()
		return ""
	})()
	log := logger(c.Log, logTo)
	sc, _ := config.NewScheduler()
	sc.Name, sc.DataDir, sc.Lease = "dev", dir, c.Lease
	sc.BarrierWorkers, sc.BarrierWait = c.Workers, gatherFor
	sc.NoSync = c.DataDir == ""
	sc.Gateway, sc.AnyGateway = c.Gateway, c.AnyGateway
	var cr *devCredentials
	if !c.Insecure {
		if cr, err = newDevCredentials(dir, grpcL.Addr(), httpL.Addr(), sc); err != nil {
			_ = errors.Join(grpcL.Close(), httpL.Close())
			return fmt.Errorf("dev: credentials: %w", err)
		}
		defer cr.close()
		defer ending.Left(func() string { cr.close(); return "" })()
	}
	return runNode(ctx, sc, scheduler.Config{}, grpcL, httpL, log, func(n *node) error {
		if err := n.server.Ready(ctx); err != nil {
			return nil // asked to end
		}
		if err := declare(ctx, n, tasks, c.Tasks != ""); err != nil {
			return err
		}
		workCtx, stopWorkers := context.WithCancel(ctx)
		defer stopWorkers()
		var workers sync.WaitGroup
		gone := make(chan error, c.Workers)
		for i := range c.Workers {
			name := fmt.Sprintf("w%d", i+1)
			flags, err := cr.worker(name)
			if err != nil {
				return fmt.Errorf("dev: credentials: %w", err)
			}
			workers.Go(func() {
				err := supervise.Run(workCtx, supervise.Config{
					Name:   name,
					Argv:   append(devWorker(self, name, grpcL.Addr().String(), dir, c.Log), flags...),
					Env:    withoutOwn(os.Environ()),
					Stdout: wholeLines(logTo), Stderr: wholeLines(logTo), Restart: restarts[c.Restart], Logger: log,
					Exited: func(ctx context.Context, incarnation string) error {
						_, err := n.server.Scheduler().Sessions().ReportExit(ctx, &rotav1.ReportExitRequest{Name: name, Incarnation: incarnation})
						return err
					},
				})
				gone <- err
			})
		}
		defer workers.Wait()
		defer stopWorkers()
		if awaitWorkers(ctx, n.server.Scheduler().View(), c.Workers) {
			greet(out, c, cr, n.gateway, httpL.Addr(), grpcL.Addr(), httpMoved, grpcMoved, len(tasks), time.Since(began))
		}
		for left := c.Workers; ; {
			select {
			case <-ctx.Done():
				return nil
			case err := <-n.server.Failed():
				return err
			case <-n.failed:
				return n.embedded.Err()
			case err := <-gone:
				left--
				if left == 0 && c.Workers > 0 && ctx.Err() == nil && err != nil {
					log.Warn("no worker is left; tasks wait for one")
				}
			}
		}
	})
}

// restarts are the values of --restart.
var restarts = map[string]supervise.Restart{"never": supervise.Never, "ended": supervise.Ended, "always": supervise.Always}

// devJobs are what the workers of rota dev run as jobs: nothing that changes
// anything.
var devJobs = []string{
	"echo {words:any...}", "true", "false", "date", "hostname", "uname {what:one(-a|-m|-n|-r|-s)}", "seq {last:int(1..1000000)}",
	"sleep {seconds:int(0..3600)}",
}

func devWorker(self, name, scheduler, dir string, log config.Log) []string {
	argv := []string{
		self, "worker", "--name", name, "--schedulers", scheduler, "--demo", "--log-level", log.Level, "--log-format", log.Format,
		"--job-data", filepath.Join(dir, "jobs-"+name), "--job-slots", "16",
	}
	for _, j := range devJobs {
		argv = append(argv, "--job", j)
	}
	return argv
}

// devTasks is the list that the cluster begins with.
func devTasks(c *config.Dev) ([]rota.Task, error) {
	if c.Tasks == "" {
		return flights.Tasks()
	}
	return taskfile.ReadFile(c.Tasks, taskfile.Options{Columns: c.TasksColumns})
}

// declare declares the tasks through the API, as a user would, so that the user
// can change them. State that was kept is not overwritten by the built-in list.
func declare(ctx context.Context, n *node, tasks []rota.Task, given bool) error {
	kept := 0
	v := n.server.Scheduler().View()
	v.Read(func() { kept = v.Tasks.Len() })
	if kept > 0 && !given {
		return nil
	}
	_, err := n.server.Service().ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(tasks)})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("declare tasks: %w", err)
	}
	return nil
}

// awaitWorkers waits until so many workers live.
func awaitWorkers(ctx context.Context, v *view.View, want int) bool {
	enough := make(chan struct{})
	var once sync.Once
	look := func() {
		if len(v.Sessions) >= want {
			once.Do(func() { close(enough) })
		}
	}
	sub := v.Subscribe(look, func(*view.Delta) { look() })
	defer sub.Close()
	select {
	case <-enough:
		return true
	case <-ctx.Done():
		return false
	case <-time.After(gatherFor):
		return true // say where things are all the same
	}
}

func greet(out io.Writer, c *config.Dev, cr *devCredentials, gatewayA string, httpA, grpcA net.Addr, httpMoved, grpcMoved bool, tasks int, took time.Duration) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	p("rota dev: %d workers and %d tasks, ready after %s", c.Workers, tasks, took.Round(10*time.Millisecond))
	p("")
	p("  console   http://%s/%s%s", httpA, cr.fragment(c.ShowToken), moved(httpMoved, c.HTTP))
	p("  HTTP API  http://%s/v1/status", httpA)
	p("  gRPC API  %s%s", grpcA, moved(grpcMoved, c.GRPC))
	if gatewayA != "" {
		p("  functions http://%s/run/hello%s", gatewayA, moved(gatewayA != c.Gateway, c.Gateway))
	}
	for _, line := range cr.lines() {
		p("  %s", line)
	}
	p("  jobs      %s", strings.Join(devCommands(), ", ")+", and nothing else")
	p("  state     %s", stateOf(c))
	p("")
	p("Try in another terminal:")
	if grpcA.String() != config.DefaultGRPC {
		p("  export ROTA_SERVER=%s", grpcA)
	}
	for _, line := range cr.exports() {
		p("  export %s", line)
	}
	for _, line := range []string{
		"rota status ; rota worker list ; rota task list",
		"kill -9 <pid of a worker>          # its tasks run elsewhere at once",
		"rota why ORD-LAX                   # why this task is on that worker",
		"rota worker drain w2 ; rota plan",
		"go run ./examples/elevator -cluster " + grpcA.String() + "   # functions on the workers; rota program list",
		"rota job run --wait -- seq 5       # a command on the worker that fits",
	} {
		p("  %s", line)
	}
	if gatewayA != "" {
		p("  curl -d '{\"name\":\"moon\"}' %s/run/hello   # a function that the workers offer", gatewayA)
	}
	p("Ctrl-C ends everything.")
}

func devCommands() []string {
	var out []string
	for _, j := range devJobs {
		word, _, _ := strings.Cut(j, " ")
		out = append(out, word)
	}
	return out
}

func moved(yes bool, from string) string {
	if yes && !strings.HasSuffix(from, ":0") { // that asked for any
		return "   (" + from + " is in use)"
	}
	return ""
}

func stateOf(c *config.Dev) string {
	if c.DataDir == "" {
		return "in a temporary directory, gone at the end (--data-dir keeps it)"
	}
	return "kept in " + c.DataDir
}

// withoutOwn is an environment without the variables that configure rota: they
// are for this process, not for its workers.
func withoutOwn(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "ROTA_") {
			out = append(out, kv)
		}
	}
	return out
}
