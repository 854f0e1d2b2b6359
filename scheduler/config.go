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

// Config says how a scheduler schedules. Only Store is needed.
type Config struct {
	// Store is the truth that all schedulers of the cluster share.
	Store store.Store
	// Name tells schedulers apart. Empty makes one of the host's name.
	Name string
	// GRPC and HTTP are where others reach this scheduler, host:port; workers
	// are told all GRPC addresses for reconnecting.
	GRPC, HTTP string

	// Lease is how long a worker or the leader is trusted without a renewal: a
	// worker that is cut off is replaced after it, a leader too. Shorter
	// notices sooner and bears shorter pauses of network, disk and processes.
	// Zero means 5 s; at least 1 s.
	Lease time.Duration
	// Interval is the most time between two passes, and how often sources are
	// read. Zero means 60 s.
	Interval time.Duration
	// Timeout bounds one reading of a source. Zero means 30 s.
	Timeout time.Duration
	// Debounce is how long a pass waits for more changes, so that a worker's
	// leaving and its successor's joining become one plan. Zero means 50 ms.
	Debounce time.Duration

	// MaxWorkers is the most living workers; one more is refused with
	// rota.ErrTooManyWorkers. Zero is no limit.
	MaxWorkers int
	// BarrierWorkers and BarrierWait make the first plan wait until so many
	// workers have joined, or so long, where no worker lives when a leader
	// takes office. Later joiners pass straight through. Zero workers is no
	// barrier; zero wait means 5 s.
	BarrierWorkers int
	BarrierWait    time.Duration

	// Moves bounds the moves under way. InAll zero means 1,000; negative is no limit.
	Moves ownership.Limits
	// SlowStart is how long a worker takes to its full strength that joins after
	// the leader's first plan, in five equal steps; one that returns within its
	// restart grace is there at once. It spares workers with cold caches. What a
	// plan that is only asked for says is what comes when it is over. Zero is no
	// slow start.
	SlowStart time.Duration
	// Placement is how tasks are placed.
	Placement placement.Options
	// History is how much of the store's history is kept: the leader compacts what is
	// older, once a minute, for all users of that store. Zero leaves it alone.
	History time.Duration
	// SuspectAfter is after how many deaths of workers with it on board, within ten
	// minutes, a task is suspected of killing them: it waits, is tried apart from other
	// suspects, and is held if it kills again, until somebody releases it. Zero means 3;
	// negative suspects nobody.
	SuspectAfter int
	// Good says whether the worker at the other end of a stream may still speak, by its
	// certificate; one that may not is cut off, not dead. Nil: it may.
	Good func(ctx context.Context) error
	// Peer connects to another scheduler's gRPC address, for what its workers keep: the
	// output of jobs and tasks. Nil: that cannot be read here.
	Peer func(address string) (*grpc.ClientConn, error)
	// Events are how much of what happened is kept. Their Keep is at most MaxEvents, their
	// Age at least a minute; of those of several schedulers the least hold.
	Events EventLimits
	// ForgetLost is how long a lost worker stays in lists. Zero means 1 h.
	ForgetLost time.Duration

	// Sources are lists of tasks beside those declared through the API. All
	// schedulers of a cluster have the same; only the leader reads them.
	Sources []*source.Source
	// Hold is the part of its tasks above which a source's list may not remove more at
	// once: such a list, and one that removes all, is held until it is confirmed
	// (Service.ConfirmList), or has been the same for HoldFor. One or two tasks may
	// always go, as long as any stay. Zero means 0.5; 1 holds none.
	Hold float64
	// HoldFor is how long a held list must have been the same to be taken without
	// confirmation. Every leader counts anew. Zero means 10 min; negative: for ever.
	HoldFor time.Duration

	// TracerProvider makes the spans of passes. Nil makes none.
	TracerProvider trace.TracerProvider
	// Logger gets what happens. Nil is silent.
	Logger *slog.Logger
}

// MaxEvents is the most events that may be kept of a sort: every scheduler has them all in
// memory.
const MaxEvents = 100_000

// Defaults are what zero means in a Config, for the library and the binary alike.
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
		return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: "hold", Value: c.Hold, Want: "a part of the whole, above 0, at most 1"})
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
