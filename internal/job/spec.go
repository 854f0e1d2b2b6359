package job

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/text"
)

// Limits of a Spec. They keep a job within one value of the store.
const (
	MaxArgs    = 1024
	MaxEnv     = 256
	MaxBytes   = 128 << 10 // arguments and environment together
	MaxStdin   = 256 << 10
	MaxRetries = 1000
	MaxTimeout = 366 * 24 * time.Hour
	MaxKeep    = 366 * 24 * time.Hour
	// MaxAttempts ends a job that is lost over and over.
	MaxAttempts = 2000
)

// Defaults of a Spec's empty fields.
const (
	DefaultBackoff    = time.Second
	DefaultMaxBackoff = 5 * time.Minute
	DefaultGrace      = 10 * time.Second
	DefaultKeep       = 24 * time.Hour
)

// WorkerDir as a Spec's Dir is the directory in which the worker was started.
const WorkerDir = "."

// Spec is what is asked for. Only Argv must be set.
type Spec struct {
	// Argv is the command; no shell sees it. The worker decides whether it runs it.
	Argv []string
	// Env is added to the clean environment that the worker gives.
	Env map[string]string
	// Dir is the working directory on the worker. Empty means the worker's own
	// choice, WorkerDir the directory in which the worker was started, if jobs may
	// work there.
	Dir string
	// Stdin is what the command reads, at most MaxStdin bytes.
	Stdin []byte
	// Timeout bounds each attempt, from its start. Zero means none.
	Timeout time.Duration
	// Grace is how long the command may take to end when it is asked to. Zero
	// means DefaultGrace.
	Grace time.Duration
	// Resources are the amounts that it takes of a worker's capacity while it runs.
	Resources map[string]float64
	// Worker names the only worker that may run it.
	Worker string
	// Require are label conditions, as in rota.Rules.
	Require []string
	// Retries is how often a failed or timed-out attempt is followed by another,
	// after Backoff that doubles each time up to MaxBackoff.
	Retries             int
	Backoff, MaxBackoff time.Duration
	// Rerun asks for another attempt elsewhere if the worker is lost. Such a job
	// is killed by its worker at the end of the worker's lease, so that it never
	// runs twice at once. Without Rerun it goes on through an outage of the
	// control plane and is found again afterwards.
	Rerun bool
	// Keep is how long the job and its output stay after the end. Zero means
	// DefaultKeep.
	Keep time.Duration
}

// Normalize returns s with the defaults of its empty fields spelled out.
func (s Spec) Normalize() Spec {
	if s.Backoff == 0 {
		s.Backoff = DefaultBackoff
	}
	if s.MaxBackoff == 0 {
		s.MaxBackoff = max(DefaultMaxBackoff, s.Backoff)
	}
	if s.Grace == 0 {
		s.Grace = DefaultGrace
	}
	if s.Keep == 0 {
		s.Keep = DefaultKeep
	}
	return s
}

// Equal reports whether s and t ask for the same, defaults spelled out.
func (s Spec) Equal(t Spec) bool {
	s, t = s.Normalize(), t.Normalize()
	return slices.Equal(s.Argv, t.Argv) && maps.Equal(s.Env, t.Env) && s.Dir == t.Dir && string(s.Stdin) == string(t.Stdin) &&
		s.Timeout == t.Timeout && s.Grace == t.Grace && maps.Equal(s.Resources, t.Resources) && s.Worker == t.Worker &&
		slices.Equal(s.Require, t.Require) && s.Retries == t.Retries && s.Backoff == t.Backoff && s.MaxBackoff == t.MaxBackoff &&
		s.Rerun == t.Rerun && s.Keep == t.Keep
}

// Validate returns a *rota.FieldError for the first field that is not as its
// documentation says. Label conditions are parsed by package placement.
func (s Spec) Validate() error {
	if err := s.validateCommand(); err != nil {
		return err
	}
	for _, d := range []struct {
		field string
		v     time.Duration
		limit time.Duration
	}{
		{"timeout", s.Timeout, MaxTimeout},
		{"grace", s.Grace, time.Hour},
		{"backoff", s.Backoff, MaxTimeout},
		{"max_backoff", s.MaxBackoff, MaxTimeout},
		{"keep", s.Keep, MaxKeep},
	} {
		if d.v < 0 || d.v > d.limit {
			return &rota.FieldError{Field: d.field, Value: d.v.String(), Want: fmt.Sprintf("zero to %v", d.limit)}
		}
	}
	if s.MaxBackoff != 0 && s.MaxBackoff < s.Backoff {
		return &rota.FieldError{Field: "max_backoff", Value: s.MaxBackoff.String(), Want: "backoff or more"}
	}
	if s.Retries < 0 || s.Retries > MaxRetries {
		return &rota.FieldError{Field: "retries", Value: s.Retries, Want: fmt.Sprintf("0 to %d", MaxRetries)}
	}
	if s.Worker != "" {
		if err := (rota.Worker{Name: s.Worker}).Validate(); err != nil {
			return &rota.FieldError{Field: "worker", Value: text.Clip(s.Worker, text.Short), Want: "a worker's name"}
		}
	}
	return s.validateRules()
}

func (s Spec) validateCommand() error {
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return &rota.FieldError{Field: "argv", Value: "", Want: "a command and its arguments; it is missing"}
	}
	if len(s.Argv) > MaxArgs {
		return &rota.FieldError{Field: "argv", Value: len(s.Argv), Want: fmt.Sprintf("at most %d arguments", MaxArgs)}
	}
	if len(s.Env) > MaxEnv {
		return &rota.FieldError{Field: "env", Value: len(s.Env), Want: fmt.Sprintf("at most %d entries", MaxEnv)}
	}
	bytes := 0
	plain := func(field, v string) error {
		bytes += len(v)
		if strings.IndexByte(v, 0) >= 0 {
			return &rota.FieldError{Field: field, Value: text.Clip(v, text.Short), Want: "no NUL byte"}
		}
		if !utf8.ValidString(v) {
			return &rota.FieldError{Field: field, Value: text.Clip(v, text.Short), Want: "UTF-8"}
		}
		return nil
	}
	for _, a := range s.Argv {
		if err := plain("argv", a); err != nil {
			return err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		if k == "" || strings.Contains(k, "=") {
			return &rota.FieldError{Field: "env", Value: text.Clip(k, text.Short), Want: "a name without ="}
		}
		for _, v := range []string{k, s.Env[k]} {
			if err := plain("env", v); err != nil {
				return err
			}
		}
	}
	if err := plain("dir", s.Dir); err != nil {
		return err
	}
	if bytes > MaxBytes {
		return &rota.FieldError{Field: "argv", Value: fmt.Sprintf("%d bytes with its environment", bytes), Want: fmt.Sprintf("at most %d bytes", MaxBytes)}
	}
	if len(s.Stdin) > MaxStdin {
		return &rota.FieldError{Field: "stdin", Value: fmt.Sprintf("%d bytes", len(s.Stdin)), Want: fmt.Sprintf("at most %d bytes", MaxStdin)}
	}
	return nil
}

func (s Spec) validateRules() error {
	if n := max(len(s.Require), len(s.Resources)); n > rota.MaxRules {
		return &rota.FieldError{Field: "require", Value: n, Want: fmt.Sprintf("at most %d", rota.MaxRules)}
	}
	for _, r := range s.Require {
		if r == "" || len(r) > rota.MaxIDLen || !utf8.ValidString(r) {
			return &rota.FieldError{Field: "require", Value: text.Clip(r, text.Short), Want: "a label condition"}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(s.Resources)) {
		if v := s.Resources[k]; k == "" || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			return &rota.FieldError{Field: "resources." + text.Clip(k, text.Short), Value: v, Want: "a finite number, zero or more"}
		}
	}
	return nil
}
