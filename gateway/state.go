package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/paths"
	"github.com/rota-project/rota/gateway/internal/peer"
	"github.com/rota-project/rota/gateway/internal/upstream"
)

// state is one configuration in force, with the members as they were then. It
// is immutable; calls hold the one that they began with.
type state struct {
	cfg     Config
	workers []*upstream.Worker
	byName  map[string]*upstream.Worker
	fns     map[string]*function
	// everywhere are the members that offer all functions.
	everywhere []balance.Member
	defaults   *policy
	refusals   []workerRefusal
	invented   int // of fns: names that nobody has listed
	guards     *guards
	plain      bool     // the prefixes of all routes are canonical
	behind     []*route // those that a worker might take a task's call for
	routes     []route  // those with a host before those without, then the longest prefix first
}

// trusts says whether the forwarding headers of that address are believed.
func (st *state) trusts(addr netip.Addr) bool {
	return peer.In(st.cfg.TrustedProxies, addr)
}

// Names that nobody has listed may be invented by whoever calls, so what an open
// gateway keeps of them is bounded: so many functions of their own, of names that are
// not longer than that, and so many labels in metrics, for the first that a worker has
// answered well. The others share one.
const (
	maxInvented       = 1000
	maxInventedName   = 128
	maxInventedLabels = 100
	// forgetEvery is how often it is looked for some to forget, in nanoseconds.
	forgetEvery = int64(time.Second)
)

// rebuild makes the state anew from the configuration, what admin has added and
// removed, and the members. It keeps the workers and functions that stay.
func (g *Gateway) rebuild() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rebuildLocked()
}

func (g *Gateway) rebuildLocked() error {
	old, cfg := g.state.Load(), g.cfg
	b := builder{
		g: g, old: old, cfg: cfg, next: &state{cfg: cfg, guards: cfg.guards, refusals: refusals(&cfg), byName: map[string]*upstream.Worker{}, fns: map[string]*function{}},
		offers: map[string][]string{}, packages: map[string][]string{},
	}
	err := b.workers()
	b.functions()
	b.next.routes = sortedRoutes(cfg.Routes, cfg.guards)
	b.hide()
	b.next.plain = !slices.ContainsFunc(b.next.routes, func(r route) bool { return r.canonical != r.Prefix })
	g.all.set.Update(members(b.next.workers))
	if old != nil {
		for _, w := range old.workers {
			if b.next.byName[w.Name] != w {
				w.Die("removed")
				w.Close()
				g.leaving = append(g.leaving, w)
			}
		}
	}
	g.leaving = slices.DeleteFunc(g.leaving, func(w *upstream.Worker) bool { return w.Bal.InFlight() == 0 })
	g.state.Store(b.next)
	g.wakeAll()
	for _, f := range b.next.fns {
		f.queue.Wake()
	}
	return err
}

// builder makes a state.
type builder struct {
	g         *Gateway
	old, next *state
	cfg       Config
	offers    map[string][]string // worker → functions, for those that do not offer all
	packages  map[string][]string // function → packages, as members say
}

// workers takes over the workers of the configuration and the members. The error is
// about the configuration: what a member says of itself is nobody's fault here, and
// such a member is told of and left out.
func (b *builder) workers() error {
	var errs []error
	for _, w := range b.g.configured() {
		fns := map[string][]string{}
		for _, f := range w.Functions {
			fns[f] = nil
		}
		m := Member{Name: w.Name, URL: w.URL, Weight: w.Weight, MaxInFlight: w.MaxInFlight, Functions: fns}
		trust := w.TLS
		if trust == nil {
			trust = b.cfg.WorkerTLS
		}
		errs = append(errs, b.worker(m, w.Functions == nil, trust, false))
	}
	if b.cfg.Members == nil {
		return errors.Join(errs...)
	}
	var faults []error
	for _, m := range b.cfg.Members.Members() {
		if err := b.worker(m, m.Functions == nil, nil, true); err != nil {
			faults = append(faults, err)
			continue
		}
		for f, pkgs := range m.Functions {
			if len(pkgs) > 0 || b.packages[f] == nil {
				b.packages[f] = pkgs
			}
		}
	}
	b.g.tellFaults(errors.Join(faults...))
	return errors.Join(errs...)
}

// mayConnect refuses to connect to a special address: a name may resolve to one.
func (g *Gateway) mayConnect(_ context.Context, _, addr string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	if err := upstream.MayDial(at.Addr(), g.state.Load().cfg.SpecialWorkers); err != nil {
		return fmt.Errorf("%s: want %w", at.Addr(), err)
	}
	return nil
}

// tellFaults says what is wrong with members, when that has changed.
func (g *Gateway) tellFaults(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != g.faults {
		g.log.Warn("workers of the cluster are left out", "error", err)
	}
	g.faults = text
}

// worker takes over one worker: the one that there was, if it is the same. trust is
// for TLS with those that are no members.
func (b *builder) worker(m Member, all bool, trust *tls.Config, member bool) error {
	u, err := b.cfg.workerURL(m.URL)
	if err != nil {
		return fmt.Errorf("worker %s: url %q: want %w", m.Name, m.URL, err)
	}
	if member && upstream.IsSocket(u) { // whoever may join the cluster must not have the gateway open what is here
		return fmt.Errorf("worker %s: url %q: want %w", m.Name, m.URL, upstream.ErrNoSockets)
	}
	if b.next.byName[m.Name] != nil {
		return nil
	}
	var w *upstream.Worker
	if b.old != nil {
		w = b.old.byName[m.Name]
	}
	fresh := w == nil || w.Incarnation != m.Incarnation || *w.URL != *u
	if fresh {
		how := upstream.Reach{Resolver: b.cfg.resolver, Control: b.g.mayConnect}
		if member {
			if u.Scheme == "https" && b.cfg.MemberTLS == nil {
				return fmt.Errorf("worker %s: url %q: want TLS here, too: its certificate cannot be checked", m.Name, m.URL)
			}
			how.Member = b.cfg.MemberTLS
		}
		w = upstream.New(m.Name, m.Incarnation, u, how)
	}
	if w.TLS && !member {
		w.Retrust(trust, b.g.log)
	}
	w.Weight.Store(int64(max(m.Weight, 0)))
	if m.Weight == 0 {
		w.Weight.Store(1)
	}
	w.Bal.SetLimit(m.MaxInFlight)
	w.Open()
	switch m.State {
	case Draining:
		w.Drain()
	case Dead:
		w.Die("reported dead")
	default:
		w.Serve()
	}
	if fresh && b.old != nil {
		w.BeginRamp(b.g.now(), b.cfg.Health.SlowStart)
	}
	b.next.workers = append(b.next.workers, w)
	b.next.byName[m.Name] = w
	if !all {
		b.offers[m.Name] = slices.Sorted(maps.Keys(m.Functions))
	}
	return nil
}

// functions takes over the functions: those that the configuration names, those
// offered, and those that calls have named.
func (b *builder) functions() {
	names := map[string]bool{} // the value is whether it is known
	for f := range b.cfg.Functions {
		names[f] = true
		if s := b.cfg.Functions[f].Split; s != nil {
			names[s.To] = true
		}
	}
	for _, r := range b.cfg.Routes {
		names[r.Function] = true
	}
	for _, fns := range b.offers {
		for _, f := range fns {
			names[f] = true
		}
	}
	if b.old != nil && !b.cfg.Closed {
		for f, fn := range b.old.fns {
			if _, listed := names[f]; !listed && !fn.known.Load() {
				names[f] = false
			}
		}
	}
	everywhere := members(slices.DeleteFunc(slices.Clone(b.next.workers), func(w *upstream.Worker) bool {
		_, some := b.offers[w.Name]
		return some
	}))
	b.g.everywhere.set.Update(everywhere)
	b.next.everywhere = everywhere
	if other := b.g.other; other != nil {
		other.members = everywhere
		b.g.regroupLocked(other)
	}
	defaults := newPolicy(b.cfg.Defaults)
	for name, known := range names {
		f := b.function(name, known, defaults, everywhere)
		if b.next.fns[name] = f; !f.known.Load() {
			b.next.invented++
		}
	}
	b.next.defaults = defaults
}

func (b *builder) function(name string, known bool, p *policy, everywhere []balance.Member) *function {
	listed := b.cfg.Functions[name]
	pkgs := listed.Packages
	if pkgs == nil {
		pkgs = b.packages[name]
	}
	if listed.Policy != nil {
		p = newPolicy(*listed.Policy)
	}
	f := b.g.functionLocked(b.old, name, pkgs, p)
	special := slices.Clone(everywhere)
	for _, w := range b.next.workers {
		if fns, some := b.offers[w.Name]; some && slices.Contains(fns, name) {
			special = append(special, members([]*upstream.Worker{w})...)
		}
	}
	f.split.rule.Store(listed.Split)
	f.known.Store(known)
	f.members, f.everywhere = special, len(special) == len(everywhere)
	b.g.regroupLocked(f)
	return f
}

// members are workers as package balance takes them.
func members(ws []*upstream.Worker) []balance.Member {
	ms := make([]balance.Member, 0, len(ws))
	for _, w := range ws {
		ms = append(ms, balance.Member{Worker: w.Bal, Weight: int(w.Weight.Load())})
	}
	return ms
}

// sortedRoutes are the routes in the order in which they are tried.
func sortedRoutes(from []Route, guards *guards) []route {
	routes := make([]route, 0, len(from))
	for i, r := range from {
		canonical := r.Prefix
		if !paths.Unclear([]byte(canonical)) { // else no path has it
			canonical = string(paths.AppendCanonical(nil, []byte(canonical)))
		}
		routes = append(routes, route{r, r.Rules.compile(), guards.routes[i], canonical, nil})
	}
	slices.SortStableFunc(routes, func(a, b route) int {
		if by := a.special() - b.special(); by != 0 {
			return -by
		}
		return len(b.Prefix) - len(a.Prefix)
	})
	return routes
}

// special is how narrowly a route says what hosts it is for: a name before names
// below another, the longer of those first, and any host last.
func (r *Route) special() int {
	switch {
	case r.Host == "":
		return 0
	case r.Host[0] == '*':
		return len(r.Host)
	}
	return 1 << 10
}

// functionLocked returns the function of that name, the one that there was if
// there was one.
func (g *Gateway) functionLocked(old *state, name string, pkgs []string, p *policy) *function {
	var f *function
	if old != nil {
		f = old.fns[name]
	}
	if f == nil {
		f = &function{name: name, hash: balance.HashString(name)}
		f.budget.Begin()
	}
	if fn := f.fn.Load(); fn == nil || !slices.Equal(fn.Packages(), pkgs) {
		f.fn.Store(balance.NewFn(name, pkgs))
	}
	f.policy.Store(p)
	return f
}

// function finds a function by name. Names that nobody has listed become
// functions when they are first called, unless the gateway is closed.
func (g *Gateway) function(st *state, name []byte) *function {
	if f := st.fns[string(name)]; f != nil {
		return f
	}
	if st.cfg.Closed {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.state.Load()
	if f := now.fns[string(name)]; f != nil {
		return f
	}
	at := g.now()
	full := now.invented >= maxInvented
	if len(name) > maxInventedName || full && at-g.forgot < forgetEvery {
		return g.other
	}
	// The maps of a state never change: the new name goes into a copy.
	next := *now
	next.fns = make(map[string]*function, len(now.fns)+1)
	for n, f := range now.fns {
		if full && g.forgetLocked(f) {
			next.invented--
		} else {
			next.fns[n] = f
		}
	}
	if full {
		g.forgot = at
	}
	if next.invented >= maxInvented {
		return g.other
	}
	next.invented++
	f := g.functionLocked(nil, string(name), nil, now.defaults)
	f.members, f.everywhere = now.everywhere, true
	f.group.Store(g.everywhere)
	next.fns[f.name] = f
	g.state.Store(&next)
	return f
}

// forgetLocked forgets a function of a name that nobody has listed and no worker has
// answered well, unless it is in use. What it has counted stays.
func (g *Gateway) forgetLocked(f *function) bool {
	if f.known.Load() || f.labelled.Load() || f.inflight.Load() > 0 || f.queue.Waiting() > 0 {
		return false
	}
	g.gone.Add(&f.Counts)
	return true
}

// label gives a function that nobody has listed a label of its own, while there are some.
func (g *Gateway) label(f *function) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.labels < maxInventedLabels && !f.labelled.Load() {
		g.labels++
		f.before.Add(&f.Counts)
		g.gone.Add(&f.Counts)
		f.labelled.Store(true)
	}
}

// configured are the workers of the configuration with what admin has changed.
func (g *Gateway) configured() []Worker {
	var ws []Worker
	seen := map[string]bool{}
	for _, w := range append(slices.Clone(g.cfg.Workers), g.added...) {
		if !g.removed[w.URL] && !seen[w.Name] {
			seen[w.Name] = true
			ws = append(ws, w)
		}
	}
	return ws
}

// AddWorkers adds workers by URL, as the admin path does. Those that are there
// already stay as they are. They outlive a reload.
func (g *Gateway) AddWorkers(urls ...string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range urls {
		if _, err := g.cfg.workerURL(s); err != nil {
			return fmt.Errorf("worker %q: want %w", s, err)
		}
	}
	for _, u := range urls {
		delete(g.removed, u)
		if !slices.ContainsFunc(g.configured(), func(w Worker) bool { return w.URL == u }) {
			g.added = append(g.added, Worker{URL: u, Name: u})
		}
	}
	return g.rebuildLocked()
}

// settleFor bounds how long RemoveWorkers waits: on a machine that is overloaded a
// worker may take that long to read what has been sent to it.
const settleFor = 2 * time.Second

// RemoveWorkers removes workers by URL. One that is not there is no error. Calls
// in flight on them finish. When it returns the workers may be stopped in an
// orderly way: it waits, for a moment at most, until the calls that were on their
// way to them are over or have long arrived.
func (g *Gateway) RemoveWorkers(urls ...string) error {
	gone, err := g.removeWorkers(urls)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(settleFor)
	defer end.Stop()
	for slices.ContainsFunc(gone, func(w *upstream.Worker) bool { return w.Bal.InFlight() > 0 }) {
		select {
		case <-tick.C:
		case <-end.C:
			return err
		}
	}
	return err
}

func (g *Gateway) removeWorkers(urls []string) (gone []*upstream.Worker, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, u := range urls {
		g.added = slices.DeleteFunc(g.added, func(w Worker) bool { return w.URL == u })
		if slices.ContainsFunc(g.cfg.Workers, func(w Worker) bool { return w.URL == u }) {
			g.removed[u] = true
		}
	}
	err = g.rebuildLocked()
	for _, w := range g.leaving {
		if slices.Contains(urls, w.URL.String()) {
			gone = append(gone, w)
		}
	}
	return gone, err
}
