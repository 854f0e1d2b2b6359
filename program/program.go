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

// MaxTasks is the most tasks of one program.
const MaxTasks = 10_000

// DefaultGrace is how long a function that was told to exit may take.
const DefaultGrace = 10 * time.Second

// Resources is what one task needs of its worker. It is counted: the tasks of a
// worker that states its capacity never need more than that together, and a gang
// that does not fit waits. It is not enforced: a task is a goroutine beside
// others, and what it takes the process takes.
type Resources struct {
	CPUs   float64
	MemMiB float64
	// Other resources by name, in the unit that workers state them in.
	Other map[string]float64
}

// Map returns the resources by the names that workers state them under.
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

// Spec is one kind of task of a program.
type Spec struct {
	// Name of the task function; the tasks are called Name-0, Name-1, ...
	Name string
	// Count of tasks, above zero.
	Count int
	// Resources that each of them needs.
	Resources Resources
	// Args and Env are handed to the function. In the channel form the task's
	// name comes before Args.
	Args []string
	Env  map[string]string
	// Require are label conditions that the workers of these tasks must meet on a
	// cluster, beside the program's: see Config.Require.
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

// Config are the choices of a program beyond its functions. The zero value is
// the default.
type Config struct {
	// Policy says what follows when a task fails or is lost. Empty means StopAll.
	Policy Policy
	// Grace is how long a function that was told to exit may take before it is
	// told to at once, and again before it is given up. Zero means DefaultGrace.
	Grace time.Duration
	// Stall is how long a reader may read nothing, while messages wait, before it
	// counts as stalled. Zero means 5 s.
	Stall time.Duration
	// Traces has messages carry the trace context of the span that they are sent within, so
	// that the receiver can go on with it: see Msg.Within and Msg.Context. The program makes
	// no spans itself. It takes some 30 bytes a message within a recorded span, nothing of
	// others, and nothing at all if it is not set.
	Traces bool
	// Require are label conditions, as in rota.Rules, that a cluster's workers must
	// meet to run tasks of the program: "zone=a", "program.set=lifts". Those about
	// program.set and program.version say which build of its functions it means.
	// Without them it means a build of its own module, its own executable's before
	// others, and never two at once; package internal/program/build has the rules.
	Require []string
}

// Program is a scheduler function and the tasks that it needs. Make one with
// New. Its methods may be called from several goroutines.
type Program struct {
	name string
	cfg  Config

	mu    sync.Mutex
	specs []Spec
	sched ConnFunc
	wrong []error // what was refused, so that Run refuses too
	run   *run
}

// New returns a program without tasks. Its name is its own in the cluster.
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

// Name is the program's name.
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

// SpawnTask has the program need count tasks of the function name, each with
// the resources. What is wrong with it is returned, and again by Run.
func (p *Program) SpawnTask(name string, count int, r Resources) error {
	return p.SpawnTasks(Spec{Name: name, Count: count, Resources: r})
}

// SpawnTasks has the program need several kinds of task.
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

// RegisterSchedFunc makes f the scheduler function.
func (p *Program) RegisterSchedFunc(f SchedFunc) error {
	if f == nil {
		return p.RegisterSchedConn(nil)
	}
	return p.RegisterSchedConn(schedChannels(f))
}

// RegisterSchedTask makes t the scheduler function.
func (p *Program) RegisterSchedTask(t SchedTask) error {
	if t == nil {
		return p.RegisterSchedConn(nil)
	}
	return p.RegisterSchedFunc(t.Run)
}

// RegisterSchedConn makes f the scheduler function.
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

// Run runs the program at a place until its scheduler function has returned and
// all of its tasks have ended. The error is why it ended early: a *TaskError,
// what the scheduler function returned, a *SchedError, or the context's.
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

// Stop ends the program as if its scheduler function had returned. Run answers
// an error that gives the reason. It does nothing if the program does not run.
func (p *Program) Stop(reason string) {
	if r := p.running(); r != nil {
		r.do(func(m *lifecycle.Machine) { m.Stop(reason, fmt.Errorf("program %s was stopped: %s", p.name, reason)) })
	}
}

// Kill tells one task to exit. It is not started again, and that is no failure.
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

// Status is how a program stands.
type Status struct {
	Name    string
	Phase   lifecycle.Phase
	Missing string // what is not there while it waits
	Tasks   []TaskStatus
}

// TaskStatus is how a task stands.
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

// Status says how the program stands; Phase is empty if it does not run.
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
