package engine

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// Limits and defaults of a pool.
const (
	MaxSize             = 10_000
	MaxCommand          = 256     // words
	MaxCommandBytes     = 8 << 10 // of all of them
	MaxOptions          = 64
	DefaultIdleAfter    = 10 * time.Minute
	DefaultStartTimeout = 5 * time.Minute
	MinDuration         = time.Second
	MaxDuration         = 7 * 24 * time.Hour
)

// NamePrefix is the prefix of the names of all workers of pools, and of no others:
// "pool.<pool>.<suffix>".
const NamePrefix = "pool."

// WorkerName returns the name of a pool's worker. A suffix is never reused.
func WorkerName(pool, suffix string) string { return NamePrefix + pool + "." + suffix }

// PoolLabel is the label of each worker of a pool; its value is the pool's name. Work that
// requires "pool=web" runs only on workers of the pool web.
const PoolLabel = "pool"

// Pool is a desired set of workers.
type Pool struct {
	// Name has 1 to 40 lower-case letters, digits and dashes.
	Name string
	// Engine is one of Names.
	Engine string
	// Size is the number of workers.
	Size Size
	// Preference orders the pools that could run waiting work: lower values first.
	Preference int
	// IdleAfter is the time after which surplus workers are stopped. Zero means
	// DefaultIdleAfter.
	IdleAfter time.Duration
	// StartTimeout is the maximum time from a worker's start until it joins, and the
	// validity of its join token. Zero means DefaultStartTimeout.
	StartTimeout time.Duration
	// Options are the engine's own, see Options.
	Options  map[string]string
	Template Template
}

// Size is the number of workers of a pool: at least From, at most To. In a fixed pool both
// are equal.
type Size struct{ From, To int }

// Fixed reports whether the size does not depend on load.
func (s Size) Fixed() bool { return s.From == s.To }

func (s Size) String() string {
	if s.Fixed() {
		return fmt.Sprint(s.From)
	}
	return fmt.Sprintf("%d to %d", s.From, s.To)
}

// Template describes the workers of a pool.
type Template struct {
	// Role is RoleWorker, the only role. Empty means the same.
	Role string
	// Zone, Labels, Kinds, Capacity, MaxTasks and Strength are those of rota.Worker. Zone,
	// Labels, Kinds and Capacity are binding: a worker with other values is refused. Empty
	// Kinds means all kinds that Command can run.
	Zone     string
	Labels   map[string]string
	Kinds    []string
	Capacity map[string]float64
	MaxTasks int
	Strength float64
	// Command is the program and its arguments, started without a shell. The program "rota"
	// means the engine's own.
	Command []string
}

// RoleWorker is the role of workers in a template.
const RoleWorker = "worker"

// The engines.
const (
	Kubernetes = "kubernetes" // pods of a cluster that Kubernetes runs
	Local      = "local"      // processes on the scheduler's machine
	Nomad      = "nomad"      // jobs of a cluster that Nomad runs
	Slurm      = "slurm"      // jobs of a cluster that Slurm runs
)

// Normalize returns the pool with its defaults and the label PoolLabel filled in.
func (p Pool) Normalize() Pool {
	if p.IdleAfter == 0 {
		p.IdleAfter = DefaultIdleAfter
	}
	if p.StartTimeout == 0 {
		p.StartTimeout = DefaultStartTimeout
	}
	if p.Template.Role == "" {
		p.Template.Role = RoleWorker
	}
	labels := map[string]string{PoolLabel: p.Name}
	maps.Copy(labels, p.Template.Labels)
	p.Template.Labels = labels
	return p
}

var poolName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Validate returns a *rota.FieldError for the first field that violates its documentation.
func (p Pool) Validate() error {
	if !poolName.MatchString(p.Name) {
		return &rota.FieldError{Field: "name", Value: text.Clip(p.Name, text.Short), Want: "1 to 40 small letters, digits and dashes, with no dash at either end"}
	}
	if err := CheckName(p.Engine); err != nil {
		return err
	}
	switch s := p.Size; {
	case s.From < 0:
		return &rota.FieldError{Field: "size.from", Value: s.From, Want: "zero or more"}
	case s.To < 0 || s.To > MaxSize:
		return &rota.FieldError{Field: "size.to", Value: s.To, Want: fmt.Sprintf("0 to %d", MaxSize)}
	case s.From > s.To:
		return &rota.FieldError{Field: "size.from", Value: s.From, Want: fmt.Sprintf("no more than size.to, which is %d", s.To)}
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"idle_after", p.IdleAfter}, {"start_timeout", p.StartTimeout}} {
		if d.value != 0 && (d.value < MinDuration || d.value > MaxDuration) {
			return &rota.FieldError{Field: d.field, Value: d.value, Want: fmt.Sprintf("%v to %v", MinDuration, MaxDuration)}
		}
	}
	if err := p.checkOptions(); err != nil {
		return err
	}
	if !p.Size.Fixed() && len(p.Template.Kinds) == 0 {
		return &rota.FieldError{Field: "template.kinds", Value: "", Want: "the kinds of task that its workers run: a pool whose size follows the load needs them"}
	}
	if label, ok := p.Template.Labels[PoolLabel]; ok && label != p.Name {
		return &rota.FieldError{Field: "template.labels." + PoolLabel, Value: text.Clip(label, text.Short), Want: "no such label: each worker of the pool has it, with the pool's name"}
	}
	return p.Normalize().Template.validate()
}

// NoSize returns the error of a pool without a size.
func NoSize() *rota.FieldError {
	return &rota.FieldError{Field: "size", Value: "", Want: "a number of workers, or {from: 1, to: 8}; it is missing"}
}

// CheckName returns a *rota.FieldError unless an engine of this name exists.
func CheckName(name string) error {
	if slices.Contains(Names(), name) {
		return nil
	}
	there := strings.Join(Names(), ", ")
	if name == "mesos" {
		return &rota.FieldError{Field: "engine", Value: name, Want: "one of " + there + "; Apache Mesos was retired in 2025, and these took its place"}
	}
	return &rota.FieldError{Field: "engine", Value: text.Clip(name, text.Short), Want: "one of " + there}
}

func (p Pool) checkOptions() error {
	if len(p.Options) > MaxOptions {
		return &rota.FieldError{Field: "options", Value: len(p.Options), Want: fmt.Sprintf("at most %d", MaxOptions)}
	}
	known := Options(p.Engine)
	for _, name := range slices.Sorted(maps.Keys(p.Options)) {
		check, ok := known[name]
		if !ok {
			want := "no options: the engine " + p.Engine + " has none"
			if len(known) > 0 {
				want = "one of " + strings.Join(slices.Sorted(maps.Keys(known)), ", ") + " for the engine " + p.Engine
			}
			return &rota.FieldError{Field: "options", Value: text.Clip(name, text.Short), Want: want}
		}
		if want := check(p.Options[name]); want != "" {
			return &rota.FieldError{Field: "options." + name, Value: text.Clip(p.Options[name], text.Short), Want: want}
		}
	}
	for _, name := range rooms[p.Engine].needed {
		if _, ok := p.Options[name]; !ok {
			return &rota.FieldError{Field: "options." + name, Value: "", Want: known[name]("") + "; it is missing"}
		}
	}
	return nil
}

func (t Template) validate() error {
	if t.Role != "" && t.Role != RoleWorker {
		return &rota.FieldError{Field: "template.role", Value: text.Clip(t.Role, text.Short), Want: RoleWorker}
	}
	w := t.Worker("w")
	if err := w.Validate(); err != nil {
		return within("template.", err)
	}
	for _, list := range []struct {
		field string
		words []string
	}{
		{"template.kinds", t.Kinds},
		{"template.labels", slices.Sorted(maps.Keys(t.Labels))},
		{"template.labels", slices.Sorted(maps.Values(t.Labels))},
		{"template.capacity", slices.Sorted(maps.Keys(t.Capacity))},
	} {
		for _, word := range list.words {
			if strings.ContainsAny(word, ",=\n") { // they go to the worker as its options do
				return &rota.FieldError{Field: list.field, Value: text.Clip(word, text.Short), Want: "no commas, equals signs and line ends"}
			}
		}
	}
	if len(t.Command) == 0 {
		return &rota.FieldError{Field: "template.command", Value: "", Want: "a program and its arguments, as in [rota, worker, --exec, 'web=serve {ID:word}']; it is missing"}
	}
	if len(t.Command) > MaxCommand {
		return &rota.FieldError{Field: "template.command", Value: len(t.Command), Want: fmt.Sprintf("at most %d words", MaxCommand)}
	}
	total := 0
	for n, word := range t.Command {
		if n == 0 && word == "" || strings.ContainsRune(word, 0) {
			return &rota.FieldError{Field: "template.command", Value: text.Clip(word, text.Short), Want: "a program and its arguments, without NUL"}
		}
		total += len(word) + 1
	}
	if total > MaxCommandBytes {
		return &rota.FieldError{Field: "template.command", Value: fmt.Sprintf("%d bytes", total), Want: fmt.Sprintf("at most %d bytes", MaxCommandBytes)}
	}
	return nil
}

// within puts the name of a table before the field of an error.
func within(table string, err error) error {
	if fe, ok := err.(*rota.FieldError); ok { //nolint:errorlint // Validate returns it as it is
		return &rota.FieldError{Field: table + fe.Field, Value: fe.Value, Want: fe.Want}
	}
	return err
}

// Worker returns a worker of this template, as placement uses it.
func (t Template) Worker(name string) rota.Worker {
	return rota.Worker{
		Name: name, Zone: t.Zone, Labels: t.Labels, Kinds: t.Kinds, Capacity: t.Capacity, MaxTasks: t.MaxTasks, Strength: t.Strength,
	}
}

// Binds returns a *rota.FieldError for the first property of a worker that differs from the
// template. It ignores labels for which free returns true: those by which programs and
// functions are found.
func (t Template) Binds(w rota.Worker, free func(label string) bool) error {
	if w.Zone != t.Zone {
		return &rota.FieldError{Field: "zone", Value: text.Clip(w.Zone, text.Short), Want: fmt.Sprintf("%q, as in the template of its pool", t.Zone)}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Labels)) {
		if got, ok := w.Labels[name]; !ok || got != t.Labels[name] {
			return &rota.FieldError{Field: "labels." + name, Value: text.Clip(got, text.Short), Want: fmt.Sprintf("%q, as in the template of its pool", t.Labels[name])}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Labels)) {
		if _, ok := t.Labels[name]; !ok && !free(name) {
			return &rota.FieldError{Field: "labels", Value: text.Clip(name, text.Short), Want: "labels as in the template of its pool"}
		}
	}
	if len(t.Kinds) > 0 {
		for _, kind := range w.Kinds {
			if !slices.Contains(t.Kinds, kind) {
				return &rota.FieldError{Field: "kinds", Value: text.Clip(kind, text.Short), Want: "kinds as in the template of its pool: " + strings.Join(t.Kinds, ", ")}
			}
		}
	}
	if !maps.Equal(w.Capacity, t.Capacity) {
		return &rota.FieldError{Field: "capacity", Value: fmt.Sprint(w.Capacity), Want: fmt.Sprintf("%v, as in the template of its pool", t.Capacity)}
	}
	return nil
}
