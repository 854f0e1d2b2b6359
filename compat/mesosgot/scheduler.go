package mesosgot

import (
	"context"
	"errors"
	"flag"
	"maps"
	"strings"
	"sync"

	"github.com/rota-project/rota/program"
)

// DefaultMaster is where a scheduler of the cluster is by default.
const DefaultMaster = "127.0.0.1:50000"

// Local is the Master that runs everything in this process.
const Local = "local"

// GoTaskSchedConfig says where a program runs.
type GoTaskSchedConfig struct {
	// Master are the gRPC addresses of the cluster's schedulers, by comma, or Local.
	Master string
	// Name is the program's own in the cluster; empty means mesosgot.
	Name string
	// Require are label conditions of workers, see program.Config.
	Require []string

	// What follows is read and does nothing.
	Address             string
	ArtifactPort        int
	AuthProvider        string
	ExecutorPath        string
	MesosAuthPrincipal  string
	MesosAuthSecretFile string
	TaskRefuseSeconds   float64
}

var flagsOnce sync.Once

// LoadSchedulerConfig reads the command line's flags, which it defines where the
// program has not.
func LoadSchedulerConfig() *GoTaskSchedConfig {
	flagsOnce.Do(func() {
		for _, f := range []struct{ name, value, usage string }{
			{"master", DefaultMaster, "schedulers of the cluster, `ADDRESS,...`, or " + Local},
			{"name", "mesosgot", "`NAME` of the program in the cluster"},
			{"address", "127.0.0.1", "does nothing"},
			{"artifactPort", "12345", "does nothing"},
			{"executor", "", "does nothing: executors are started on their machines"},
			{"mesos_authentication_provider", "", "does nothing"},
			{"mesos_authentication_principal", "", "does nothing"},
			{"mesos_authentication_secret_file", "", "does nothing"},
		} {
			if flag.Lookup(f.name) == nil {
				flag.String(f.name, f.value, f.usage)
			}
		}
	})
	if !flag.Parsed() {
		flag.Parse()
	}
	value := func(name string) string { return flag.Lookup(name).Value.String() }
	return &GoTaskSchedConfig{
		Master: value("master"), Name: value("name"), Address: value("address"), ExecutorPath: value("executor"), TaskRefuseSeconds: 60,
	}
}

// AppTaskResourceInfo is one kind of task.
type AppTaskResourceInfo struct {
	Name      string
	Count     int
	Resources map[string]float64 // "cpus", "mem" in MiB, and others by name
	Args      []string
	Env       map[string]string
}

func (i *AppTaskResourceInfo) spec() program.Spec {
	other := maps.Clone(i.Resources)
	delete(other, "cpus")
	delete(other, "mem")
	return program.Spec{
		Name: i.Name, Count: i.Count, Args: i.Args, Env: i.Env,
		Resources: program.Resources{CPUs: i.Resources["cpus"], MemMiB: i.Resources["mem"], Other: other},
	}
}

// AppSchedulerTask is a scheduler function as a value.
type AppSchedulerTask interface {
	Run(schedin <-chan GoTaskMsg, schedout chan<- GoTaskMsg, schedevent <-chan SchedEvent)
}

// AppSchedulerFunc is a scheduler function. It is called when all tasks have places.
// Neither schedin nor schedevent is ever closed; the program ends when it returns.
type AppSchedulerFunc func(schedin <-chan GoTaskMsg, schedout chan<- GoTaskMsg, schedevent <-chan SchedEvent)

// Run implements AppSchedulerTask.
func (f AppSchedulerFunc) Run(schedin <-chan GoTaskMsg, schedout chan<- GoTaskMsg, schedevent <-chan SchedEvent) {
	f(schedin, schedout, schedevent)
}

// AppTaskScheduler is the tasks of a program and its scheduler function.
type AppTaskScheduler interface {
	TasksResourceInfo() []*AppTaskResourceInfo
	RunScheduler(schedin <-chan GoTaskMsg, schedout chan<- GoTaskMsg, schedevent <-chan SchedEvent)
	SpawnTask(name string, count int, res map[string]float64)
	SpawnTasks(tasks []*AppTaskResourceInfo)
	RegisterSchedTask(sched AppSchedulerTask)
	RegisterSchedFunc(sched AppSchedulerFunc)
}

// DefAppTaskScheduler is the AppTaskScheduler of those who have none of their own.
type DefAppTaskScheduler struct {
	tasks []*AppTaskResourceInfo
	sched AppSchedulerTask
}

// NewDefAppTaskScheduler returns one without tasks.
func NewDefAppTaskScheduler() *DefAppTaskScheduler { return &DefAppTaskScheduler{} }

// TasksResourceInfo are the tasks.
func (s *DefAppTaskScheduler) TasksResourceInfo() []*AppTaskResourceInfo { return s.tasks }

// RunScheduler runs the scheduler function.
func (s *DefAppTaskScheduler) RunScheduler(schedin <-chan GoTaskMsg, schedout chan<- GoTaskMsg, schedevent <-chan SchedEvent) {
	if s.sched != nil {
		s.sched.Run(schedin, schedout, schedevent)
	}
}

// SpawnTask adds count tasks.
func (s *DefAppTaskScheduler) SpawnTask(name string, count int, res map[string]float64) {
	s.tasks = append(s.tasks, &AppTaskResourceInfo{Name: name, Count: count, Resources: res})
}

// SpawnTasks adds several kinds of task.
func (s *DefAppTaskScheduler) SpawnTasks(tasks []*AppTaskResourceInfo) {
	s.tasks = append(s.tasks, tasks...)
}

// RegisterSchedTask makes sched the scheduler function.
func (s *DefAppTaskScheduler) RegisterSchedTask(sched AppSchedulerTask) { s.sched = sched }

// RegisterSchedFunc makes sched the scheduler function.
func (s *DefAppTaskScheduler) RegisterSchedFunc(sched AppSchedulerFunc) { s.sched = sched }

// GoTaskScheduler is a program.
type GoTaskScheduler struct {
	AppTaskScheduler

	conf GoTaskSchedConfig
}

// NewGoTaskScheduler returns a program of aps; nil is a DefAppTaskScheduler. The name
// of a user does nothing.
func NewGoTaskScheduler(_ string, conf *GoTaskSchedConfig, aps AppTaskScheduler) *GoTaskScheduler {
	if aps == nil {
		aps = NewDefAppTaskScheduler()
	}
	s := &GoTaskScheduler{AppTaskScheduler: aps}
	if conf != nil {
		s.conf = *conf
	}
	return s
}

// SchedulerConfig says what a scheduler's driver runs.
type SchedulerConfig struct{ Scheduler *GoTaskScheduler }

// DriverConfig is for NewMesosSchedulerDriver.
func (s *GoTaskScheduler) DriverConfig() SchedulerConfig { return SchedulerConfig{Scheduler: s} }

// Status is how a driver stands.
type Status string

// The states of drivers.
const (
	DriverRunning Status = "DRIVER_RUNNING"
	DriverStopped Status = "DRIVER_STOPPED"
	DriverAborted Status = "DRIVER_ABORTED"
)

func (s Status) String() string { return string(s) }

// SchedulerDriver runs a program.
type SchedulerDriver struct {
	p     *program.Program
	where program.Place
	done  chan struct{}
	err   error
}

// NewMesosSchedulerDriver returns the driver of a program. It fails if the program is
// wrong.
func NewMesosSchedulerDriver(c SchedulerConfig) (*SchedulerDriver, error) {
	s := c.Scheduler
	name := s.conf.Name
	if name == "" {
		name = "mesosgot"
	}
	p := program.New(name, program.Config{Require: s.conf.Require})
	var specs []program.Spec
	for _, t := range s.TasksResourceInfo() {
		specs = append(specs, t.spec())
	}
	err := errors.Join(p.SpawnTasks(specs...), p.RegisterSchedFunc(func(in <-chan program.Msg, out chan<- program.Msg, events <-chan program.Event) {
		over := make(chan struct{})
		defer close(over)
		old := make(chan SchedEvent, 2*DefTaskChanLen)
		begun := make(chan struct{})
		go forward(events, old, begun, over)
		if len(specs) > 0 { // old functions count the time that their tasks take to come up
			<-begun
		}
		_ = both(in, out, false, func(in <-chan GoTaskMsg, out chan<- GoTaskMsg) error { // it fails as f does
			s.RunScheduler(in, out, old)
			return nil
		})
	}))
	if err != nil {
		return nil, err
	}
	d := &SchedulerDriver{p: p, where: program.InProcess(program.WithFunctions(&local.functions)), done: make(chan struct{})}
	switch s.conf.Master {
	case Local:
	case "":
		d.where = program.Cluster(DefaultMaster)
	default:
		d.where = program.Cluster(strings.Split(s.conf.Master, ",")...)
	}
	return d, nil
}

// Start begins the program.
func (d *SchedulerDriver) Start() (Status, error) {
	go func() {
		defer close(d.done)
		d.err = d.p.Run(context.Background(), d.where)
	}()
	return DriverRunning, nil
}

// Join waits until the program has ended. The error is why it ended early.
func (d *SchedulerDriver) Join() (Status, error) {
	<-d.done
	if d.err != nil {
		return DriverAborted, d.err
	}
	return DriverStopped, nil
}

// Run is Start and Join.
func (d *SchedulerDriver) Run() (Status, error) {
	if s, err := d.Start(); err != nil {
		return s, err
	}
	return d.Join()
}

// Stop ends the program; failover does nothing.
func (d *SchedulerDriver) Stop(_ bool) (Status, error) {
	d.p.Stop("the driver was stopped")
	return DriverRunning, nil
}

// Abort is Stop.
func (d *SchedulerDriver) Abort() (Status, error) { return d.Stop(false) }
