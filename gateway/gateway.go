package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/gateway/internal/limit"
	"github.com/rota-project/rota/gateway/internal/meter"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/internal/listener"
	"github.com/rota-project/rota/internal/logs"
	"github.com/rota-project/rota/internal/tracing"

	"go.opentelemetry.io/otel/trace"
)

// Gateway proxies calls. Create it with New; all methods are safe for concurrent
// use.
type Gateway struct {
	log   *slog.Logger
	base  time.Time
	state atomic.Pointer[state]

	mu      sync.Mutex // guards what follows, and serializes rebuilds
	cfg     Config
	added   []Worker
	removed map[string]bool
	faults  string             // what is wrong with members
	leaving []*upstream.Worker // removed, with calls in flight
	// reloadErr is why the last reload was refused, for status.
	reloadErr error
	listens   []string // the addresses as they were at the start
	pending   string   // what a reload has asked for that takes a restart

	// everywhere are the workers that offer all functions, all are all.
	everywhere, all *group
	// other counts calls of names beyond maxInvented, tasks calls by task.
	other, tasks *function
	rates        limit.Rates
	labels       int         // functions that have a label without being listed
	gone         meter.Tally // counts of functions that were forgotten
	forgot       int64       // when some last were

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	tracer  trace.Tracer // nil if no spans are made
	conns   connSet
	serving sync.Mutex
	lns     map[net.Listener]struct{}
	closing atomic.Bool
	tlsConf atomic.Pointer[tls.Config]

	accepted  atomic.Uint64
	malformed atomic.Uint64 // requests refused as HTTP
	reloads   atomic.Uint64
	via       []byte // what the gateway calls itself, like no other
	dated     atomic.Pointer[[]byte]
	datedAt   int64 // in seconds; the maintaining goroutine's
	ends      meter.Ends
	failures  failures // of all functions
	sampler   *logs.Sampler[kindOfFailure]
	self      http.Handler // the gateway's own paths, as anybody may ask for them
	admin     http.Handler // and as those may who have got as far as AdminHandler
	asking    asking
	askers    askers
	unproxied unproxied
	looking   sync.Mutex // held while it is found out which process calls
}

// New returns a gateway that is ready to Serve. The error is a *rota.FieldError
// if the configuration is wrong. Close it when it is no longer needed.
func New(cfg Config) (*Gateway, error) {
	cfg, err := cfg.normalize()
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		log: cfg.Logger, base: time.Now(), cfg: cfg, listens: cfg.Listen, removed: map[string]bool{},
		everywhere: &group{}, all: &group{}, lns: map[net.Listener]struct{}{}, sampler: newSampler(),
	}
	if cfg.TracerProvider != nil {
		g.tracer = tracing.Tracer(cfg.TracerProvider)
	}
	g.via = fmt.Appendf(nil, "rota-%016x", rand.Uint64())
	g.tellDate()
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if err := g.rebuild(); err != nil {
		g.cancel()
		return nil, err
	}
	p := newPolicy(cfg.Defaults)
	for _, f := range []struct {
		at   **function
		name string
	}{{&g.other, "_other"}, {&g.tasks, "_task"}} {
		*f.at = g.functionLocked(nil, f.name, nil, p)
		(*f.at).everywhere = true
		(*f.at).group.Store(g.everywhere)
	}
	g.other.members = g.state.Load().everywhere
	g.tlsConf.Store(withALPN(cfg.TLS))
	metrics := g.metricsHandler()
	g.self, g.admin = g.ownPaths(metrics, false), g.ownPaths(metrics, true)
	g.wg.Go(func() { g.maintain(g.ctx) })
	if cfg.Members != nil {
		g.wg.Go(func() { g.follow(g.ctx, cfg.Members) })
	}
	return g, nil
}

// now is the monotonic time since the gateway began, in nanoseconds, never 0.
func (g *Gateway) now() int64 { return int64(time.Since(g.base)) + 1 }

// Refresh takes in the members as they are now. They are followed in any case, a
// moment later.
func (g *Gateway) Refresh() {
	_ = g.rebuild() // the configuration was good before
}

// follow rebuilds the state whenever the members change.
func (g *Gateway) follow(ctx context.Context, m Members) {
	for {
		changed := m.Changed()
		g.Refresh()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Reload puts another configuration in force, without dropping a connection or
// a stream. What it says of Listen, Members and spans takes effect at the next start
// only. On an error the old configuration stays, and Status shows the error.
func (g *Gateway) Reload(cfg Config) error {
	cfg, err := cfg.normalize()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.reloadErr = err
		return err
	}
	cfg.Members, cfg.TracerProvider, cfg.TraceCallers = g.cfg.Members, g.cfg.TracerProvider, g.cfg.TraceCallers
	g.pending = ""
	if !slices.Equal(cfg.Listen, g.listens) {
		g.pending = fmt.Sprintf("listen: %s takes a restart, %s stays until then", strings.Join(cfg.Listen, ", "), strings.Join(g.listens, ", "))
	}
	old := g.cfg
	g.cfg = cfg
	if err := g.rebuildLocked(); err != nil {
		g.cfg = old
		g.reloadErr = err
		_ = g.rebuildLocked()
		return err
	}
	p := newPolicy(cfg.Defaults)
	g.other.policy.Store(p)
	g.tasks.policy.Store(p)
	g.tlsConf.Store(withALPN(cfg.TLS))
	g.askers.reset()
	g.reloadErr = nil
	g.reloads.Add(1)
	return nil
}

// ReloadFailed notes why a configuration could not even be read, for Status.
func (g *Gateway) ReloadFailed(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reloadErr = err
}

// ErrClosed is what Serve returns after Shutdown or Close.
var ErrClosed = errors.New("gateway: closed")

// ListenAndServe listens on the configured addresses and serves until ctx ends;
// then it lets the calls in flight finish, for Drain at most.
func (g *Gateway) ListenAndServe(ctx context.Context) error {
	lns, err := g.Listen(ctx)
	if err != nil {
		return err
	}
	return g.ServeAll(ctx, lns)
}

// Listen opens the configured addresses. For localhost those are both of its
// addresses, where the machine has two.
func (g *Gateway) Listen(ctx context.Context) ([]net.Listener, error) {
	var lns []net.Listener
	for _, addr := range g.state.Load().cfg.Listen {
		some, err := listener.All(ctx, addr)
		if err != nil {
			for _, ln := range lns {
				_ = ln.Close()
			}
			return nil, err
		}
		lns = append(lns, some...)
	}
	return lns, nil
}

// ServeAll serves on the listeners until ctx ends.
func (g *Gateway) ServeAll(ctx context.Context, lns []net.Listener) error {
	errs := make(chan error, len(lns))
	for _, ln := range lns {
		go func() { errs <- g.Serve(ln) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	most := g.state.Load().cfg.Drain
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	defer cancel()
	serr := g.Shutdown(grace)
	if errors.Is(serr, context.DeadlineExceeded) {
		serr = fmt.Errorf("gateway: calls that had not ended within the drain time of %s were cut off: %w", most, serr)
	}
	if err == nil || errors.Is(err, ErrClosed) {
		err = serr
	}
	return err
}

// Shutdown stops listening, lets the calls in flight finish until ctx ends, and
// then closes.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.stopListening()
	err := g.conns.drain(ctx)
	g.Close()
	return err
}

// Close stops at once.
func (g *Gateway) Close() {
	g.stopListening()
	g.cancel()
	g.conns.closeAll()
	g.wg.Wait()
	for _, w := range g.state.Load().workers {
		w.Close()
	}
	g.askers.reset()
	g.tellRest(time.Now().Add(failureEvery))
}

// stopListening closes the listeners, those too that Serve is about to be given.
func (g *Gateway) stopListening() {
	g.closing.Store(true)
	g.serving.Lock()
	defer g.serving.Unlock()
	for ln := range g.lns {
		_ = ln.Close()
	}
}
