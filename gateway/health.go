package gateway

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
)

// passive learns from a call of f that failed on a worker. What a function's calls
// run into counts for that function alone; a worker that cannot be reached, or on
// which functions fail one after another, is left out altogether.
func (g *Gateway) passive(w *upstream.Worker, f *function, e outcome.End, why error) {
	h := &g.state.Load().cfg.Health
	if e == outcome.WorkerUnreachable {
		_, certain := upstream.Unreachable(why)
		if certain {
			w.Flush()
		}
		if fails := w.Failed(); certain || fails >= h.Failures && g.maySpare(w, h.Panic) {
			g.quarantine(w, why, certain)
		}
		return
	}
	if f == g.tasks { // nobody else may run them
		return
	}
	if w.Failing(f) >= max(h.Failures, 2) && g.maySpare(w, h.Panic) {
		g.quarantine(w, why, false)
		return
	}
	f.ailing.fail(g, w, f, h, why)
}

// well learns from a call of f that a worker has answered.
func (g *Gateway) well(w *upstream.Worker, f *function) {
	w.Recovered()
	if f.ailing.some.Load() != 0 {
		f.ailing.recovered(w)
	}
}

// maySpare says whether the worker may be left out without leaving a function with
// too few.
func (g *Gateway) maySpare(w *upstream.Worker, panicShare float64) bool {
	st := g.state.Load()
	seen := map[*group]bool{}
	for _, f := range st.fns {
		seen[f.group.Load()] = true
	}
	seen[g.everywhere] = true
	for grp := range seen {
		if ws := grp.set.Workers(); slices.Contains(ws, w.Bal) && !spare(ws, w.Bal, panicShare) {
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
func (g *Gateway) quarantine(w *upstream.Worker, why error, away bool) {
	h := &g.state.Load().cfg.Health
	if wait, closed := w.Quarantine(g.now(), h.Quarantine, h.MaxQuarantine, why, away); closed {
		g.log.Warn("worker left out", "worker", w.Name, "for", wait, "error", why)
		g.wakeAll() // who waits for it need not
	}
}

// restore brings a worker back from quarantine.
func (g *Gateway) restore(w *upstream.Worker) {
	if w.Restore(g.now(), g.state.Load().cfg.Health.SlowStart) {
		g.log.Info("worker back in service", "worker", w.Name)
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

// tick is how often the gateway looks after its workers and connections.
const tick = 100 * time.Millisecond

// maintain runs until the context ends.
func (g *Gateway) maintain(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	lastActive, lastWindow, lastPools := g.now(), g.now(), g.now()
	lastNames := -int64(upstream.ResolveEvery)
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
			w.Ramping(now, h.SlowStart)
			if w.Due(now, active) {
				g.wg.Go(func() { g.check(ctx, w, h) })
			}
		}
		if now-lastWindow >= int64(outlierWindow) {
			lastWindow = now
			if h.Outliers {
				g.outliers(st)
			}
			for _, w := range st.workers {
				w.NewWindow()
			}
		}
		if now-lastNames >= int64(upstream.ResolveEvery) {
			lastNames = now
			for _, w := range st.workers {
				if w.MayHaveMoved() {
					g.wg.Go(func() { w.Resolve(ctx) })
				}
			}
		}
		if now-lastPools >= int64(5*time.Second) {
			lastPools = now
			for _, w := range st.workers {
				w.Sweep(now)
			}
		}
	}
}

// check asks a worker whether it lives, and takes it in or out of service.
func (g *Gateway) check(ctx context.Context, w *upstream.Worker, h *Health) {
	err := g.probe(ctx, w, h)
	if ctx.Err() != nil {
		return
	}
	out := w.Checked(g.now(), h.Quarantine, h.MaxQuarantine, err)
	switch {
	case out && err == nil:
		g.restore(w)
	case !out && err != nil:
		if _, certain := upstream.Unreachable(err); certain || w.Failed() >= h.Failures && g.maySpare(w, h.Panic) {
			g.quarantine(w, err, certain)
		}
	}
}

// probe makes one active check.
func (g *Gateway) probe(ctx context.Context, w *upstream.Worker, h *Health) error {
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
func (g *Gateway) askStatus(ctx context.Context, w *upstream.Worker, path string, timeout time.Duration) (status int, err error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, body, err := g.fetch(limited, w, path)
	if ctx.Err() == nil {
		w.Reply.Store(&upstream.Reply{At: time.Now(), Status: status, Text: outcome.FirstLine(body), Err: err})
	}
	return status, err
}

func (g *Gateway) fetch(ctx context.Context, w *upstream.Worker, path string) (status int, body string, err error) {
	scheme := "http"
	if w.TLS {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+w.Host+w.Base+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("User-Agent", "rota-gateway-check")
	req.Header.Set("Via", "1.1 "+string(g.via)) // a worker may be this gateway
	resp, err := w.Transport(g.state.Load().cfg.Limits.ofWorkers()).RoundTrip(req)
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
		w *upstream.Worker
		r float64
	}
	var rates []rate
	mean := 0.0
	for _, w := range st.workers {
		ok, bad := w.Window()
		if ok+bad >= outlierLeast && !w.Bal.Closed() {
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
