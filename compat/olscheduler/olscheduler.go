// Package olscheduler is the door for those who come from olscheduler: its JSON
// configuration and registry files, and its way of building a gateway in Go.
//
//	cfg := olscheduler.DefaultConfig()
//	cfg.Port = 9020
//	cfg.Registry["foo"] = []string{"pkg0", "pkg1"}
//	cfg.Balancer = olscheduler.NewPackageAware(workerURLs, 3)
//	err := olscheduler.Start(ctx, cfg)
//
// Everything it does is done by package gateway; new programs and files use that
// directly. It must never grow an option that olscheduler did not have.
package olscheduler

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway"
)

// Defaults of Config.
const (
	DefaultHost     = "localhost"
	DefaultPort     = 9080
	DefaultBalancer = "round-robin"
)

// Config is what olscheduler's configuration said. The zero value listens on
// DefaultHost and DefaultPort and has no workers.
type Config struct {
	Host string
	Port int
	// Registry maps the name of each function to the packages that it needs, the
	// largest first. If it is empty, functions of any name may be called.
	Registry map[string][]string
	// Balancer picks a worker for each call. Nil is round-robin over no workers.
	Balancer *Balancer
	// Unknown are keys of the file that Load passed over.
	Unknown []string
	// Logger gets what operators should know. Nil means slog.Default.
	Logger *slog.Logger
}

// DefaultConfig returns a Config with its defaults spelled out.
func DefaultConfig() Config {
	return Config{Host: DefaultHost, Port: DefaultPort, Registry: map[string][]string{}, Balancer: NewRoundRobin(nil)}
}

// WorkerRefusals are the answers by which a current OpenLambda worker says that it has
// not run a call, or perhaps not.
func WorkerRefusals() []gateway.WorkerRefusal {
	return []gateway.WorkerRefusal{
		{Status: http.StatusTooManyRequests, Begins: "lambda function queue is full"},
		{Status: http.StatusTooManyRequests, Begins: "lambda instance queue is full"},
		{Status: http.StatusInternalServerError, Begins: "could not create Sandbox:", Failing: true},
		{Status: http.StatusBadGateway, Begins: "RoundTrip failed:", Failing: true, MayHaveRun: true},
	}
}

// Balancer is a way to pick, and the workers to pick from.
type Balancer struct {
	name      string
	threshold uint
	picker    gateway.Picker // of the user's own; nil: the one of that name
	workers   []gateway.Worker
}

func newBalancer(name string, urls []url.URL) *Balancer {
	b := &Balancer{name: name}
	for _, u := range urls {
		b.workers = append(b.workers, gateway.Worker{URL: u.String()})
	}
	return b
}

// NewRoundRobin takes the workers in turn.
func NewRoundRobin(workerURLs []url.URL) *Balancer { return newBalancer("round-robin", workerURLs) }

// NewRandom takes a worker at random, in proportion to the weight of the same
// place in weights; a worker without one weighs 1, a worker of weight 0 is never
// taken.
func NewRandom(workerURLs []url.URL, weights ...uint) *Balancer {
	b := newBalancer("random", workerURLs)
	for i := range b.workers {
		if i < len(weights) {
			b.workers[i].Weight = weight(weights[i])
		}
	}
	return b
}

func weight(w uint) int {
	if w == 0 {
		return gateway.NoWeight
	}
	return int(min(w, 1<<20))
}

// NewLeastLoaded takes the worker with the fewest calls in flight.
func NewLeastLoaded(workerURLs []url.URL) *Balancer { return newBalancer("least-loaded", workerURLs) }

// NewHashingBounded hashes the function's name consistently, with bounded loads.
func NewHashingBounded(workerURLs []url.URL) *Balancer {
	return newBalancer("hashing-bounded", workerURLs)
}

// NewPackageAware takes the worker that has the function's largest package; from
// loadThreshold calls in flight on it the least loaded one. 0 is no threshold.
func NewPackageAware(workerURLs []url.URL, loadThreshold uint) *Balancer {
	b := newBalancer("pkg-aware", workerURLs)
	b.threshold = loadThreshold
	return b
}

// NewCustom takes the worker that a rule of your own picks. A worker's name there
// is its URL.
func NewCustom(workerURLs []url.URL, rule gateway.Picker) *Balancer {
	b := newBalancer("", workerURLs)
	b.picker = rule
	return b
}

// Gateway returns the configuration in the gateway's own terms.
func (c Config) Gateway() (gateway.Config, error) {
	if c.Host == "" {
		c.Host = DefaultHost
	}
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Port < 1 || c.Port > 65535 {
		return gateway.Config{}, &rota.FieldError{Field: "port", Value: c.Port, Want: "1 to 65535"}
	}
	if c.Balancer == nil {
		c.Balancer = NewRoundRobin(nil)
	}
	g := gateway.Config{
		Listen:    []string{net.JoinHostPort(c.Host, strconv.Itoa(c.Port))},
		Workers:   c.Balancer.workers,
		Defaults:  gateway.Policy{Balancer: c.Balancer.name, LoadThreshold: c.Balancer.threshold, Picker: c.Balancer.picker},
		Functions: map[string]gateway.Function{},
		Closed:    len(c.Registry) > 0,
		Logger:    c.Logger,

		WorkerRefusals: WorkerRefusals(),
	}
	for name, pkgs := range c.Registry {
		g.Functions[name] = gateway.Function{Packages: pkgs}
	}
	return g, nil
}

// New returns the gateway that the configuration describes.
func New(c Config) (*gateway.Gateway, error) {
	g, err := c.Gateway()
	if err != nil {
		return nil, err
	}
	return gateway.New(g)
}

// Start serves until ctx ends. It returns an error if the configuration is wrong
// or the address cannot be listened on.
func Start(ctx context.Context, c Config) error {
	g, err := New(c)
	if err != nil {
		return err
	}
	defer g.Close()
	return g.ListenAndServe(ctx)
}

// Handler returns the gateway as a handler for an http.Server of your own, under
// whatever names that has. Close the gateway when the server is done.
func Handler(c Config) (http.Handler, *gateway.Gateway, error) {
	cfg, err := c.Gateway()
	if err != nil {
		return nil, nil, err
	}
	cfg.Hosts = []string{"*"}
	g, err := gateway.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	return g.Handler(), g, nil
}
