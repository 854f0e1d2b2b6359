package mesosgot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/auth/devcluster"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/worker"
)

// AppTask is a task as a value.
type AppTask interface {
	Run(in <-chan GoTaskMsg, out chan<- GoTaskMsg, args []string) error
}

// AppTaskFunc is a task. In brings messages from the scheduler function and is closed
// to tell the task to exit; args[0] is the task's own name.
type AppTaskFunc func(in <-chan GoTaskMsg, out chan<- GoTaskMsg, args []string) error

// Run implements AppTask.
func (f AppTaskFunc) Run(in <-chan GoTaskMsg, out chan<- GoTaskMsg, args []string) error {
	return f(in, out, args)
}

// AppTaskExecutor runs tasks by their names.
type AppTaskExecutor interface {
	RunTask(taskName string, in <-chan GoTaskMsg, out chan<- GoTaskMsg) error
	RegisterTask(name string, task AppTask)
	RegisterTaskFunc(name string, task AppTaskFunc)
}

// DefAppTaskExecutor is the AppTaskExecutor of those who have none of their own.
type DefAppTaskExecutor struct {
	mu    sync.Mutex
	tasks map[string]AppTask
}

// NewDefAppTaskExecutor returns one without tasks.
func NewDefAppTaskExecutor() *DefAppTaskExecutor {
	return &DefAppTaskExecutor{tasks: map[string]AppTask{}}
}

// RegisterTask registers a task under a name.
func (e *DefAppTaskExecutor) RegisterTask(name string, task AppTask) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks[name] = task
}

// RegisterTaskFunc registers a function under a name.
func (e *DefAppTaskExecutor) RegisterTaskFunc(name string, task AppTaskFunc) {
	e.RegisterTask(name, task)
}

// RunTask runs the task NAME-INDEX to its end.
func (e *DefAppTaskExecutor) RunTask(taskName string, in <-chan GoTaskMsg, out chan<- GoTaskMsg) error {
	return e.run(taskName, in, out, []string{taskName})
}

func (e *DefAppTaskExecutor) run(taskName string, in <-chan GoTaskMsg, out chan<- GoTaskMsg, args []string) error {
	name, _, err := program.Index(taskName)
	if err != nil {
		return err
	}
	e.mu.Lock()
	task := e.tasks[name]
	e.mu.Unlock()
	if task == nil {
		return fmt.Errorf("mesosgot: no task %q is registered", name)
	}
	return task.Run(in, out, args)
}

// local are the functions of executors of this process, for schedulers with -master
// local. Of two executors that register a name the later has it.
var local = struct {
	functions program.Functions
	mu        sync.Mutex
	by        map[string]*GoTaskExecutor
}{by: map[string]*GoTaskExecutor{}}

// here offers a name in this process.
func (e *GoTaskExecutor) here(name string) error {
	local.mu.Lock()
	defer local.mu.Unlock()
	_, known := local.by[name]
	local.by[name] = e
	if known {
		return nil
	}
	return offer(&local.functions, name, func() *GoTaskExecutor {
		local.mu.Lock()
		defer local.mu.Unlock()
		return local.by[name]
	})
}

// GoTaskExecutor offers task functions.
type GoTaskExecutor struct {
	tasks AppTaskExecutor
	mu    sync.Mutex
	names []string
	wrong []error
}

// NewGoTaskExecutor returns an executor that runs tasks by ae; nil is a
// DefAppTaskExecutor.
func NewGoTaskExecutor(ae AppTaskExecutor) *GoTaskExecutor {
	if ae == nil {
		ae = NewDefAppTaskExecutor()
	}
	return &GoTaskExecutor{tasks: ae}
}

// RegisterTask registers a task under a name. What is wrong with it is the error of
// NewMesosExecutorDriver.
func (e *GoTaskExecutor) RegisterTask(name string, task AppTask) {
	e.tasks.RegisterTask(name, task)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names = append(e.names, name)
	if err := e.here(name); err != nil {
		e.wrong = append(e.wrong, err)
	}
}

// RegisterTaskFunc registers a function under a name, see RegisterTask.
func (e *GoTaskExecutor) RegisterTaskFunc(name string, task AppTaskFunc) {
	e.RegisterTask(name, task)
}

// offer offers a name whose tasks the executor runs that by answers then.
func offer(r program.Registrar, name string, by func() *GoTaskExecutor) error {
	return r.RegisterTaskFunc(name, func(in <-chan program.Msg, out chan<- program.Msg, args []string, _ map[string]string) error {
		e := by()
		return both(in, out, true, func(in <-chan GoTaskMsg, out chan<- GoTaskMsg) error {
			if def, ok := e.tasks.(*DefAppTaskExecutor); ok {
				return def.run(args[0], in, out, args)
			}
			return e.tasks.RunTask(args[0], in, out)
		})
	})
}

// ExecutorConfig says what an executor's driver runs.
type ExecutorConfig struct {
	Executor *GoTaskExecutor
	// Worker are the choices of the worker that it is; what is empty comes from the
	// environment.
	Worker worker.Config
}

// DriverConfig is for NewMesosExecutorDriver.
func (e *GoTaskExecutor) DriverConfig() ExecutorConfig { return ExecutorConfig{Executor: e} }

// ExecutorDriver makes this process a worker of a cluster.
type ExecutorDriver struct {
	w    *worker.Worker
	done chan struct{}
	err  error
	stop context.CancelFunc
}

// NewMesosExecutorDriver returns the driver of an executor. It fails if the executor,
// or what the environment says, is wrong.
func NewMesosExecutorDriver(c ExecutorConfig) (*ExecutorDriver, error) {
	if err := errors.Join(c.Executor.wrong...); err != nil {
		return nil, err
	}
	wc := c.Worker
	host, _ := os.Hostname()
	if wc.Name == "" {
		wc.Name = variable("ROTA_NAME", fmt.Sprintf("%s-%d", host, os.Getpid()))
	}
	if len(wc.Schedulers) == 0 && wc.Connect == nil {
		wc.Schedulers = strings.Split(variable("ROTA_SCHEDULERS", DefaultMaster), ",")
	}
	if wc.TLS == nil && wc.DialTLS == nil {
		source, err := devcluster.WorkerSource(os.LookupEnv, wc.Name, wc.Schedulers)
		if ca := os.Getenv("ROTA_TLS_CA"); err == nil && source == nil && ca != "" {
			source, err = pki.Load(pki.Files{CA: ca, Cert: os.Getenv("ROTA_TLS_CERT"), Key: os.Getenv("ROTA_TLS_KEY")})
		}
		if err != nil {
			return nil, err
		}
		if source != nil {
			wc.TLS = source.Client("")
		}
	}
	w, err := worker.New(wc)
	if err != nil {
		return nil, err
	}
	for _, name := range c.Executor.names {
		if err := offer(w, name, func() *GoTaskExecutor { return c.Executor }); err != nil {
			return nil, err
		}
	}
	return &ExecutorDriver{w: w, done: make(chan struct{})}, nil
}

func variable(name, otherwise string) string {
	if v, ok := os.LookupEnv(name); ok {
		return v
	}
	return otherwise
}

// Start joins the cluster, which goes on until Stop or Abort.
func (d *ExecutorDriver) Start() (Status, error) {
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	go func() {
		defer close(d.done)
		d.err = d.w.Run(ctx)
	}()
	return DriverRunning, nil
}

// Join waits for the end.
func (d *ExecutorDriver) Join() (Status, error) {
	<-d.done
	return DriverStopped, d.err
}

// Run is Start and Join.
func (d *ExecutorDriver) Run() (Status, error) {
	if s, err := d.Start(); err != nil {
		return s, err
	}
	return d.Join()
}

// Stop leaves the cluster in order.
func (d *ExecutorDriver) Stop() (Status, error) {
	d.stop()
	return d.Join()
}

// Abort is Stop.
func (d *ExecutorDriver) Abort() (Status, error) { return d.Stop() }
