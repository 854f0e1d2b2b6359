package orchestrator

import (
	"time"

	"github.com/rota-project/rota/orchestrator"
)

type (
	// Communicator is orchestrator.Communicator of any.
	Communicator = orchestrator.Communicator[any, any]
	// Logger is orchestrator.Logger.
	Logger = orchestrator.Logger
	// Orchestrator is orchestrator.Orchestrator of any.
	Orchestrator = orchestrator.Orchestrator[any, any]
	// OrchestratorOption is orchestrator.Option.
	OrchestratorOption = orchestrator.Option //nolint:revive // its name there
	// Task is orchestrator.Task of any.
	Task = orchestrator.Task[any]
	// TaskOption is orchestrator.TaskOption.
	TaskOption = orchestrator.TaskOption
	// TermStats is orchestrator.TermStats.
	TermStats = orchestrator.TermStats
	// WorkerState is orchestrator.WorkerState of any.
	WorkerState = orchestrator.WorkerState[any, any]
)

// New returns an Orchestrator that expects nothing yet.
func New(c Communicator, options ...OrchestratorOption) *Orchestrator {
	return orchestrator.New(c, options...)
}

// WithLogger sets where news of the terms goes.
func WithLogger(l Logger) OrchestratorOption { return orchestrator.WithLogger(l) }

// WithStats has f called at the end of each term.
func WithStats(f func(TermStats)) OrchestratorOption { return orchestrator.WithStats(f) }

// WithCommunicatorTimeout bounds each call of the Communicator.
func WithCommunicatorTimeout(d time.Duration) OrchestratorOption {
	return orchestrator.WithCommunicatorTimeout(d)
}

// WithTaskInstances asks for n instances of a task.
func WithTaskInstances(n int) TaskOption { return orchestrator.WithTaskInstances(n) }
