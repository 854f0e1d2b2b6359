package rota

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what a task may carry. They keep a task within one page of the
// store and its name within one line of a terminal.
const (
	// MaxIDLen is the most bytes an id, a name, a group, a key, a kind or a label may have.
	MaxIDLen = 256
	// MaxPayload is the most bytes a payload may have.
	MaxPayload = 64 << 10
	// MaxReplicas is the maximum number of instances of a task.
	MaxReplicas = 10_000
	// MaxRules is the maximum number of rules of one sort, of resources or of labels that a
	// task or a worker may have.
	MaxRules = 64
)

// DefaultKind is the kind of a task that names none.
const DefaultKind = "task"

// Prefixes of the kinds that belong to programs. A worker offers such a kind only if it
// registers a program's function under the name that follows the prefix. No other task
// function runs it, not even one for every kind.
const (
	ProgramKind          = "program/"           // a task function
	ProgramSchedulerKind = "program-scheduler/" // a scheduler function
)

// IsProgramKind reports whether only a registered function of a program may run
// tasks of the kind.
func IsProgramKind(kind string) bool {
	return strings.HasPrefix(kind, ProgramKind) || strings.HasPrefix(kind, ProgramSchedulerKind)
}

// Mode says which property a task keeps when it cannot have both: at most one owner, or at
// least one owner.
type Mode string

const (
	// Exclusive is the default: never two owners. A move stops the old owner
	// before it starts the new one, and a worker that can no longer trust its
	// lease stops the task by itself.
	Exclusive Mode = "exclusive"
	// Available avoids any time without an owner: a move starts the new owner before it
	// stops the old one, and a worker goes on during an outage of the control plane.
	Available Mode = "available"
)

// Task is a named piece of long-lived work. The zero value of each field but ID is useful;
// Normalize fills in the defaults.
type Task struct {
	// ID names the task in its namespace: 1 to MaxIDLen bytes of printable
	// UTF-8 without white space.
	ID string
	// Kind names the function that runs the task; a task is only placed on
	// workers that offer its kind. Empty means DefaultKind.
	Kind string
	// Group is a set of tasks that is also balanced on its own.
	Group string
	// Key, if not empty, places the task by a hash of the key: tasks with the same key stay
	// together, whatever their weights.
	Key string
	// Weight is the task's share of load, in any unit that is the same for all
	// tasks. Zero means 1.
	Weight float64
	// Priority decides who gets scarce capacity: tasks of higher priority are placed and
	// started first.
	Priority float64
	// Payload is handed to the task function as it is; at most MaxPayload bytes.
	Payload []byte
	// Replicas is the number of instances, never two on one worker. Zero means 1.
	Replicas int
	// Mode is the hand-over mode. Empty means Exclusive.
	Mode Mode
	// Resources are the amounts of a worker's capacity that one instance uses, by name
	// ("cpus", "mem_mib", ...).
	Resources map[string]float64
	// Rules say on which workers the task may be, and which it prefers.
	Rules Rules
}

// Rules say on which workers a task may be, and which it prefers.
type Rules struct {
	// Require lists label conditions that a worker must meet, all of them:
	// "zone=a", "zone!=a", "disk in (ssd,nvme)", "disk not in (tape)", "gpu"
	// (exists), "!spot" (does not), "cores>8", "cores<64".
	Require []string
	// Prefer lists label conditions with the weight of meeting them.
	Prefer []Preference
	// Affinity lists tasks or groups whose workers the task should share or avoid.
	Affinity []Affinity
	// Spread divides the task's replicas, or its group, over the values of a label.
	Spread *Spread
	// Gang names a set of tasks that are placed all together or not at all.
	Gang string
	// Pinned names the only worker that may run the task.
	Pinned string
	// Preempt lets the task displace instances of lower priority when capacity is scarce.
	Preempt bool
}

// Preference is a label condition that is worth Weight (above zero) to meet.
type Preference struct {
	Label  string
	Weight float64
}

// Affinity asks for a worker that holds (or, with Anti, does not hold) an instance of the
// task or of a task of the group. Exactly one of Task and Group is set. If Required, the
// worker must match; else a match is worth Weight.
type Affinity struct {
	Task, Group string
	Anti        bool
	Required    bool
	Weight      float64
}

// Spread divides instances over the values of a worker label ("zone" is the
// worker's zone). Shares gives each value its part, in any unit; empty means
// even. The instances counted together are those of the task, or, with
// ByGroup, those of its whole group.
type Spread struct {
	Label   string
	Shares  map[string]float64
	ByGroup bool
}

// Normalize returns t with defaults in its empty fields.
func (t Task) Normalize() Task {
	if t.Kind == "" {
		t.Kind = DefaultKind
	}
	if t.Weight == 0 {
		t.Weight = 1
	}
	if t.Replicas == 0 {
		t.Replicas = 1
	}
	if t.Mode == "" {
		t.Mode = Exclusive
	}
	return t
}

// Equal reports whether t and u are equal after Normalize.
func (t Task) Equal(u Task) bool {
	t, u = t.Normalize(), u.Normalize()
	return t.ID == u.ID && t.Kind == u.Kind && t.Group == u.Group && t.Key == u.Key &&
		t.Weight == u.Weight && t.Priority == u.Priority && t.Replicas == u.Replicas && t.Mode == u.Mode &&
		string(t.Payload) == string(u.Payload) && maps.Equal(t.Resources, u.Resources) && t.Rules.equal(u.Rules)
}

func (r Rules) equal(s Rules) bool {
	if (r.Spread == nil) != (s.Spread == nil) {
		return false
	}
	if r.Spread != nil && (r.Spread.Label != s.Spread.Label || r.Spread.ByGroup != s.Spread.ByGroup ||
		!maps.Equal(r.Spread.Shares, s.Spread.Shares)) {
		return false
	}
	return r.Gang == s.Gang && r.Pinned == s.Pinned && r.Preempt == s.Preempt &&
		slices.Equal(r.Require, s.Require) && slices.Equal(r.Prefer, s.Prefer) && slices.Equal(r.Affinity, s.Affinity)
}

// Validate returns a *FieldError for the first invalid field; the fields' documentation
// says what is valid. Label conditions are parsed by package placement.
func (t Task) Validate() error {
	if err := validName("id", t.ID, true); err != nil {
		return err
	}
	for _, f := range []struct{ field, value string }{
		{"kind", t.Kind}, {"group", t.Group}, {"key", t.Key}, {"gang", t.Rules.Gang}, {"pinned", t.Rules.Pinned},
	} {
		if err := validName(f.field, f.value, false); err != nil {
			return err
		}
	}
	if err := validAmount("weight", t.Weight); err != nil {
		return err
	}
	if math.IsNaN(t.Priority) || math.IsInf(t.Priority, 0) {
		return &FieldError{"priority", t.Priority, "a finite number"}
	}
	if len(t.Payload) > MaxPayload {
		return &FieldError{"payload", fmt.Sprintf("%d bytes", len(t.Payload)), fmt.Sprintf("at most %d bytes", MaxPayload)}
	}
	if t.Replicas < 0 || t.Replicas > MaxReplicas {
		return &FieldError{"replicas", t.Replicas, fmt.Sprintf("1 to %d", MaxReplicas)}
	}
	if t.Mode != "" && t.Mode != Exclusive && t.Mode != Available {
		return &FieldError{"mode", t.Mode, fmt.Sprintf("%q or %q", Exclusive, Available)}
	}
	if err := validAmounts("resources", t.Resources); err != nil {
		return err
	}
	return t.Rules.validate()
}

func (r Rules) validate() error {
	if n := max(len(r.Require), len(r.Prefer), len(r.Affinity)); n > MaxRules {
		return &FieldError{"rules", n, fmt.Sprintf("at most %d rules of a sort", MaxRules)}
	}
	for _, p := range r.Prefer {
		if err := validAmount("prefer.weight", p.Weight); err != nil {
			return err
		}
	}
	for _, a := range r.Affinity {
		if (a.Task == "") == (a.Group == "") {
			return &FieldError{"affinity", a.Task + a.Group, "exactly one of task and group"}
		}
		if err := validAmount("affinity.weight", a.Weight); err != nil {
			return err
		}
	}
	if r.Spread != nil {
		if err := validName("spread.label", r.Spread.Label, true); err != nil {
			return err
		}
		if err := validAmounts("spread.shares", r.Spread.Shares); err != nil {
			return err
		}
	}
	return nil
}

// validName checks the words that name things.
func validName(field, s string, required bool) error {
	switch {
	case s == "" && required:
		return &FieldError{field, s, "a name; it is missing"}
	case len(s) > MaxIDLen:
		return &FieldError{field, strings.ToValidUTF8(s[:32], "") + "...", fmt.Sprintf("at most %d bytes", MaxIDLen)}
	case !plain(s) && (!utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) })):
		return &FieldError{field, s, "printable UTF-8 without white space"}
	}
	return nil
}

// plain reports whether s is visible ASCII throughout, as nearly all names are.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func validAmount(field string, v float64) error {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return &FieldError{field, v, "a finite number, zero or more"}
	}
	return nil
}

func validAmounts(field string, m map[string]float64) error {
	if len(m) == 0 {
		return nil
	}
	if len(m) > MaxRules {
		return &FieldError{field, len(m), fmt.Sprintf("at most %d entries", MaxRules)}
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := validName(field, name, true); err != nil {
			return err
		}
		if err := validAmount(field+"."+name, m[name]); err != nil {
			return err
		}
	}
	return nil
}
