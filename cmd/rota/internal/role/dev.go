package role

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/cmd/rota/internal/config"
	"github.com/rota-project/rota/cmd/rota/internal/flights"
	"github.com/rota-project/rota/engine"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/ending"
	"github.com/rota-project/rota/internal/process"
	"github.com/rota-project/rota/internal/taskfile"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/worker/supervise"
	"github.com/rota-project/rota/scheduler"
)

// gatherFor is how long the first plan waits for all workers of rota dev.
const gatherFor = 3 * time.Second

// dev is a cluster of rota dev.
type dev struct {
	cfg   *config.Dev
	self  string // the binary
	dir   string // of everything
	tasks []rota.Task
	ports []*ports // of each scheduler
	moved []string // options whose addresses are others than asked for
	cr    *devCredentials
	log   *slog.Logger
	out   io.Writer // of what people read
	logTo io.Writer
	began time.Time
}

// Dev runs a whole cluster on loopback until ctx ends: an embedded etcd and a
// scheduler in this process, or several schedulers as its children, and workers as
// its children. out is told where things are and what to try.
func Dev(ctx context.Context, c *config.Dev, out, logTo io.Writer) (err error) {
	d := &dev{cfg: c, out: out, logTo: logTo, log: logger(c.Log, logTo), dir: c.DataDir, began: time.Now()}
	if d.self, err = os.Executable(); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	if d.tasks, err = devTasks(c); err != nil {
		return err
	}
	if err := d.checkDir(); err != nil {
		return err
	}
	defer d.closePorts()
	if err := d.openPorts(ctx); err != nil {
		return err
	}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "rota-dev-*"); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		remove := func() { _ = os.RemoveAll(d.dir) }
		defer remove()
		defer ending.Left(func() string {
			remove()
			return "the workers and all their processes were killed; the state was removed"
		})()
	}
	defer ending.Left(func() string {
		process.KillAll()
		return ""
	})()
	if !c.Insecure {
		if d.cr, err = newDevCredentials(d.dir, d.ports); err != nil {
			return fmt.Errorf("dev: credentials: %w", err)
		}
		defer d.cr.close()
		defer ending.Left(func() string { d.cr.close(); return "" })()
	}
	if c.Schedulers > 1 {
		return d.several(ctx)
	}
	return d.alone(ctx)
}

// scheduler is the configuration of a scheduler.
func (d *dev) scheduler(name, dir string) (*config.Scheduler, *config.Options, error) {
	sc, opts := config.NewScheduler()
	sc.Name, sc.DataDir, sc.Lease, sc.Log = name, dir, d.cfg.Lease, d.cfg.Log
	sc.BarrierWorkers, sc.BarrierWait = d.cfg.Workers, gatherFor
	sc.NoSync = d.cfg.DataDir == ""
	sc.Engines = []string{engine.Local}
	sc.Gateway, sc.AnyGateway, sc.Trace = d.cfg.Gateway, d.cfg.AnyGateway, d.cfg.Trace
	if err := d.cr.secure(sc); err != nil {
		return nil, nil, fmt.Errorf("dev: credentials: %w", err)
	}
	return sc, opts, nil
}

// alone runs one scheduler in this process.
func (d *dev) alone(ctx context.Context) error {
	sc, opts, err := d.scheduler("dev", d.dir)
	if err != nil {
		return err
	}
	p := d.ports[0]
	return runNode(ctx, sc, p, insight(opts, d.logTo), d.log, func(n *node) error {
		if err := n.server.Ready(ctx); err != nil {
			return nil // asked to end
		}
		if err := declare(ctx, n, d.tasks, d.cfg.Tasks != ""); err != nil {
			return err
		}
		gone, stop, err := d.workers(ctx, []string{p.grpc.Addr().String()}, n.exits)
		if err != nil {
			return err
		}
		defer stop()
		if awaitWorkers(ctx, n.server.Scheduler().View(), d.cfg.Workers) {
			d.greet(nil)
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case err := <-n.server.Failed():
				return err
			case <-n.failed:
				return n.embedded.Err()
			case <-gone:
				gone = nil
				d.log.Warn("no worker is left; tasks wait for one")
			}
		}
	})
}

// exits returns how the death of a worker is told to the scheduler in this process.
func (n *node) exits(c *config.Worker) (report func(context.Context, string) error, done func(), err error) {
	return func(ctx context.Context, incarnation string) error {
		_, err := n.server.Scheduler().Sessions().ReportExit(auth.Inside(ctx), &rotav1.ReportExitRequest{Name: c.Name, Incarnation: incarnation})
		return err
	}, func() {}, nil
}

// workers starts the workers, which try these schedulers in order. exits returns how the
// death of one is told. gone is told when none is left that is to be started again, which
// nobody asked for; stop ends them all.
func (d *dev) workers(ctx context.Context, schedulers []string,
	exits func(*config.Worker) (func(context.Context, string) error, func(), error),
) (gone <-chan struct{}, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	stop = func() {
		cancel()
		group.Wait()
	}
	none, left := make(chan struct{}, 1), atomic.Int64{}
	left.Store(int64(d.cfg.Workers))
	for i := range d.cfg.Workers {
		w := &config.Worker{Name: fmt.Sprintf("w%d", i+1), Schedulers: schedulers, Trace: d.cfg.Trace}
		err := d.cr.secureWorker(w)
		if err != nil {
			stop()
			return nil, nil, fmt.Errorf("dev: credentials: %w", err)
		}
		exited, done, err := exits(w)
		if err != nil {
			stop()
			return nil, nil, fmt.Errorf("dev: worker %s: %w", w.Name, err)
		}
		group.Go(func() {
			defer done()
			err := supervise.Run(ctx, supervise.Config{
				Name:   w.Name,
				Argv:   devWorker(d.self, w, d.dir, d.cfg.Log),
				Env:    withoutOwn(os.Environ()),
				Stdout: wholeLines(d.logTo), Stderr: wholeLines(d.logTo), Restart: restarts[d.cfg.Restart], Exited: exited, Logger: d.log,
			})
			if ctx.Err() == nil {
				d.log.Warn("worker process ended", "worker", w.Name, "error", err, "again", false)
			}
			if left.Add(-1) == 0 && ctx.Err() == nil {
				none <- struct{}{}
			}
		})
	}
	return none, stop, nil
}

// restarts are the values of --restart.
var restarts = map[string]supervise.Restart{"never": supervise.Never, "ended": supervise.Ended, "always": supervise.Always}

// devJobs are what the workers of rota dev run as jobs: nothing that changes
// anything.
var devJobs = []string{
	"echo {words:any...}", "true", "false", "date", "hostname", "uname {what:one(-a|-m|-n|-r|-s)}", "seq {last:int(1..1000000)}",
	"sleep {seconds:int(0..3600)}",
}

func devWorker(self string, w *config.Worker, dir string, log config.Log) []string {
	argv := []string{
		self, "worker", "--name", w.Name, "--schedulers", strings.Join(w.Schedulers, ","), "--demo", "--log-level", log.Level, "--log-format", log.Format,
		"--job-data", filepath.Join(dir, "jobs-"+w.Name), "--job-slots", "16",
	}
	if w.TLSCA != "" {
		argv = append(argv, "--tls-ca", w.TLSCA, "--tls-cert", w.TLSCert, "--tls-key", w.TLSKey)
	}
	for _, j := range devJobs {
		argv = append(argv, "--job", j)
	}
	return append(argv, w.Trace.Args()...)
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
	_, err := n.server.Service().ApplyTasks(auth.Inside(ctx), &rotav1.ApplyTasksRequest{Tasks: convert.TasksToProto(tasks)})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("declare tasks: %w", err)
	}
	return nil
}

// awaitWorkers waits until so many workers live.
func awaitWorkers(ctx context.Context, v *scheduler.View, want int) bool {
	enough := make(chan struct{})
	var once sync.Once
	look := func() {
		if len(v.Sessions) >= want {
			once.Do(func() { close(enough) })
		}
	}
	sub := v.Subscribe(look, func(*scheduler.Delta) { look() })
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

// greet says where things are: what is special of a cluster of several schedulers is in
// pids, their processes by name.
func (d *dev) greet(pids []int) {
	c, first := d.cfg, d.ports[0]
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format+"\n", args...) }
	what := ""
	if len(pids) > 0 {
		what = fmt.Sprintf("%d schedulers, ", len(pids))
	}
	p("rota dev: %s%s and %s, ready after %s", what, text.Count(c.Workers, "worker", "workers"), text.Count(len(d.tasks), "task", "tasks"), time.Since(d.began).Round(10*time.Millisecond))
	p("")
	p("  console   http://%s/%s%s", first.http.Addr(), d.cr.fragment(c.ShowToken), d.elsewhere("http", c.HTTP))
	p("  HTTP API  http://%s/v1/status", first.http.Addr())
	p("  gRPC API  %s%s", first.grpc.Addr(), d.elsewhere("grpc", c.GRPC))
	if first.gateway != nil {
		p("  functions http://%s/run/hello%s", first.gateway.Addr(), d.elsewhere("gateway", c.Gateway))
	}
	for _, line := range d.cr.lines() {
		p("  %s", line)
	}
	p("  jobs      %s", strings.Join(devCommands(), ", ")+", and nothing else")
	p("  state     %s", stateOf(c))
	for i, pid := range pids {
		at := d.ports[i]
		p("  %-9s process %d, gRPC %s, console http://%s/%s", schedulerName(i), pid, at.grpc.Addr(), at.http.Addr(), functionsAt(at))
	}
	p("")
	p("Try in another terminal:")
	var all []string
	for _, at := range d.ports {
		all = append(all, at.grpc.Addr().String())
	}
	if all[0] != config.DefaultGRPC() {
		p("  export ROTA_SERVER=%s", strings.Join(all, ","))
	}
	for _, line := range d.cr.exports() {
		p("  export %s", line)
	}
	if len(pids) > 0 {
		p("  kill -9 <pid of a scheduler>       # the others go on; rota status says who leads")
	}
	for _, line := range []string{
		"rota status ; rota worker list ; rota task list",
		"kill -9 <pid of a worker>          # its tasks run elsewhere at once",
		"rota why ORD-LAX                   # why this task is on that worker",
		"rota worker drain w2 ; rota plan",
		"go run ./examples/elevator -cluster " + strings.Join(all, ",") + "   # functions on the workers; rota program list",
		"rota job run --wait -- seq 5       # a command on the worker that fits",
	} {
		p("  %s", line)
	}
	if first.gateway != nil {
		p("  curl -d '{\"name\":\"moon\"}' %s/run/hello   # a function that the workers offer", first.gateway.Addr())
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

func stateOf(c *config.Dev) string {
	if c.DataDir == "" {
		return "in a temporary directory, deleted at the end (--data-dir keeps it)"
	}
	return "kept in " + c.DataDir
}

// withoutOwn is an environment without the variables that configure rota, and those
// by which a service manager is told: they are for this process, not for its children.
func withoutOwn(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		return strings.HasPrefix(kv, "ROTA_") || strings.HasPrefix(kv, "NOTIFY_SOCKET=") || strings.HasPrefix(kv, "WATCHDOG_")
	})
}
