package worker

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/rota-project/rota"

	"go.opentelemetry.io/otel/trace"
)

// Config is the configuration of a worker. Only Name and one of Schedulers and Connect are
// required.
type Config struct {
	// Name is the worker's stable name. Two living workers cannot have the same.
	Name string
	// Incarnation names this start of the process. If empty, a name is generated. A
	// supervisor that reports exits chooses it.
	Incarnation string
	// Schedulers are gRPC addresses, host:port, tried in turn.
	Schedulers []string
	// TLS secures the connections to Schedulers. Nil connects in the clear,
	// which only loopback addresses are for.
	TLS *tls.Config
	// DialTLS returns the configuration of each connection, if it may change while the
	// worker runs. It takes precedence over TLS.
	DialTLS func() *tls.Config
	// CallsTLS secures the port for function calls: it must present this worker's
	// certificate and accept only certificates of schedulers (pki.Source.SchedulersOnly).
	// Nil listens in the clear, which gateways use on loopback only.
	CallsTLS *tls.Config
	// LeaseEnded is called when the worker can no longer trust its lease: from then on it
	// must do nothing that another worker may do instead. It is called once for each lease
	// that ends. Nil means no call.
	LeaseEnded func()
	// LeaveAfter, if not nil, is closed by the caller when all other work under the
	// worker's session has ended and was reported: an orderly leave ends the session only
	// then.
	LeaveAfter <-chan struct{}
	// Guard, if not nil, ends this process if it hangs past its lease.
	Guard Guard
	// Connect replaces Schedulers: an embedded scheduler, or a test.
	Connect Connector

	// Zone, Labels, Capacity, MaxTasks and Strength are used by placement; see rota.Worker.
	Zone     string
	Labels   map[string]string
	Capacity map[string]float64
	MaxTasks int
	Strength float64
	// Calls is where the worker answers calls of its functions, host:port; the
	// gateways must be able to reach it. Empty means a port on loopback.
	Calls string
	// RestartGrace is the time for which the worker's instances wait for its return under
	// the same name before they are moved.
	RestartGrace time.Duration
	// NameWait is the time to wait until a predecessor of the same name is certainly gone.
	// Zero means 30 s.
	NameWait time.Duration
	// RoomWait is the time to wait for a place if the cluster has its maximum number of
	// workers: a killed worker keeps its place until its lease ends. Zero means 30 s;
	// negative means no limit.
	RoomWait time.Duration

	// TracerProvider makes the spans of calls, which functions find in the contexts of
	// their requests. Nil makes none.
	TracerProvider trace.TracerProvider
	// Logger logs events of the worker and its instances. Nil logs nothing.
	Logger *slog.Logger
	// Exit is called, with ExitFenced, when an exclusive instance outlives the lease:
	// another worker may be running it by now. Nil means os.Exit, which is the safe choice.
	// If Exit returns, Run returns ErrOutlived at once and leaves the instance running: the
	// caller must then end it, or the process.
	Exit func(code int)

	exits string // what Exit does, for people
}

// Guard watches a worker process from outside. Its methods must not block.
type Guard interface {
	// Until tells the guard until when the lease is trusted.
	Until(t time.Time)
	// Hold says that something begins that must have ended by then; release says
	// that it has.
	Hold() (release func())
}

// unguarded is the Guard of a worker that has none.
type unguarded struct{}

func (unguarded) Until(time.Time) {}
func (unguarded) Hold() func()    { return func() {} }

// ExitFenced is the exit status of a process when an exclusive task ignored the end of its
// context and the lease could no longer be trusted.
const ExitFenced = 75

// ErrLeaseEnded is returned by Err while the worker cannot trust its lease: no scheduler
// that reaches the store has renewed it. The worker keeps asking for a renewal.
var ErrLeaseEnded = errors.New("the lease has ended, and no scheduler has renewed it")

// ErrOutlived is returned by Run when an exclusive instance has outlived its lease and
// Config.Exit has returned.
var ErrOutlived = errors.New("a task outlives its lease")

func (c Config) normalize() (Config, error) {
	w := rota.Worker{
		Name: c.Name, Zone: c.Zone, Labels: c.Labels, Capacity: c.Capacity, MaxTasks: c.MaxTasks, Strength: c.Strength,
	}
	if err := w.Validate(); err != nil {
		return c, fmt.Errorf("worker: %w", err)
	}
	if c.RestartGrace < 0 {
		return c, fmt.Errorf("worker: %w", &rota.FieldError{Field: "restart_grace", Value: c.RestartGrace, Want: "zero or more"})
	}
	if c.Connect == nil {
		if len(c.Schedulers) == 0 {
			return c, fmt.Errorf("worker: %w", &rota.FieldError{Field: "schedulers", Value: "", Want: "at least one address"})
		}
		if c.DialTLS == nil && c.TLS != nil {
			c.DialTLS = func() *tls.Config { return c.TLS }
		}
		c.Connect = dialer(c.Schedulers, c.DialTLS)
	}
	if c.Incarnation == "" {
		c.Incarnation = rand.Text()[:12]
	}
	if c.NameWait == 0 {
		c.NameWait = 30 * time.Second
	}
	if c.RoomWait == 0 {
		c.RoomWait = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Guard == nil {
		c.Guard = unguarded{}
	}
	c.exits = "Config.Exit is called"
	if c.Exit == nil {
		c.Exit, c.exits = os.Exit, fmt.Sprintf("the process ends with status %d", ExitFenced)
	}
	c.Logger = c.Logger.With("worker", c.Name)
	return c, nil
}
