package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/outcome"
)

// unreachable says whether an error means that no connection to the worker could be
// made, and whether that is certain to go on: nobody listens, or TLS fails.
func unreachable(err error) (ok, certain bool) {
	var op *net.OpError
	var dns *net.DNSError
	var header tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, errTLS), noSocket(err),
		errors.As(err, &header), errors.As(err, &cert), alerted(err):
		return true, true
	case errors.As(err, &dns):
		return true, dns.IsNotFound
	}
	return errors.As(err, &op) && op.Op == "dial", false
}

// noSocket says that there is no socket at the path where the worker should be, or that
// it is not for us.
func noSocket(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && op.Net == "unix" && !op.Timeout() && !errors.Is(err, syscall.EAGAIN)
}

// passive learns from a call of f that failed on a worker. What a function's calls
// run into counts for that function alone; a worker that cannot be reached, or on
// which functions fail one after another, is left out altogether.
func (g *Gateway) passive(w *worker, f *function, e outcome.End, why error) {
	h := &g.state.Load().cfg.Health
	if e == outcome.WorkerUnreachable {
		_, certain := unreachable(why)
		if certain {
			w.pool.flush()
		}
		if fails := int(w.health.fails.Add(1)); certain || fails >= h.Failures && g.maySpare(w, h.Panic) {
			g.quarantine(w, why, certain)
		}
		return
	}
	if f == g.tasks { // nobody else may run them
		return
	}
	if w.health.failing(f) >= max(h.Failures, 2) && g.maySpare(w, h.Panic) {
		g.quarantine(w, why, false)
		return
	}
	f.ailing.fail(g, w, f, h, why)
}

// well learns from a call of f that a worker has answered.
func (g *Gateway) well(w *worker, f *function) {
	if w.health.fails.Load() != 0 {
		w.health.recovered()
	}
	if f.ailing.some.Load() != 0 {
		f.ailing.recovered(w)
	}
}

// maySpare says whether the worker may be left out without leaving a function with
// too few.
func (g *Gateway) maySpare(w *worker, panicShare float64) bool {
	st := g.state.Load()
	seen := map[*group]bool{}
	for _, f := range st.fns {
		seen[f.group.Load()] = true
	}
	seen[g.everywhere] = true
	for grp := range seen {
		if ws := grp.set.Workers(); slices.Contains(ws, w.bal) && !spare(ws, w.bal, panicShare) {
			return false
		}
	}
	return true
}

// spare says whether enough of the workers are in service without that one. The
// last one always stays.
func spare(ws []*balance.Worker, without *balance.Worker, panicShare float64) bool {
	open := 0
	for _, x := range ws {
		if x != without && !x.Closed() {
			open++
		}
	}
	return open >= 1 && float64(open) >= panicShare*float64(len(ws))
}

// quarantine leaves a worker out. away says that no connection to it can be made.
func (g *Gateway) quarantine(w *worker, why error, away bool) {
	h := &g.state.Load().cfg.Health
	now := g.now()
	w.health.mu.Lock()
	defer w.health.mu.Unlock()
	if w.health.why&quarantined != 0 {
		return
	}
	// A worker that has done well for long begins at the bottom again.
	if now-w.health.lastGood > int64(h.MaxQuarantine) {
		w.health.level = 0
	}
	wait := min(h.Quarantine<<min(w.health.level, 16), h.MaxQuarantine)
	if w.health.level < 16 {
		w.health.level++
	}
	w.health.until = now + int64(wait)
	reasons := quarantined
	if away {
		reasons |= unreached
	}
	if _, closed := w.setLocked(reasons, 0, why.Error()); closed {
		g.log.Warn("worker left out", "worker", w.name, "for", wait, "error", why)
		g.wakeAll() // who waits for it need not
	}
}

// restore brings a worker back from quarantine.
func (g *Gateway) restore(w *worker) {
	w.health.recovered()
	w.health.mu.Lock()
	w.health.lastGood = g.now()
	g.beginRamp(w, g.state.Load().cfg.Health.SlowStart)
	opened, _ := w.setLocked(0, quarantined|unreached, "")
	w.health.mu.Unlock()
	if opened {
		g.log.Info("worker back in service", "worker", w.name)
		g.wakeAll()
	}
}

func (g *Gateway) wakeAll() {
	st := g.state.Load()
	g.everywhere.queue.Wake()
	g.all.queue.Wake()
	for _, f := range st.fns {
		if grp := f.group.Load(); grp != g.everywhere {
			grp.queue.Wake()
		}
	}
}

// beginRamp starts the worker's slow start, if there is one.
func (g *Gateway) beginRamp(w *worker, slowStart time.Duration) {
	if slowStart > 0 {
		w.bal.SetShare(0.1)
		w.ramp.Store(g.now())
	}
}

// tick is how often the gateway looks after its workers and connections.
const tick = 100 * time.Millisecond

// maintain runs until the context ends.
func (g *Gateway) maintain(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	lastActive, lastWindow, lastPools := g.now(), g.now(), g.now()
	lastNames := -int64(resolveEvery)
	for {
		var at time.Time
		select {
		case <-ctx.Done():
			return
		case at = <-t.C:
		}
		now := g.now()
		g.tellDate()
		g.sweepConns(now)
		g.readmit(now)
		g.tellRest(at)
		st := g.state.Load()
		h := &st.cfg.Health
		active := h.Interval > 0 && now-lastActive >= int64(h.Interval)
		if active {
			lastActive = now
		}
		for _, w := range st.workers {
			g.ramping(w, now, h.SlowStart)
			w.health.mu.Lock()
			due := w.health.why&(dead|draining) == 0 && !w.health.probing &&
				(active || w.health.why&quarantined != 0 && now >= w.health.until)
			if due {
				w.health.probing = true
			}
			w.health.mu.Unlock()
			if due {
				g.wg.Go(func() { g.check(ctx, w, h) })
			}
		}
		if now-lastWindow >= int64(outlierWindow) {
			lastWindow = now
			if h.Outliers {
				g.outliers(st)
			}
			for _, w := range st.workers {
				w.windowOK.Store(0)
				w.windowBad.Store(0)
			}
		}
		if now-lastNames >= int64(resolveEvery) {
			lastNames = now
			for _, w := range st.workers {
				if w.named() && !w.resolving.Load() {
					w.resolving.Store(true)
					g.wg.Go(func() {
						defer w.resolving.Store(false)
						w.resolve(ctx)
					})
				}
			}
		}
		if now-lastPools >= int64(5*time.Second) {
			lastPools = now
			for _, w := range st.workers {
				w.pool.sweep(now)
			}
		}
	}
}

func (g *Gateway) ramping(w *worker, now int64, slowStart time.Duration) {
	from := w.ramp.Load()
	if from == 0 {
		return
	}
	part := float64(now-from) / float64(max(slowStart, 1))
	if part >= 1 {
		w.ramp.Store(0)
		w.bal.SetShare(1)
		return
	}
	w.bal.SetShare(max(0.1, part))
}

// check asks a worker whether it lives, and takes it in or out of service.
func (g *Gateway) check(ctx context.Context, w *worker, h *Health) {
	err := g.probe(ctx, w, h)
	if ctx.Err() != nil {
		return
	}
	w.health.mu.Lock()
	out := w.health.why&quarantined != 0
	w.health.probing = false
	if out && err != nil {
		wait := min(h.Quarantine<<min(w.health.level, 16), h.MaxQuarantine)
		// A port that nobody listens on costs nothing to try: look again soon.
		if errors.Is(err, syscall.ECONNREFUSED) {
			wait = min(wait, h.Quarantine)
		}
		w.health.until = g.now() + int64(wait)
		w.health.level = min(w.health.level+1, 16)
		w.health.cause = err.Error()
	}
	w.health.mu.Unlock()
	switch {
	case out && err == nil:
		g.restore(w)
	case !out && err != nil:
		if _, certain := unreachable(err); certain || int(w.health.fails.Add(1)) >= h.Failures && g.maySpare(w, h.Panic) {
			g.quarantine(w, err, certain)
		}
	}
}

// probe makes one active check.
func (g *Gateway) probe(ctx context.Context, w *worker, h *Health) error {
	status, err := g.askStatus(ctx, w, h.Path, h.Timeout)
	if err != nil {
		return err
	}
	if status >= 500 {
		return fmt.Errorf("%s answered %d", h.Path, status)
	}
	return nil
}

// askStatus GETs a path of a worker, and remembers the beginning of its answer for
// /status.
func (g *Gateway) askStatus(ctx context.Context, w *worker, path string, timeout time.Duration) (status int, err error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, body, err := g.fetch(limited, w, path)
	if ctx.Err() == nil {
		w.reply.Store(&reply{at: time.Now(), status: status, text: outcome.FirstLine(body), err: err})
	}
	return status, err
}

func (g *Gateway) fetch(ctx context.Context, w *worker, path string) (status int, body string, err error) {
	scheme := "http"
	if w.tls {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+w.host+w.base+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("User-Agent", "rota-gateway-check")
	req.Header.Set("Via", "1.1 "+string(g.via)) // a worker may be this gateway
	resp, err := w.transport(&g.state.Load().cfg.Limits).RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing depends on it
	b, err := io.ReadAll(io.LimitReader(resp.Body, 512))
	return resp.StatusCode, string(b), err
}

const (
	// outlierWindow is over what time success rates are compared.
	outlierWindow = 10 * time.Second
	// outlierLeast is how many answers a worker must have had to be compared.
	outlierLeast = 50
	// outlierWorkers is how many workers must be comparable.
	outlierWorkers = 3
	// outlierFactor is how many standard deviations below the mean a success
	// rate may be (Envoy's default).
	outlierFactor = 1.9
)

// outliers leaves out the workers whose success rate is far below the others'.
func (g *Gateway) outliers(st *state) {
	type rate struct {
		w *worker
		r float64
	}
	var rates []rate
	mean := 0.0
	for _, w := range st.workers {
		ok, bad := w.windowOK.Load(), w.windowBad.Load()
		if ok+bad >= outlierLeast && !w.bal.Closed() {
			r := float64(ok) / float64(ok+bad)
			rates = append(rates, rate{w, r})
			mean += r
		}
	}
	if len(rates) < outlierWorkers {
		return
	}
	mean /= float64(len(rates))
	variance := 0.0
	for _, r := range rates {
		variance += (r.r - mean) * (r.r - mean)
	}
	bound := mean - outlierFactor*math.Sqrt(variance/float64(len(rates)))
	for _, r := range rates {
		// With few workers one bad one widens the deviation so much that it hides
		// itself; half of the mean is bad at any number.
		if (r.r < bound || r.r < mean/2) && g.maySpare(r.w, st.cfg.Health.Panic) {
			g.quarantine(r.w, fmt.Errorf("success rate %.0f%%, the others' %.0f%%", 100*r.r, 100*mean), false)
		}
	}
}
