package orchestrator

import "time"

// DefaultTimeout bounds each call of the Communicator.
const DefaultTimeout = 10 * time.Second

// Option changes how an Orchestrator works.
type Option func(*settings)

type settings struct {
	log     Logger
	stats   func(TermStats)
	timeout time.Duration
}

// Logger is what an Orchestrator tells its news to.
type Logger interface {
	Printf(format string, args ...any)
}

// WithLogger sets where news of the terms goes; silent by default.
func WithLogger(l Logger) Option { return func(s *settings) { s.log = l } }

// WithStats has f called at the end of each term, from NextTerm itself.
func WithStats(f func(TermStats)) Option { return func(s *settings) { s.stats = f } }

// WithCommunicatorTimeout bounds each call of the Communicator; a call that is
// late counts as failed, whether or not it heeds its context. A worker is not
// called while an earlier call to it has not returned. Zero or less means
// DefaultTimeout.
func WithCommunicatorTimeout(d time.Duration) Option {
	return func(s *settings) {
		if d > 0 {
			s.timeout = d
		}
	}
}

// TermStats says how a term went.
type TermStats struct {
	WorkerCount int // workers that answered
}

// TaskOption changes what is expected of a task.
type TaskOption func(*int)

// WithTaskInstances asks for n instances, each on a worker of its own; 1 by
// default. Zero means none: the task is listed as expected and not run.
func WithTaskInstances(n int) TaskOption { return func(m *int) { *m = n } }

type silence struct{}

func (silence) Printf(string, ...any) {}
