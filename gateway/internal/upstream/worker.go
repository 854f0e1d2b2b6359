// Package upstream has the workers as the gateway calls them: where they are, whether they
// are in service, and the connections to them, which are kept and dialled here. The gateway's
// calls and checks say what came of each try. It must never know functions, nor send or read
// a call.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rota-project/rota/balance"
)

// Reply is what a worker last said of itself.
type Reply struct {
	At     time.Time
	Status int
	Text   string // one line
	Err    error
}

// Worker is a worker as the gateway runs it. It lives as long as its name and
// incarnation are known; configurations come and go around it.
type Worker struct {
	Name        string
	Incarnation string
	URL         *url.URL
	network     string // tcp or unix
	addr        string // host:port to dial, or the path of a socket
	Host        string // what an active check sends as Host
	Base        string // of paths; empty, or /... without a slash at the end
	TLS         bool
	H2C         bool
	Bal         *balance.Worker
	pool        pool
	clients     clients
	Asks        atomic.Bool // for a certificate of ours
	unshown     atomic.Bool // and none was for it
	health      health
	reach       Reach
	trust       atomic.Pointer[tls.Config] // of others on https; nil is the system's
	Reply       atomic.Pointer[Reply]      // its last one to a check or to /status

	Weight atomic.Int64 // as in balance.Member
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

// Reach is how a worker is reached.
type Reach struct {
	// Resolver looks up names; nil is the system's.
	Resolver *net.Resolver
	// control, as net.Dialer has it, refuses addresses at which no worker may be.
	Control func(ctx context.Context, network, addr string, c syscall.RawConn) error
	// Member makes the configuration of TLS with the worker of a cluster, nil of others.
	Member func(name string) *tls.Config
}

// New is the worker of that name at that URL, which ParseURL has taken.
func New(name, incarnation string, u *url.URL, how Reach) *Worker {
	w := &Worker{
		Name: name, reach: how, Incarnation: incarnation, URL: u, network: "tcp", Host: u.Host, addr: u.Host,
		Base: strings.TrimRight(u.EscapedPath(), "/"), TLS: u.Scheme == "https", H2C: u.Scheme == "h2c" || u.Scheme == schemeH2CUnix,
	}
	switch {
	case IsSocket(u):
		w.network, w.addr, w.Host, w.Base = "unix", u.Opaque, "localhost", ""
	case u.Port() == "":
		port := "80"
		if w.TLS {
			port = "443"
		}
		w.addr = net.JoinHostPort(u.Hostname(), port)
	}
	w.Bal = balance.NewWorker(name)
	w.Bal.Tag = w
	w.pool.init()
	return w
}

// proves says that it can be told of the worker's connections what of them the worker
// has not read.
func (w *Worker) proves() bool { return canProveUnread && !w.TLS && w.network == "tcp" }

// MayHaveMoved says that the worker is at a name that is not being looked up. resolve follows.
func (w *Worker) MayHaveMoved() bool {
	return w.network == "tcp" && net.ParseIP(w.URL.Hostname()) == nil && w.resolving.CompareAndSwap(false, true)
}

// ResolveEvery is how often the names of workers are looked up anew.
const ResolveEvery = 5 * time.Second

// Resolve looks up where the worker's name leads. If that has changed, connections
// that were made before are used no more once they are idle.
func (w *Worker) Resolve(ctx context.Context) {
	defer w.resolving.Store(false)
	ctx, cancel := context.WithTimeout(ctx, ResolveEvery)
	defer cancel()
	r := w.reach.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	addrs, err := r.LookupHost(ctx, w.URL.Hostname())
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
func (w *Worker) renew() {
	w.epoch.Add(1)
	w.pool.flush()
	w.clients.reset()
}

// Open has idle connections kept again after close.
func (w *Worker) Open() { w.pool.open() }

// Flush closes idle connections: the worker has died or restarted.
func (w *Worker) Flush() { w.pool.flush() }

// Sweep closes the connections that have been idle for too long.
func (w *Worker) Sweep(now int64) { w.pool.sweep(now) }

// Close closes the worker's idle connections, and later ones when they become idle.
func (w *Worker) Close() {
	w.pool.close()
	w.clients.reset()
}

// dropMemory is how long a worker is remembered that drops idle connections.
const dropMemory = time.Minute

// drops notes that a connection has died after it was idle for so long.
func (w *Worker) drops(now, idle int64) {
	idle = max(idle, 1)
	if old := w.dropsAfter.Load(); old == 0 || idle < old || now-w.dropped.Load() > int64(dropMemory) {
		w.dropsAfter.Store(idle)
	}
	w.dropped.Store(now)
}

// KeepsFor is how long the worker's connections may have been idle for a call
// that must not be sent twice: half of what has been seen to be too long, and not long where
// nothing can prove later that it was never read.
func (w *Worker) KeepsFor(now int64) time.Duration {
	if !w.proves() {
		return min(freshFor, w.keepsFor(now))
	}
	return w.keepsFor(now)
}

// keepsFor is that of connections of which it can be told what the worker has not read. Where
// the worker's system has acknowledged a call that its program never read, nothing could tell
// that afterwards.
func (w *Worker) keepsFor(now int64) time.Duration {
	after := w.dropsAfter.Load()
	if after == 0 || now-w.dropped.Load() > int64(dropMemory) {
		return IdleFor
	}
	if after < int64(atOnce) {
		return 0
	}
	return time.Duration(after / 2)
}

// atOnce is what counts as no time at all: a worker that hangs up so soon after an
// answer might do so while a call is on its way.
const atOnce = 2 * time.Millisecond

// Of returns the gateway's worker of a balance.Worker.
func Of(b *balance.Worker) *Worker {
	if b == nil {
		return nil
	}
	w, _ := b.Tag.(*Worker) // New has set it
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
	failed   []any        // the functions whose calls failed in this row
	level    int          // of exponential quarantine
	until    int64        // when the next check may bring it back, in nanoseconds
	lastGood int64        // when it last came back
	probing  bool
}

// Failed notes a failure, and returns how many there were in a row.
func (w *Worker) Failed() int { return int(w.health.fails.Add(1)) }

// Failing notes that a call of f, a pointer, has failed, and returns how many functions
// have in a row without any call that went well.
func (w *Worker) Failing(f any) int {
	h := &w.health
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

// Recovered ends a row of failures, if there is one.
func (w *Worker) Recovered() {
	if w.health.fails.Load() != 0 {
		w.health.recovered()
	}
}

func (h *health) recovered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails.Store(0)
	h.failed = h.failed[:0]
}

// Quarantine leaves the worker out for first, or for twice as long as the last time, and
// for most at most. away says that no connection to it can be made. closed says that it was in
// service until now.
func (w *Worker) Quarantine(now int64, first, most time.Duration, why error, away bool) (wait time.Duration, closed bool) {
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	if w.health.why&quarantined != 0 {
		return 0, false
	}
	// A worker that has done well for long begins at the bottom again.
	if now-w.health.lastGood > int64(most) {
		w.health.level = 0
	}
	wait = w.health.wait(first, most)
	w.health.until = now + int64(wait)
	reasons := quarantined
	if away {
		reasons |= unreached
	}
	_, closed = w.setLocked(reasons, 0, why.Error())
	return wait, closed
}

// wait is for how long a worker is left out now; the next time it is longer.
func (h *health) wait(first, most time.Duration) time.Duration {
	wait := min(first<<min(h.level, 16), most)
	h.level = min(h.level+1, 16)
	return wait
}

// Restore ends the worker's quarantine. opened says that it is in service from now on.
func (w *Worker) Restore(now int64, slowStart time.Duration) (opened bool) {
	w.health.recovered()
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	w.health.lastGood = now
	w.BeginRamp(now, slowStart)
	opened, _ = w.setLocked(0, quarantined|unreached, "")
	return opened
}

// Due says whether the worker is to be checked now: where everybody is, or as its quarantine
// is over. checked follows.
func (w *Worker) Due(now int64, everybody bool) bool {
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	due := w.health.why&(dead|draining) == 0 && !w.health.probing && (everybody || w.health.why&quarantined != 0 && now >= w.health.until)
	w.health.probing = w.health.probing || due
	return due
}

// Checked notes what a check has found: err, if the worker did not answer as it should. out
// says that the worker is in quarantine, which goes on after an error.
func (w *Worker) Checked(now int64, first, most time.Duration, err error) (out bool) {
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	out = w.health.why&quarantined != 0
	w.health.probing = false
	if out && err != nil {
		wait := w.health.wait(first, most)
		// A port that nobody listens on costs nothing to try: look again soon.
		if errors.Is(err, syscall.ECONNREFUSED) {
			wait = min(wait, first)
		}
		w.health.until = now + int64(wait)
		w.health.cause = err.Error()
	}
	return out
}

// BeginRamp starts the worker's slow start, if there is one.
func (w *Worker) BeginRamp(now int64, slowStart time.Duration) {
	if slowStart > 0 {
		w.Bal.SetShare(0.1)
		w.ramp.Store(now)
	}
}

// Ramping gives a worker that began a slow start the share that it has by now.
func (w *Worker) Ramping(now int64, slowStart time.Duration) {
	from := w.ramp.Load()
	if from == 0 {
		return
	}
	part := float64(now-from) / float64(max(slowStart, 1))
	if part >= 1 {
		w.ramp.Store(0)
		w.Bal.SetShare(1)
		return
	}
	w.Bal.SetShare(max(0.1, part))
}

// IsAway says that calls are not to wait for the worker: nobody knows whether it
// will ever be back.
func (w *Worker) IsAway() bool {
	if !w.Bal.Closed() {
		return false
	}
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	return w.health.why&(dead|unreached) != 0
}

// Answered counts an answer. well says that it was no server's error.
func (w *Worker) Answered(well bool) {
	w.calls.Add(1)
	if well {
		w.windowOK.Add(1)
	} else {
		w.windowBad.Add(1)
	}
}

// Broke counts a call that failed on the worker, or that it refused. blame says that it
// counts against it.
func (w *Worker) Broke(blame bool) {
	w.failures.Add(1)
	if blame {
		w.windowBad.Add(1)
	}
}

// Counts are how many answers the worker has begun, and how many calls have failed on it or
// were refused by it.
func (w *Worker) Counts() (calls, failures uint64) { return w.calls.Load(), w.failures.Load() }

// Window is how many calls went well and badly since newWindow.
func (w *Worker) Window() (ok, bad uint64) { return w.windowOK.Load(), w.windowBad.Load() }

// NewWindow begins to count anew what window tells.
func (w *Worker) NewWindow() {
	w.windowOK.Store(0)
	w.windowBad.Store(0)
}

// Serve has the worker get calls, if nothing else keeps it from them.
func (w *Worker) Serve() { w.set(0, dead|draining, "") }

// Drain has the worker get no more calls.
func (w *Worker) Drain() { w.set(draining, dead, "draining") }

// Die notes that the worker is gone.
func (w *Worker) Die(cause string) { w.set(dead, draining, cause) }

// Negotiates says that what the worker speaks is found out when it is connected to. Those of
// a cluster speak HTTP/1.
func (w *Worker) Negotiates() bool { return w.TLS && w.reach.Member == nil }

// set adds and removes reasons, and opens or closes the worker accordingly.
func (w *Worker) set(add, remove reason, cause string) {
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	w.setLocked(add, remove, cause)
}

// setLocked is set under the lock of health; it reports what came of it.
func (w *Worker) setLocked(add, remove reason, cause string) (opened, closed bool) {
	was := w.health.why
	w.health.why = was&^remove | add
	if add != 0 {
		w.health.cause = cause
	}
	switch {
	case was == 0 && w.health.why != 0:
		w.Bal.Close()
		return false, true
	case was != 0 && w.health.why == 0:
		w.health.cause = ""
		w.Bal.Open()
		return true, false
	}
	return false, false
}

// State says how the worker stands, in a word or two.
func (w *Worker) State() (state, cause string) {
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
