package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/internal/origin"

	"go.opentelemetry.io/otel/trace"
)

// Config is what a gateway goes by. The zero value serves nothing on the default
// address; New spells out the defaults and names the field that is wrong.
type Config struct {
	// Listen are the addresses to listen on. Nothing means localhost:9080.
	Listen []string
	// TLS, if set, is offered on the same ports, told apart by the first byte.
	TLS *tls.Config
	// AdminToken lets callers use the admin paths beside all others, as a bearer
	// token. Empty means that those paths are AdminHandler's only.
	AdminToken string
	// AdminSocket is where the admin side's unix socket is, and AdminListen are
	// addresses of its own, where admin paths need AdminToken; with those the
	// gateway's own paths are not on Listen. The command opens them; see ServeAdmin.
	AdminSocket string
	AdminListen []string
	// LocalAdmin lets programs of this user on this machine add and remove
	// workers beside AdminToken, if they call over loopback and can be seen to act
	// for themselves (Linux only): what olscheduler let everybody do.
	LocalAdmin bool
	// Hosts are the names, without port, under which calls come. Others are
	// refused, but for localhost and addresses of loopback, or any address if
	// Listen has one that is not of loopback, and the hosts of Routes.
	// "*.example.org" is all below it, "*" is any. Handler, with neither Listen nor
	// Hosts, takes any.
	Hosts []string
	// CORS says which pages of other origins may call functions.
	CORS CORS
	// SpecialWorkers are networks in which workers may be although they are not
	// for that: link-local addresses, where clouds keep their secrets, and others.
	SpecialWorkers []netip.Prefix
	// TrustedProxies are the networks of proxies that are believed what they say of
	// their clients: their Forwarded and X-Forwarded-For are added to, and other such
	// headers passed on. From anybody else all of them are dropped.
	TrustedProxies []netip.Prefix
	// ProxyProtocol are the networks of proxies that begin each connection with a PROXY
	// header, version 1 or 2, which says whose it is. Those of them that do not are
	// closed; from anybody else the header is no HTTP.
	ProxyProtocol []netip.Prefix
	// Workers are those that are known beforehand. Members may bring more.
	Workers []Worker
	// WorkerTLS is how workers on https are reached that have no TLS of their own: whom
	// to trust, by what name, and what to show. Nil trusts the system's roots. Members
	// have MemberTLS.
	WorkerTLS *tls.Config
	// WorkerRefusals are the answers by which workers say that they have not run a
	// call. Package compat/olscheduler has those of OpenLambda's.
	WorkerRefusals []WorkerRefusal
	// Functions are the functions that are known. With Closed, calls of others
	// are refused with 400; otherwise any name may be called.
	Functions map[string]Function
	Closed    bool
	// Defaults is the policy of functions that have none.
	Defaults Policy
	// Routes map hosts and paths to functions, beside /run/ and /runLambda/.
	Routes []Route
	Health Health
	// Limits of what one connection may take.
	Limits Limits
	// Drain is how long calls in flight may take to finish at the end; 0 means 10 s.
	Drain time.Duration
	// AccessLog is the share of calls that are logged, 0 to 1.
	AccessLog float64
	// Trace begins a W3C trace for calls that come without one; a trace that is
	// there is always passed on.
	Trace bool
	// TracerProvider makes the spans of calls and of their attempts. Nil makes none.
	TracerProvider trace.TracerProvider
	// TraceCallers takes the word of whoever calls on whether the trace that the call
	// belongs to is recorded, as that of TrustedProxies always is. The provider's sampler
	// sees others' as not recorded yet.
	TraceCallers bool
	// Logger gets what operators should know. Nil means slog.Default.
	Logger *slog.Logger
	// MemberTLS makes the configuration of each connection to the member of that
	// name, which is to verify that it is that member. Members on https are not
	// called without it.
	MemberTLS func(name string) *tls.Config
	// RequireTLS refuses connections in the clear, but for those over loopback.
	RequireTLS bool
	// Admit decides who may call functions. It gets the Authorization of the call, which
	// is not passed on then. Nil: all may. Who calls over loopback is asked, too: that
	// may be a proxy with calls of strangers.
	Admit func(ctx context.Context, from netip.AddrPort, authorization []string) error
	// DropAuthorization keeps Authorization from the workers.
	DropAuthorization bool
	// Members brings workers, functions and owners of tasks from a cluster.
	Members Members

	resolver *net.Resolver // of workers' names, in tests
	guards   *guards
	guard    *origin.Guard // of pages; made of Listen, Hosts, Routes and CORS
	// mounted is that of Handler: whoever serves it knows by what name, unless
	// Listen or Hosts says.
	mounted *origin.Guard
}

// Worker is a server that answers calls.
type Worker struct {
	// URL is http://host:port, https://host:port or h2c://host:port, and a path after
	// it is put before that of each call; or unix:/path or h2c+unix:/path, a socket on
	// which a worker speaks HTTP/1, or HTTP/2.
	URL string
	// Name is how logs, metrics and Members call it. Empty means URL.
	Name string
	// Weight is its part of the calls; 0 means 1. NoWeight gives it nothing from
	// random, and the least part elsewhere.
	Weight int
	// MaxInFlight is the most calls at once, 0 for no limit.
	MaxInFlight int
	// Functions are those that it offers. Nil means all.
	Functions []string
	// TLS, of a worker on https, is used instead of Config.WorkerTLS.
	TLS *tls.Config
}

// NoWeight is the Weight of a worker whose weight is none.
const NoWeight = -1

// Function is what is known of one function.
type Function struct {
	// Packages are those that it needs, the largest first.
	Packages []string
	// Policy, if not nil, is used instead of the defaults.
	Policy *Policy
	// Split, if not nil, shares the calls with another function.
	Split *Split
}

// Route sends calls of a host and a path to a function.
type Route struct {
	// Host is the Host header without its port, "*.example.com" for any name below
	// example.com, or empty for any.
	Host string
	// Prefix is a path prefix that ends at a slash or at the path's end.
	Prefix string
	// Function is the function's name.
	Function string
	// Strip removes the prefix before the call is passed on; the worker hears of it in
	// X-Forwarded-Prefix.
	Strip bool
	// Methods are those of the calls that it is for, GET with HEAD; none means all.
	// Others that no route is for are answered 405.
	Methods []string
	Rules   Rules
}

type (
	// Picker is a picking rule of a user's own.
	Picker = balance.Picker
	// Candidate is a worker that a Picker may pick.
	Candidate = balance.Candidate
	// Fn is the function that is called.
	Fn = balance.Fn
)

// Policy says how calls of a function are treated.
type Policy struct {
	// Balancer is the name of a rule of package balance. Empty means smart.
	Balancer string
	// Picker, if not nil, picks instead of Balancer: a rule of your own.
	Picker Picker
	// LoadThreshold is pkg-aware's, in calls in flight.
	LoadThreshold uint
	// StickyHeader, StickyCookie and StickyQuery name what sticky goes by: the
	// first of them that a call has.
	StickyHeader, StickyCookie, StickyQuery string
	// MaxInFlight is the most calls of the function at once, 0 for no limit.
	MaxInFlight int
	// Queue is the most calls that wait while no worker is free; 0 means 1000,
	// negative that none may. QueueTimeout is the longest wait; 0 means 5 s.
	Queue        int
	QueueTimeout time.Duration
	// RestartWait is how long a call waits in the queue for workers none of which can
	// be reached, because they may be restarting; 0 answers 503 at once.
	RestartWait time.Duration
	// Rate is the most calls a second from one caller, 0 for no limit; Burst is
	// how many may come at once, 0 for Rate. RateBy names the header that tells
	// callers apart; empty means the client's address.
	Rate   float64
	Burst  int
	RateBy string
	// Attempts is the most workers that one call is tried on; 0 means 4.
	Attempts int
	// RetryBudget is the share of calls that may be repeated although they may
	// have run (being idempotent), hedges with them; 0 means 0.2, negative none.
	RetryBudget float64
	// Hedge sends an idempotent call that takes longer than the function's 95th
	// percentile to a second worker and takes the first answer.
	Hedge bool
	// ConnectTimeout, 0 means 1 s. HeaderTimeout is until the answer begins, 0
	// for none. CallTimeout is for the whole call, 0 for none. IdleTimeout ends a
	// call of whose bodies nothing moves in either direction, or a connection
	// that has switched protocols; 0 means 60 s, Never that it may be silent for
	// as long as it likes. While an answer is computed it does not count.
	ConnectTimeout, HeaderTimeout, CallTimeout, IdleTimeout time.Duration
	Rules                                                   Rules
}

// Never is an IdleTimeout that ends no call.
const Never time.Duration = math.MaxInt64

// Health says when a worker is left out, and when it comes back.
type Health struct {
	// Interval is between active checks of workers in service; 0 means none.
	// Workers out of service are always checked.
	Interval time.Duration
	// Path is what an active check GETs. Empty means /status. Any answer below
	// 500 says that the worker lives.
	Path string
	// Timeout of one check; 0 means 1 s.
	Timeout time.Duration
	// Failures in a row that put a worker out of service; 0 means 3. One refused
	// connection is enough.
	Failures int
	// Quarantine is how long it is left out at first; it doubles up to
	// MaxQuarantine. 0 means 500 ms and 30 s.
	Quarantine, MaxQuarantine time.Duration
	// Panic is the share of workers that stays in service whatever the passive
	// checks say; 0 means 0.5.
	Panic float64
	// Outliers leaves out workers whose success rate is far below the others'.
	Outliers bool
	// SlowStart is how long a worker that comes into service takes to reach its
	// full share; 0 means at once.
	SlowStart time.Duration
}

// Limits bound what one client may take.
type Limits struct {
	// HeadBytes is the most bytes of a request's head; 0 means 64 KiB.
	HeadBytes int
	// HeadTimeout is how long a request's head may take; 0 means 10 s.
	HeadTimeout time.Duration
	// IdleTimeout closes client connections without a request; 0 means 2 min.
	IdleTimeout time.Duration
	// ReplayBytes is the most bytes of a body kept to repeat a call; 0 means 64 KiB.
	ReplayBytes int
	// Connections is the most client connections at once; 0 means no limit.
	Connections int
	// ConnectionAge is how old a client connection may become, and ConnectionCalls how
	// many calls it may carry, before the client is told to open another one; 0 means no
	// limit. Calls under way are finished, and what was upgraded goes on. Those of
	// Handler are its server's.
	ConnectionAge   time.Duration
	ConnectionCalls int
	// WorkerConnectionAge and WorkerConnectionCalls are those of connections to workers.
	WorkerConnectionAge   time.Duration
	WorkerConnectionCalls int
}

// nameForm is what function names look like (contract).
var nameForm = regexp.MustCompile(`^[A-Za-z0-9.\-_]+$`)

// hostForm is what the hosts of routes look like: names, and IPv4 addresses.
var hostForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

// isListenAddr says whether s is host:port, the port a number.
func isListenAddr(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, "/ ") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func orElse[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// normalize returns the configuration with its defaults spelled out, or a
// *rota.FieldError for the first field that is wrong.
func (c Config) normalize() (Config, error) {
	named := len(c.Listen)+len(c.Hosts) > 0
	if len(c.Listen) == 0 {
		c.Listen = []string{"localhost:9080"}
	}
	for i, l := range c.Listen {
		if !isListenAddr(l) {
			return c, &rota.FieldError{Field: "listen[" + strconv.Itoa(i) + "]", Value: l, Want: "an address, host:port"}
		}
		if j := slices.Index(c.Listen, l); j < i && !strings.HasSuffix(l, ":0") {
			return c, &rota.FieldError{
				Field: "listen[" + strconv.Itoa(i) + "]", Value: l, Want: "an address that is not listed already, as listen[" + strconv.Itoa(j) + "]",
			}
		}
	}
	for i, l := range c.AdminListen {
		field := "admin.listen[" + strconv.Itoa(i) + "]"
		if _, port, err := net.SplitHostPort(l); err != nil || port == "" {
			return c, &rota.FieldError{Field: field, Value: l, Want: "an address, host:port"}
		}
		if c.AdminToken == "" && !auth.Loopback(l) {
			return c, &rota.FieldError{Field: field, Value: l, Want: "a token too (admin.token_file), as it is open to other machines"}
		}
	}
	if c.AccessLog < 0 || c.AccessLog > 1 {
		return c, &rota.FieldError{Field: "access_log", Value: c.AccessLog, Want: "0 to 1"}
	}
	if err := checkRefusals(c.WorkerRefusals); err != nil {
		return c, err
	}
	if c.Drain < 0 {
		return c, &rota.FieldError{Field: "drain", Value: c.Drain, Want: "zero or more"}
	}
	orElse(&c.Drain, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	names := map[string]int{}
	c.Workers = append([]Worker(nil), c.Workers...)
	for i := range c.Workers {
		w := &c.Workers[i]
		field := "workers[" + strconv.Itoa(i) + "]"
		u, err := c.workerURL(w.URL)
		if err != nil {
			return c, &rota.FieldError{Field: field + ".url", Value: w.URL, Want: err.Error()}
		}
		if w.TLS != nil && u.Scheme != "https" {
			return c, &rota.FieldError{Field: field + ".tls", Value: w.URL, Want: "a worker on https"}
		}
		orElse(&w.Name, w.URL)
		if j, twice := names[w.Name]; twice {
			return c, &rota.FieldError{Field: field, Value: w.Name, Want: fmt.Sprintf("a worker that is not listed already, as workers[%d]", j)}
		}
		names[w.Name] = i
		if w.Weight < NoWeight {
			return c, &rota.FieldError{Field: field + ".weight", Value: w.Weight, Want: "a whole number, zero or more"}
		}
		if w.MaxInFlight < 0 {
			return c, &rota.FieldError{Field: field + ".max_in_flight", Value: w.MaxInFlight, Want: "zero or more"}
		}
	}
	var err error
	if c.Defaults, err = c.Defaults.normalize("defaults"); err != nil {
		return c, err
	}
	fns := make(map[string]Function, len(c.Functions))
	for name, f := range c.Functions {
		if !nameForm.MatchString(name) {
			return c, &rota.FieldError{Field: "functions", Value: name, Want: "a name of letters, digits, '.', '-' and '_'"}
		}
		if f.Policy != nil {
			p, err := f.Policy.normalize("functions." + name)
			if err != nil {
				return c, err
			}
			f.Policy = &p
		}
		if f.Split != nil {
			if err := f.Split.normalize(name, &c); err != nil {
				return c, err
			}
		}
		fns[name] = f
	}
	c.Functions = fns
	if err := c.checkRoutes(); err != nil {
		return c, err
	}
	if c.guards, err = c.newGuards(); err != nil {
		return c, err
	}
	if c.Health, err = c.Health.normalize(); err != nil {
		return c, err
	}
	if c.CORS, err = c.CORS.normalize(); err != nil {
		return c, err
	}
	if c.guard, err = c.newGuard(c.Hosts); err != nil {
		return c, err
	}
	if c.mounted = c.guard; !named {
		if c.mounted, err = c.newGuard([]string{"*"}); err != nil {
			return c, err
		}
	}
	l := &c.Limits
	if err := notNegative("limits", []amount{
		count("head_bytes", l.HeadBytes),
		count("replay_bytes", l.ReplayBytes),
		count("connections", l.Connections),
		count("connection_calls", l.ConnectionCalls),
		count("worker_connection_calls", l.WorkerConnectionCalls),
		span("connection_age", l.ConnectionAge),
		span("worker_connection_age", l.WorkerConnectionAge),
		span("head_timeout", l.HeadTimeout),
		span("idle_timeout", l.IdleTimeout),
	}); err != nil {
		return c, err
	}
	if l.HeadBytes > 0 && l.HeadBytes < leastHead {
		return c, &rota.FieldError{Field: "limits.head_bytes", Value: l.HeadBytes, Want: fmt.Sprintf("at least %d: browsers send more", leastHead)}
	}
	orElse(&l.HeadBytes, 64<<10)
	orElse(&l.ReplayBytes, 64<<10)
	orElse(&l.HeadTimeout, 10*time.Second)
	orElse(&l.IdleTimeout, 2*time.Minute)
	return c, nil
}

// leastHead is the least limit of a head, in bytes: with less nobody could call.
const leastHead = 256

// checkRoutes returns a *rota.FieldError for the first field of a route that is wrong.
func (c *Config) checkRoutes() error {
	for i, r := range c.Routes {
		field := "routes[" + strconv.Itoa(i) + "]"
		if name := strings.TrimPrefix(r.Host, "*."); r.Host != "" && !hostForm.MatchString(name) {
			return &rota.FieldError{Field: field + ".host", Value: r.Host, Want: "a host name without a port, img.example or *.example"}
		}
		if !strings.HasPrefix(r.Prefix, "/") {
			return &rota.FieldError{Field: field + ".prefix", Value: r.Prefix, Want: "a path that begins with /"}
		}
		if slices.ContainsFunc([]string{"/run/", "/runLambda/", "/t/"}, func(own string) bool { return strings.HasPrefix(r.Prefix, own) }) {
			return &rota.FieldError{Field: field + ".prefix", Value: r.Prefix, Want: "a path that is not below /run/, /runLambda/ or /t/, which come before all routes"}
		}
		if !nameForm.MatchString(r.Function) {
			return &rota.FieldError{Field: field + ".function", Value: r.Function, Want: "a function's name"}
		}
		if _, known := c.Functions[r.Function]; c.Closed && !known {
			return &rota.FieldError{Field: field + ".function", Value: r.Function, Want: "a function that is listed"}
		}
		if err := r.checkMethods(field); err != nil {
			return err
		}
		if err := r.Rules.normalize(field); err != nil {
			return err
		}
		if j := slices.IndexFunc(c.Routes[:i], func(before Route) bool { return before.hides(&r) }); j >= 0 {
			return &rota.FieldError{Field: field, Value: r.Host + r.Prefix, Want: fmt.Sprintf("another host, prefix or methods: routes[%d] comes before it and takes all of its calls", j)}
		}
	}
	return nil
}

// hides reports whether a route further down the list, of the same host and prefix, never
// gets a call.
func (r *Route) hides(later *Route) bool {
	return strings.EqualFold(r.Host, later.Host) && r.Prefix == later.Prefix &&
		(len(r.Methods) == 0 || len(later.Methods) > 0 && !slices.ContainsFunc(later.Methods, func(m string) bool { return !r.serves([]byte(m)) }))
}

// workerURL is the one way from what somebody gives as a worker's URL, in a file, to
// the admin side or as a member of the cluster, to a URL. The error says what was
// expected.
func (c *Config) workerURL(s string) (*url.URL, error) { return upstream.ParseURL(s, c.SpecialWorkers) }

// Validate returns a *rota.FieldError for the first field that is wrong. Fields are
// named as gateway.yaml has them.
func (c Config) Validate() error {
	_, err := c.normalize()
	return err
}

// amount is a number that a field has, as it is and as it is shown.
type amount struct {
	field string
	n     float64
	shown any
}

func count(field string, n int) amount          { return amount{field, float64(n), n} }
func span(field string, d time.Duration) amount { return amount{field, float64(d), d} }

// notNegative returns a *rota.FieldError for the first that is below zero.
func notNegative(field string, all []amount) error {
	for _, a := range all {
		if !(a.n >= 0) {
			return &rota.FieldError{Field: field + "." + a.field, Value: a.shown, Want: "zero or more"}
		}
	}
	return nil
}

func (p Policy) normalize(field string) (Policy, error) {
	orElse(&p.Balancer, "smart")
	if p.Picker != nil {
		p.Balancer = balance.Custom{}.Name()
	} else if _, err := balance.RuleByName(p.Balancer, p.LoadThreshold); err != nil {
		return p, &rota.FieldError{Field: field + ".balancer", Value: p.Balancer, Want: "one of " + strings.Join(balance.Names(), ", ")}
	}
	if p.Balancer == "sticky" && p.StickyHeader == "" && p.StickyCookie == "" && p.StickyQuery == "" {
		return p, &rota.FieldError{Field: field + ".sticky", Value: "", Want: "a header, cookie or query key to go by"}
	}
	if err := notNegative(field, []amount{
		count("max_in_flight", p.MaxInFlight),
		{"rate.per_second", p.Rate, p.Rate},
		count("rate.burst", p.Burst),
		count("retries.attempts", p.Attempts),
		span("queue.timeout", p.QueueTimeout),
		span("queue.restart", p.RestartWait),
		span("timeouts.connect", p.ConnectTimeout),
		span("timeouts.header", p.HeaderTimeout),
		span("timeouts.call", p.CallTimeout),
		span("timeouts.idle", p.IdleTimeout),
	}); err != nil {
		return p, err
	}
	if err := p.Rules.normalize(field); err != nil {
		return p, err
	}
	if p.Attempts > 5 {
		return p, &rota.FieldError{Field: field + ".retries.attempts", Value: p.Attempts, Want: "1 to 5"}
	}
	if p.RetryBudget > 1 || math.IsNaN(p.RetryBudget) {
		return p, &rota.FieldError{Field: field + ".retries.budget", Value: p.RetryBudget, Want: "at most 1"}
	}
	orElse(&p.Queue, 1000)
	orElse(&p.QueueTimeout, 5*time.Second)
	orElse(&p.Burst, max(1, int(p.Rate)))
	orElse(&p.Attempts, 4)
	orElse(&p.RetryBudget, 0.2)
	orElse(&p.ConnectTimeout, time.Second)
	orElse(&p.IdleTimeout, time.Minute)
	return p, nil
}

func (h Health) normalize() (Health, error) {
	if err := notNegative("health", []amount{
		span("interval", h.Interval),
		span("timeout", h.Timeout),
		count("failures", h.Failures),
		{"panic", h.Panic, h.Panic},
		span("quarantine", h.Quarantine),
		span("max_quarantine", h.MaxQuarantine),
		span("slow_start", h.SlowStart),
	}); err != nil {
		return h, err
	}
	if h.Panic > 1 {
		return h, &rota.FieldError{Field: "health.panic", Value: h.Panic, Want: "0 to 1"}
	}
	if h.Path != "" && !strings.HasPrefix(h.Path, "/") {
		return h, &rota.FieldError{Field: "health.path", Value: h.Path, Want: "a path that begins with /"}
	}
	orElse(&h.Path, "/status")
	orElse(&h.Timeout, time.Second)
	orElse(&h.Failures, 3)
	orElse(&h.Quarantine, 500*time.Millisecond)
	orElse(&h.MaxQuarantine, 30*time.Second)
	orElse(&h.Panic, 0.5)
	return h, nil
}
