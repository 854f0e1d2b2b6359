package orchestrator

import "time"

// DefaultTimeout is the default time limit of each call of the Communicator.
const DefaultTimeout = 10 * time.Second

// Option configures an Orchestrator.
type Option func(*settings)

type settings struct {
	log     Logger
	stats   func(TermStats)
	timeout time.Duration
}

// Logger receives log messages of an Orchestrator.
type Logger interface {
	Printf(format string, args ...any)
}

// WithLogger sets the logger for the terms; by default nothing is logged.
func WithLogger(l Logger) Option { return func(s *settings) { s.log = l } }

// WithStats sets a function that NextTerm calls at the end of each term.
func WithStats(f func(TermStats)) Option { return func(s *settings) { s.stats = f } }

// WithCommunicatorTimeout limits the time of each call of the Communicator. A call that
// takes longer counts as failed, whether or not it respects its context. A worker is not
// called while an earlier call to it has not returned. Zero or less means DefaultTimeout.
func WithCommunicatorTimeout(d time.Duration) Option {
	return func(s *settings) {
		if d > 0 {
			s.timeout = d
		}
	}
}

// TermStats describes a term.
type TermStats struct {
	WorkerCount int // workers that answered
}

// TaskOption configures a declared task.
type TaskOption func(*int)

// WithTaskInstances sets the number of instances, each on a different worker; the default
// is 1. Zero means that the task is declared and not run.
func WithTaskInstances(n int) TaskOption { return func(m *int) { *m = n } }

type silence struct{}

func (silence) Printf(string, ...any) {}
