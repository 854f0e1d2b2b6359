package program

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// MaxTasks is the maximum number of tasks of one program.
const MaxTasks = 10_000

// DefaultGrace is the default time for a function that was told to exit.
const DefaultGrace = 10 * time.Second

// Resources are the resources that one task needs on its worker. They are accounted: the
// tasks of a worker with a declared capacity never need more than that together, and a gang
// that does not fit waits. They are not enforced: a task is a goroutine in a shared
// process.
type Resources struct {
	CPUs   float64
	MemMiB float64
	// Other resources by name, in the unit that workers use in their capacity.
	Other map[string]float64
}

// Map returns the resources by the names that workers use in their capacity.
func (r Resources) Map() map[string]float64 {
	m := maps.Clone(r.Other)
	if m == nil {
		m = map[string]float64{}
	}
	if r.CPUs != 0 {
		m["cpus"] = r.CPUs
	}
	if r.MemMiB != 0 {
		m["mem_mib"] = r.MemMiB
	}
	return m
}

func (r Resources) validate() error {
	m := r.Map()
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if v := m[name]; v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			return &rota.FieldError{Field: "resources." + name, Value: v, Want: "a finite number, zero or more"}
		}
	}
	return nil
}

// Spec describes the tasks of one function in a program.
type Spec struct {
	// Name is the name of the task function; the tasks are called Name-0, Name-1, ...
	Name string
	// Count is the number of tasks, above zero.
	Count int
	// Resources are those that each task needs.
	Resources Resources
	// Args and Env are passed to the function. A function that uses channels gets the
	// task's name before Args.
	Args []string
	Env  map[string]string
	// Require are label conditions that the workers of these tasks must meet on a cluster,
	// in addition to the program's: see Config.Require.
	Require []string
}

func (s Spec) validate() error {
	if err := validName("task", s.Name); err != nil {
		return err
	}
	if s.Count <= 0 || s.Count > MaxTasks {
		return &rota.FieldError{Field: s.Name + ".count", Value: s.Count, Want: fmt.Sprintf("1 to %d", MaxTasks)}
	}
	if err := s.Resources.validate(); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return validRules(s.Name+".require", s.Require)
}

// validRules checks label conditions.
func validRules(field string, rules []string) error {
	for _, r := range rules {
		if _, err := placement.ParseCondition(r); err != nil {
			fe := (*rota.FieldError)(nil)
			if errors.As(err, &fe) {
				return &rota.FieldError{Field: field, Value: r, Want: fe.Want}
			}
			return fmt.Errorf("%s: %w", field, err)
		}
	}
	if len(rules) > maxRules {
		return &rota.FieldError{Field: field, Value: len(rules), Want: fmt.Sprintf("at most %d", maxRules)}
	}
	return nil
}

// maxRules leaves room for those that say which build a task runs in.
const maxRules = rota.MaxRules/2 - 1

// Config has the options of a program. The zero value is the default.
type Config struct {
	// Policy is the reaction to a task that fails or is lost. Empty means StopAll.
	Policy Policy
	// Grace is the time for a function that was told to exit. After it, the function's
	// context ends; after the same time again, the function is given up. Zero means
	// DefaultGrace.
	Grace time.Duration
	// Stall is the time for which a reader may leave messages unread before it counts as
	// stalled. Zero means 5 s.
	Stall time.Duration
	// Traces makes messages carry the trace context of the span within which they are sent,
	// so that the receiver can continue it: see Msg.Within and Msg.Context. The program
	// itself makes no spans. It takes about 30 bytes per message within a recorded span,
	// and nothing for other messages or if it is not set.
	Traces bool
	// Require are label conditions, as in rota.Rules, that a cluster's workers must meet to
	// run tasks of the program: "zone=a", "program.set=lifts". Conditions on program.set
	// and program.version select the build of its functions. Without them, the program uses
	// a build of its own module, preferably that of its own executable, and never two at
	// once; package internal/program/build has the rules.
	Require []string
}

// Program is a scheduler function and the tasks that it needs. Create it with New. It is
// safe for concurrent use.
type Program struct {
	name string
	cfg  Config

	mu    sync.Mutex
	specs []Spec
	sched ConnFunc
	wrong []error // what was refused, so that Run refuses too
	run   *run
}

// New returns a program without tasks. Its name must be unique in the cluster.
func New(name string, cfg ...Config) *Program {
	p := &Program{name: name}
	if len(cfg) > 0 {
		p.cfg = cfg[0]
	}
	p.note(validName("program", name))
	if len(cfg) > 1 {
		p.note(&rota.FieldError{Field: "config", Value: len(cfg), Want: "one Config at most"})
	}
	switch p.cfg.Policy {
	case "":
		p.cfg.Policy = StopAll
	case StopAll, RestartTask, RestartAll:
	default:
		p.note(&rota.FieldError{Field: "policy", Value: string(p.cfg.Policy), Want: "stop-all, restart-task or restart-all"})
	}
	if p.cfg.Grace < 0 || p.cfg.Stall < 0 {
		p.note(&rota.FieldError{Field: "grace, stall", Value: min(p.cfg.Grace, p.cfg.Stall), Want: "zero or more"})
	}
	p.note(validRules("require", p.cfg.Require))
	if p.cfg.Grace == 0 {
		p.cfg.Grace = DefaultGrace
	}
	if p.cfg.Stall == 0 {
		p.cfg.Stall = 5 * time.Second
	}
	return p
}

// Name returns the program's name.
func (p *Program) Name() string { return p.name }

// refuse returns err and keeps it for Run.
func (p *Program) refuse(err error) error {
	p.note(err)
	return err
}

func (p *Program) note(err error) {
	if err != nil {
		p.wrong = append(p.wrong, err)
	}
}

// SpawnTask adds count tasks of the function name to the program, each with the resources.
// An invalid argument is an error, which Run returns again.
func (p *Program) SpawnTask(name string, count int, r Resources) error {
	return p.SpawnTasks(Spec{Name: name, Count: count, Resources: r})
}

// SpawnTasks adds several kinds of tasks to the program.
func (p *Program) SpawnTasks(specs ...Spec) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range specs {
		if err := s.validate(); err != nil {
			return p.refuse(err)
		}
		total := s.Count
		for _, other := range p.specs {
			if other.Name == s.Name {
				return p.refuse(&rota.FieldError{Field: "task", Value: s.Name, Want: "a name that the program has no tasks of yet"})
			}
			total += other.Count
		}
		if total > MaxTasks {
			return p.refuse(&rota.FieldError{Field: "count", Value: total, Want: fmt.Sprintf("at most %d tasks in one program", MaxTasks)})
		}
		s.Args, s.Env, s.Require = slices.Clone(s.Args), maps.Clone(s.Env), slices.Clone(s.Require)
		p.specs = append(p.specs, s)
	}
	return nil
}

// RegisterSchedFunc sets the scheduler function.
func (p *Program) RegisterSchedFunc(f SchedFunc) error {
	if f == nil {
		return p.RegisterSchedConn(nil)
	}
	return p.RegisterSchedConn(schedChannels(f))
}

// RegisterSchedTask sets the scheduler function.
func (p *Program) RegisterSchedTask(t SchedTask) error {
	if t == nil {
		return p.RegisterSchedConn(nil)
	}
	return p.RegisterSchedFunc(t.Run)
}

// RegisterSchedConn sets the scheduler function.
func (p *Program) RegisterSchedConn(f ConnFunc) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f == nil:
		return p.refuse(&rota.FieldError{Field: "scheduler function", Value: nil, Want: "a function"})
	case p.sched != nil:
		return p.refuse(&rota.FieldError{Field: "scheduler function", Value: p.name, Want: "only one"})
	}
	p.sched = f
	return nil
}

// Place is where a program runs: InProcess, Local or Cluster.
type Place interface {
	open(ctx context.Context, r *run) (host, error)
}

// Run runs the program until its scheduler function has returned and all its tasks have
// ended. An error says why it ended early: a *TaskError, the error of the scheduler
// function, a *SchedError, or the context's error.
func (p *Program) Run(ctx context.Context, where Place) error {
	p.mu.Lock()
	err := errors.Join(p.wrong...)
	if err == nil && p.sched == nil {
		err = &rota.FieldError{Field: "scheduler function", Value: p.name, Want: "one; it is missing"}
	}
	if err == nil && where == nil {
		err = &rota.FieldError{Field: "place", Value: nil, Want: "InProcess, Local or Cluster"}
	}
	if err == nil && p.run != nil {
		err = fmt.Errorf("%w: %s", ErrRunning, p.name)
	}
	if err != nil {
		p.mu.Unlock()
		return err
	}
	r := newRun(p)
	p.run = r
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.run = nil
	}()
	return r.main(ctx, where)
}

// Stop ends the program as if its scheduler function had returned. Run returns an error
// with the reason. Stop does nothing if the program does not run.
func (p *Program) Stop(reason string) {
	if r := p.running(); r != nil {
		r.do(func(m *lifecycle.Machine) { m.Stop(reason, fmt.Errorf("program %s was stopped: %s", p.name, reason)) })
	}
}

// Kill tells one task to exit. The task is not started again, and this is no failure.
func (p *Program) Kill(task string) error {
	r := p.running()
	if r == nil {
		return fmt.Errorf("%w: %s (the program does not run)", ErrUnknownTask, task)
	}
	return r.kill(task)
}

func (p *Program) running() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// Status is the state of a program.
type Status struct {
	Name    string
	Phase   lifecycle.Phase
	Missing string // what it waits for
	Tasks   []TaskStatus
}

// TaskStatus is the state of a task.
type TaskStatus struct {
	Name       string
	State      lifecycle.State
	Generation uint64
	Worker     string
	Text       string // of its last failure
}

func (s Status) equal(other Status) bool {
	return s.Name == other.Name && s.Phase == other.Phase && s.Missing == other.Missing && slices.Equal(s.Tasks, other.Tasks)
}

// Status returns the program's state; Phase is empty if it does not run.
func (p *Program) Status() Status {
	s := Status{Name: p.name}
	r := p.running()
	if r == nil {
		return s
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Phase, s.Missing = r.m.Phase(), r.m.Missing()
	for _, t := range r.m.Tasks() {
		s.Tasks = append(s.Tasks, TaskStatus{Name: t.Name, State: t.State, Generation: t.Generation, Worker: t.Worker, Text: t.Text})
	}
	return s
}
