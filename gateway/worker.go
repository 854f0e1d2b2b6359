package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/balance"
)

// worker is a worker as the gateway runs it. It lives as long as its name and
// incarnation are known; configurations come and go around it.
type worker struct {
	name        string
	incarnation string
	url         *url.URL
	network     string // tcp or unix
	addr        string // host:port to dial, or the path of a socket
	host        string // what an active check sends as Host
	base        string // of paths; empty, or /... without a slash at the end
	tls         bool
	h2c         bool
	bal         *balance.Worker
	pool        pool
	clients     clients
	resolver    *net.Resolver // nil is the system's
	asks        atomic.Bool   // for a certificate of ours
	unshown     atomic.Bool   // and none was for it
	health      health
	control     control                       // refuses addresses at which no worker may be
	member      func(name string) *tls.Config // of a cluster's worker
	trust       atomic.Pointer[tls.Config]    // of others on https; nil is the system's
	reply       atomic.Pointer[reply]         // its last one to a check or to /status

	weight atomic.Int64 // as in balance.Member
	// ramping from when slow start began, in nanoseconds; 0 if not.
	ramp atomic.Int64

	// dropped is when an idle connection was last found to have died, and
	// dropsAfter after how long, in nanoseconds.
	dropped, dropsAfter atomic.Int64

	// epoch is how often connections were to be made anew, because the worker's name has
	// moved or other certificates are in force; those of an older one are not kept.
	epoch     atomic.Uint32
	addrs     []string // where the name led; resolve's
	resolving atomic.Bool

	calls    atomic.Uint64 // answers begun
	failures atomic.Uint64 // calls that failed on it, or that it refused
	// window counts for outlier ejection, reset by the health loop.
	windowOK, windowBad atomic.Uint64
}

func newWorker(name, incarnation string, u *url.URL, resolver *net.Resolver) *worker {
	w := &worker{
		name: name, resolver: resolver, incarnation: incarnation, url: u, network: "tcp", host: u.Host, addr: u.Host,
		base: strings.TrimRight(u.EscapedPath(), "/"), tls: u.Scheme == "https", h2c: u.Scheme == "h2c" || u.Scheme == schemeH2CUnix,
	}
	switch {
	case isSocket(u):
		w.network, w.addr, w.host, w.base = "unix", u.Opaque, "localhost", ""
	case u.Port() == "":
		port := "80"
		if w.tls {
			port = "443"
		}
		w.addr = net.JoinHostPort(u.Hostname(), port)
	}
	w.bal = balance.NewWorker(name)
	w.bal.Tag = w
	w.pool.init()
	return w
}

// proves says that it can be told of the worker's connections what of them the worker
// has not read.
func (w *worker) proves() bool { return canProveUnread && !w.tls && w.network == "tcp" }

// named says that the worker is at a name, which may move.
func (w *worker) named() bool { return w.network == "tcp" && net.ParseIP(w.url.Hostname()) == nil }

// resolveEvery is how often the names of workers are looked up anew.
const resolveEvery = 5 * time.Second

// resolve looks up where the worker's name leads. If that has changed, connections
// that were made before are used no more once they are idle.
func (w *worker) resolve(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolveEvery)
	defer cancel()
	r := w.resolver
	if r == nil {
		r = net.DefaultResolver
	}
	addrs, err := r.LookupHost(ctx, w.url.Hostname())
	if err != nil { // what was known may still be right
		return
	}
	slices.Sort(addrs)
	if !slices.Equal(addrs, w.addrs) { // at first too: nobody knows where the first ones went
		w.addrs = addrs
		w.renew()
	}
}

// renew has new connections made: those that there are end when they are idle.
func (w *worker) renew() {
	w.epoch.Add(1)
	w.pool.flush()
	w.clients.reset()
}

// close closes the worker's idle connections, and later ones when they become idle.
func (w *worker) close() {
	w.pool.close()
	w.clients.reset()
}

// dropMemory is how long a worker is remembered that drops idle connections.
const dropMemory = time.Minute

// drops notes that a connection has died after it was idle for so long.
func (w *worker) drops(now, idle int64) {
	idle = max(idle, 1)
	if old := w.dropsAfter.Load(); old == 0 || idle < old || now-w.dropped.Load() > int64(dropMemory) {
		w.dropsAfter.Store(idle)
	}
	w.dropped.Store(now)
}

// keepsFor is how long the worker's connections may have been idle for a call
// that must not be sent twice: half of what has been seen to be too long. Where
// the worker's system has acknowledged a call that its program never read,
// nothing could tell that afterwards.
func (w *worker) keepsFor(now int64) time.Duration {
	after := w.dropsAfter.Load()
	if after == 0 || now-w.dropped.Load() > int64(dropMemory) {
		return idleFor
	}
	if after < int64(atOnce) {
		return 0
	}
	return time.Duration(after / 2)
}

// atOnce is what counts as no time at all: a worker that hangs up so soon after an
// answer might do so while a call is on its way.
const atOnce = 2 * time.Millisecond

// of returns the gateway's worker of a balance.Worker.
func of(b *balance.Worker) *worker {
	if b == nil {
		return nil
	}
	w, _ := b.Tag.(*worker) // newWorker has set it
	return w
}

// Reasons for which a worker gets no calls. It gets some when none holds.
type reason uint8

const (
	quarantined reason = 1 << iota
	draining
	dead
	unreached // no connection to it can be made
)

// health is why a worker is in or out of service.
type health struct {
	mu       sync.Mutex
	why      reason
	cause    string       // the failure that led to quarantine, for people
	fails    atomic.Int32 // in a row
	failed   []*function  // whose calls failed in this row
	level    int          // of exponential quarantine
	until    int64        // when the next check may bring it back, in nanoseconds
	lastGood int64        // when it last came back
	probing  bool
}

// failing notes that a call of f has failed, and returns how many functions have in
// a row without any call that went well.
func (h *health) failing(f *function) int {
	h.fails.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.failed) < maxFailing && !slices.Contains(h.failed, f) {
		h.failed = append(h.failed, f)
	}
	return len(h.failed)
}

// maxFailing bounds how many functions of a row are told apart.
const maxFailing = 64

// recovered ends a row of failures.
func (h *health) recovered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails.Store(0)
	h.failed = h.failed[:0]
}

// isAway says that calls are not to wait for the worker: nobody knows whether it
// will ever be back.
func (w *worker) isAway() bool {
	if !w.bal.Closed() {
		return false
	}
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	return w.health.why&(dead|unreached) != 0
}

// set adds and removes reasons, and opens or closes the worker accordingly.
func (w *worker) set(add, remove reason, cause string) {
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	w.setLocked(add, remove, cause)
}

// setLocked is set under the lock of health; it reports what came of it.
func (w *worker) setLocked(add, remove reason, cause string) (opened, closed bool) {
	was := w.health.why
	w.health.why = was&^remove | add
	if add != 0 {
		w.health.cause = cause
	}
	switch {
	case was == 0 && w.health.why != 0:
		w.bal.Close()
		return false, true
	case was != 0 && w.health.why == 0:
		w.health.cause = ""
		w.bal.Open()
		return true, false
	}
	return false, false
}

// state says how the worker stands, in a word or two.
func (w *worker) state() (state, cause string) {
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	switch {
	case w.health.why&dead != 0:
		return "dead", w.health.cause
	case w.health.why&draining != 0:
		return "draining", w.health.cause
	case w.health.why&quarantined != 0:
		return "quarantined", w.health.cause
	}
	return "ready", ""
}
