package scheduler

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/sessions"
	"github.com/rota-project/rota/source"
	"github.com/rota-project/rota/store"
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
	// leaving and its successor's joining become one plan. Zero means 25 ms.
	Debounce time.Duration

	// MaxWorkers is the most living workers; one more is refused with
	// rota.ErrTooManyWorkers. Zero is no limit.
	MaxWorkers int
	// BarrierWorkers and BarrierWait make the first plan wait until so many
	// workers have joined, or so long, where no worker lives when a leader
	// takes office. Later joiners pass straight through. Zero workers is no
	// barrier; zero wait means 30 s.
	BarrierWorkers int
	BarrierWait    time.Duration

	// Moves bounds the moves under way. InAll zero means 256; negative is no limit.
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
	// ForgetLost is how long a lost worker stays in lists. Zero means 1 h.
	ForgetLost time.Duration

	// Sources are lists of tasks beside those declared through the API. All
	// schedulers of a cluster have the same; only the leader reads them.
	Sources []*source.Source

	// Logger gets what happens. Nil is silent.
	Logger *slog.Logger
}

func (c Config) normalize() (Config, error) {
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
		{"lease", &c.Lease, sessions.DefaultLease, time.Second},
		{"interval", &c.Interval, time.Minute, 10 * time.Millisecond},
		{"timeout", &c.Timeout, 30 * time.Second, time.Millisecond},
		{"debounce", &c.Debounce, 25 * time.Millisecond, 0},
		{"barrier_wait", &c.BarrierWait, 30 * time.Second, 0},
		{"slow_start", &c.SlowStart, 0, 0},
		{"forget_lost", &c.ForgetLost, time.Hour, 0},
		{"history", &c.History, 0, 0},
	} {
		if *d.value == 0 {
			*d.value = d.zero
		}
		if *d.value < d.least {
			return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: d.field, Value: *d.value, Want: "at least " + d.least.String()})
		}
	}
	for _, n := range []struct {
		field string
		value int
	}{{"max_workers", c.MaxWorkers}, {"barrier_workers", c.BarrierWorkers}, {"max_moves_per_worker", c.Moves.PerWorker}} {
		if n.value < 0 {
			return c, fmt.Errorf("scheduler: %w", &rota.FieldError{Field: n.field, Value: n.value, Want: "zero or more"})
		}
	}
	if c.Moves.InAll == 0 {
		c.Moves.InAll = 256
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
