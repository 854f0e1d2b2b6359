package scheduler

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/blame"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
)

// Config is the configuration of a scheduler. Only Store is required.
type Config struct {
	// Store is the store that all schedulers of the cluster share.
	Store store.Store
	// Name must be unique among the schedulers. If empty, it is made from the host name.
	Name string
	// GRPC and HTTP are where others reach this scheduler, host:port; workers
	// are told all GRPC addresses for reconnecting.
	GRPC, HTTP string

	// Lease is the time for which a worker or the leader is trusted without a renewal:
	// after it, a worker or a leader that is cut off is replaced. A shorter lease notices
	// losses sooner, and tolerates only shorter pauses of network, disk and processes. Zero
	// means 5 s; at least 1 s.
	Lease time.Duration
	// Interval is the maximum time between two passes, and the interval at which sources
	// are read. Zero means 60 s.
	Interval time.Duration
	// Timeout limits one reading of a source. Zero means 30 s.
	Timeout time.Duration
	// Debounce is the time that a pass waits for more changes, so that the leave of a
	// worker and the join of its successor become one plan. Zero means 50 ms.
	Debounce time.Duration

	// MaxWorkers is the maximum number of live workers; a further one is refused with
	// rota.ErrTooManyWorkers. Zero means no limit.
	MaxWorkers int
	// If no worker is alive when a leader takes office, its first plan waits until
	// BarrierWorkers workers have joined, or for BarrierWait. Workers that join later do
	// not wait. Zero workers means no barrier; zero wait means 5 s.
	BarrierWorkers int
	BarrierWait    time.Duration

	// Moves limits the moves in progress. InAll zero means 1,000; negative means no limit.
	Moves ownership.Limits
	// SlowStart is the ramp-up time, in five equal steps, of a worker that joins after the
	// leader's first plan; a worker that returns within its restart grace has its full
	// strength at once. It spares workers with cold caches. A requested plan (a dry run)
	// shows the state after the ramp-up. Zero means no slow start.
	SlowStart time.Duration
	// Placement has the options of placement.
	Placement placement.Options
	// History is the age of the store's history to keep: once a minute, the leader compacts
	// older revisions, for all users of that store. Zero disables compaction.
	History time.Duration
	// SuspectAfter is the number of workers that die while running a task, within ten
	// minutes, after which the task is suspected of killing them: it waits, is tried apart
	// from other suspects, and is held if it kills again, until it is released. Zero means
	// 3; negative disables it.
	SuspectAfter int
	// Good reports whether the certificate of the worker at the other end of a stream is
	// still valid. A worker without a valid one is cut off, and does not count as dead. Nil
	// means always valid.
	Good func(ctx context.Context) error
	// Peer connects to another scheduler's gRPC address, to read the output of jobs and
	// tasks that its workers keep. If nil, that output cannot be read here.
	Peer func(address string) (*grpc.ClientConn, error)
	// Events limits the events that are kept. Keep is at most MaxEvents, Age at least a
	// minute. If schedulers differ, the smallest limits apply.
	Events EventLimits
	// ForgetLost is the time for which a lost worker stays in lists. Zero means 1 h.
	ForgetLost time.Duration

	// Sources are task lists in addition to tasks declared through the API. All schedulers
	// of a cluster must have the same sources; only the leader reads them.
	Sources []*source.Source
	// Hold is the largest fraction of a source's tasks that a new list may remove. A list
	// that removes more, or all, is held until it is confirmed (Service.ConfirmList) or has
	// been unchanged for HoldFor. One or two tasks may always be removed, as long as any
	// remain. Zero means 0.5; 1 disables holds.
	Hold float64
	// HoldFor is the time for which a held list must be unchanged to be accepted without
	// confirmation. Every leader starts the time again. Zero means 10 min; negative means
	// never.
	HoldFor time.Duration

	// TracerProvider makes the spans of passes. Nil makes none.
	TracerProvider trace.TracerProvider
	// Logger logs what happens. Nil logs nothing.
	Logger *slog.Logger
}

// MaxEvents is the upper limit of Keep: every scheduler holds all events in memory.
const MaxEvents = 100_000

// Defaults returns the values that zero means in a Config, for the library and the binary
// alike.
func Defaults() Config {
	return Config{
		Lease: sessions.DefaultLease, Interval: time.Minute, Timeout: 30 * time.Second, Debounce: 50 * time.Millisecond,
		BarrierWait: 5 * time.Second, Moves: ownership.Limits{InAll: 1000}, ForgetLost: time.Hour,
		Hold: 0.5, HoldFor: 10 * time.Minute, SuspectAfter: blame.Default().Deaths,
		Events: EventLimits{Keep: events.DefaultKeep, Age: events.DefaultAge},
	}
}

func (c Config) normalize() (Config, error) {
	def := Defaults()
	if c.Store == nil {
		return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: "store", Value: "", Want: "a store"})
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			host = "scheduler"
		}
		c.Name = host + "-" + strings.ToLower(rand.Text()[:4])
	}
	for _, d := range []struct {
		field string
		value *time.Duration
		zero  time.Duration
		least time.Duration
	}{
		{"lease", &c.Lease, def.Lease, time.Second},
		{"interval", &c.Interval, def.Interval, 10 * time.Millisecond},
		{"timeout", &c.Timeout, def.Timeout, time.Millisecond},
		{"debounce", &c.Debounce, def.Debounce, 0},
		{"barrier_wait", &c.BarrierWait, def.BarrierWait, 0},
		{"slow_start", &c.SlowStart, def.SlowStart, 0},
		{"forget_lost", &c.ForgetLost, def.ForgetLost, 0},
		{"history", &c.History, def.History, 0},
	} {
		*d.value = cmp.Or(*d.value, d.zero)
		if *d.value < d.least {
			return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: d.field, Value: *d.value, Want: "at least " + d.least.String()})
		}
	}
	c.Events.Keep, c.Events.Age = cmp.Or(c.Events.Keep, def.Events.Keep), cmp.Or(c.Events.Age, def.Events.Age)
	switch {
	case c.Events.Keep > MaxEvents:
		return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: "events.keep", Value: c.Events.Keep, Want: fmt.Sprintf("at most %d", MaxEvents)})
	case c.Events.Age < time.Minute:
		return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: "events.age", Value: c.Events.Age, Want: "at least 1m"})
	}
	for _, n := range []struct {
		field string
		value int
	}{{"max_workers", c.MaxWorkers}, {"barrier_workers", c.BarrierWorkers}, {"max_moves_per_worker", c.Moves.PerWorker}} {
		if n.value < 0 {
			return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: n.field, Value: n.value, Want: "zero or more"})
		}
	}
	c.Hold, c.HoldFor = cmp.Or(c.Hold, def.Hold), cmp.Or(c.HoldFor, def.HoldFor)
	c.SuspectAfter, c.Moves.InAll = cmp.Or(c.SuspectAfter, def.SuspectAfter), cmp.Or(c.Moves.InAll, def.Moves.InAll)
	if !(c.Hold > 0 && c.Hold <= 1) {
		return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: "hold", Value: c.Hold, Want: "a fraction above 0, at most 1"})
	}
	if _, err := placement.New(c.Placement); err != nil {
		return c, fmt.Errorf("scheduler: %w", err)
	}
	names := map[string]bool{}
	for _, s := range c.Sources {
		if s.Name == "" || names[s.Name] {
			return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: "sources", Value: s.Name, Want: "names, each once"})
		}
		names[s.Name] = true
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("scheduler", c.Name)
	return c, nil
}
