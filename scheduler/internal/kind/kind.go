// Package kind is how a kind of work is attached to a scheduler beside tasks. Jobs are
// attached so, and so is any other. Package server attaches them.
//
//	          Policy ──► the server's table: who may call what
//	API ────► RegisterAPI ┐
//	workers ► RegisterWork┴► the kind ──► Claims of package capacity: room
//	          Streams ◄── its orders │──► view.Kind: its records, who takes such work
//
// A kind decides for itself what is placed where. It must never write a record without a
// condition, or place what it has not claimed.
package kind

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/relay"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// Node is the scheduler that a kind of work is attached to. Store, View, Capacity and
// Scheduler are set.
type Node struct {
	Store store.Store
	View  *view.View
	// Capacity is the account of workers' capacity that the leader's tasks share.
	Capacity *capacity.Account
	// Scheduler is its name.
	Scheduler string
	// Desk is where output comes in that is asked for, and Peers lead to the schedulers
	// that have the streams of other workers. Nil: there is no other scheduler.
	Desk  *relay.Desk
	Peers *relay.Peers
	// Events takes what becomes of the work. Nil: nobody does.
	Events *events.Recorder
	// Metrics is where what is counted is registered. Nil is nowhere.
	Metrics prometheus.Registerer
	// TracerProvider makes spans. Nil makes none, and keeps no trace with the work.
	TracerProvider trace.TracerProvider
	// TraceCallers takes the word of callers on whether their trace is recorded.
	TraceCallers bool
	// Logger gets what happens. Nil is silent.
	Logger *slog.Logger
}

// Kind is a kind of work.
type Kind struct {
	// Policy says who may call its methods. One that is not in it nobody may call.
	Policy auth.Policy
	// Attach begins it on a scheduler, which has not read the store yet.
	Attach func(Node) Attached
}

// Attached is a kind of work on one scheduler.
type Attached interface {
	// RegisterAPI adds what callers ask, and RegisterWork what workers say.
	RegisterAPI(grpc.ServiceRegistrar)
	RegisterWork(grpc.ServiceRegistrar)
	// Active is how much of it a worker has.
	Active(worker string) int
	// Close ends it. Workers go to another scheduler.
	Close()
}
