package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/internal/version/metric"
)

// metricsHandler answers with what Prometheus wants to know, exemplars to those who ask
// for OpenMetrics.
func (g *Gateway) metricsHandler() http.Handler {
	reg := prometheus.NewRegistry()
	spans := g.cfg.TracerProvider // for good: Reload keeps it
	lost := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "rota_spans_lost_total", Help: "Spans that were dropped because the queue was full or the collector did not accept them."},
		func() float64 { return float64(tracing.Lost(spans)) })
	reg.MustRegister(g.Collector(), metric.Build(), lost, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// ownPaths are the paths that the gateway answers itself: to whoever has shown
// already that they may use all of them, or not.
func (g *Gateway) ownPaths(metrics http.Handler, admitted bool) http.Handler {
	mux := http.NewServeMux()
	admin := func(pattern string, direct bool, h http.HandlerFunc) {
		if !admitted {
			h = g.guardAdmin(h, direct)
		}
		mux.Handle(pattern, h)
	}
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) { g.serveStatus(w, r, admitted) })
	mux.Handle("GET /metrics", metrics)
	admin("POST /admin/workers/add", true, func(w http.ResponseWriter, r *http.Request) { g.serveWorkers(w, r, g.AddWorkers, true) })
	admin("POST /admin/workers/remove", true, func(w http.ResponseWriter, r *http.Request) { g.serveWorkers(w, r, g.RemoveWorkers, false) })
	admin("GET /api/v1/routes", false, g.serveRoutes)
	admin("GET /api/v1/routes/{function}", false, g.serveRoute)
	admin("GET /api/v1/failures", false, g.serveFailures)
	admin("GET /api/v1/gateway", false, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, g.Status()) })
	noName := func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "a function's name is missing", http.StatusBadRequest)
	}
	mux.HandleFunc("/run", noName)
	mux.HandleFunc("/runLambda", noName)
	return mux
}

func (g *Gateway) serveWorkers(w http.ResponseWriter, r *http.Request, change func(...string) error, adds bool) {
	urls := r.URL.Query()["workers"]
	if len(urls) == 0 {
		http.Error(w, "workers: the query has no value of it", http.StatusBadRequest)
		return
	}
	for i, u := range urls {
		full, err := WorkerURL(u)
		if adds && upstream.NamesSocket(full) {
			err = upstream.ErrNoSockets // such as those of other programs, which trust whoever gets as far
		}
		if err != nil {
			http.Error(w, fmt.Sprintf("workers: %q: want %v", u, err), http.StatusBadRequest)
			return
		}
		urls[i] = full
	}
	if err := change(urls...); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, "ok") //nolint:errcheck // the client's loss
}

// WorkerURL returns the URL of a worker that is named with or without a scheme.
// The error says what was expected.
func WorkerURL(s string) (string, error) { return upstream.WholeURL(s) }

// leftOut are the functions that a worker is left out for, a few of them.
func leftOut(st *state, w *upstream.Worker) (names []string) {
	for name, f := range st.fns {
		if f.ailing.out(w) != "" && len(names) < 10 {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

func (g *Gateway) lastReloadError() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reloadErr
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) //nolint:errchkjson // plain structs; the rest is the client's loss
}

// Status is how a gateway stands.
type Status struct {
	Workers     []WorkerStatus `json:"workers"`
	Connections int            `json:"connections"`
	Reloads     uint64         `json:"reloads"`
	ReloadError string         `json:"reload_error,omitempty"`
	// Pending is what the configuration asks for that takes a restart.
	Pending string `json:"pending,omitempty"`
}

// WorkerStatus is how a worker stands.
type WorkerStatus struct {
	Name      string  `json:"name"`
	URL       string  `json:"url"`
	State     string  `json:"state"` // ready, quarantined, draining, dead
	Cause     string  `json:"cause,omitempty"`
	InFlight  int     `json:"in_flight"`
	Weight    int64   `json:"weight"`
	Calls     uint64  `json:"calls"`
	Failures  uint64  `json:"failures"`
	LatencyMS float64 `json:"latency_ms,omitempty"`
}

func statusOf(w *upstream.Worker) WorkerStatus {
	state, cause := w.State()
	calls, failures := w.Counts()
	return WorkerStatus{
		Name: w.Name, URL: w.URL.String(), State: state, Cause: cause, InFlight: w.Bal.InFlight(), Weight: w.Weight.Load(),
		Calls: calls, Failures: failures, LatencyMS: w.Bal.Latency() / 1e6,
	}
}

// Status says how the gateway stands.
func (g *Gateway) Status() Status {
	s := Status{Workers: []WorkerStatus{}, Connections: g.conns.len(), Reloads: g.reloads.Load()}
	for _, w := range g.state.Load().workers {
		s.Workers = append(s.Workers, statusOf(w))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Pending = g.pending
	if g.reloadErr != nil {
		s.ReloadError = g.reloadErr.Error()
	}
	return s
}

// RouteStatus is how calls of a function go.
type RouteStatus struct {
	Function string   `json:"function"`
	Packages []string `json:"packages,omitempty"`
	Balancer string   `json:"balancer"`
	Paths    []string `json:"paths"`
	InFlight int64    `json:"in_flight"`
	Waiting  int32    `json:"waiting"`
	Calls    uint64   `json:"calls"`
	Errors   uint64   `json:"errors"` // answers of 500 and above, and none
	Retries  uint64   `json:"retries"`
	Refused  uint64   `json:"refused"`
	P50MS    float64  `json:"p50_ms"`
	P99MS    float64  `json:"p99_ms"`
	// Next is the worker that would get the next call now.
	Next string `json:"next,omitempty"`
	// Workers are all that might get it, or may not and why.
	Workers []RouteWorker `json:"workers"`
	// Failures are the last calls that did not go well, the last first.
	Failures []Failure `json:"failures,omitempty"`
	// Split says how its calls are shared with another function.
	Split *SplitStatus `json:"split,omitempty"`
	// Guard says in a line who may call: with what keys, or who is asked.
	Guard string `json:"guard,omitempty"`
}

// RouteWorker says whether a worker may get a function's calls.
type RouteWorker struct {
	WorkerStatus
	May bool   `json:"may"`
	Why string `json:"why,omitempty"` // why it may not
}

// Routes says how the calls of each function go, by name.
func (g *Gateway) Routes() []RouteStatus {
	st := g.state.Load()
	out := []RouteStatus{}
	for _, f := range st.fns {
		out = append(out, g.route(st, f))
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Function < out[j].Function })
	return out
}

// Route says who would get a call of the function, who may not and why. ok is
// false if no such function is known.
func (g *Gateway) Route(name string) (r RouteStatus, ok bool) {
	st := g.state.Load()
	f := st.fns[name]
	if f == nil {
		return r, false
	}
	return g.route(st, f), true
}

func (g *Gateway) route(st *state, f *function) RouteStatus {
	p := f.policy.Load()
	r := RouteStatus{
		Function: f.name, Packages: f.fn.Load().Packages(), Balancer: p.Balancer, Paths: []string{"/run/" + f.name, "/runLambda/" + f.name},
		InFlight: f.inflight.Load(), Waiting: f.queue.Waiting() + f.group.Load().queue.Waiting(),
		Retries: f.Retries.Load(), Refused: f.Refused.Load(),
		P50MS: float64(f.Times.Quantile(.5, 1)) / 1e6, P99MS: float64(f.Times.Quantile(.99, 1)) / 1e6, Workers: []RouteWorker{},
		Failures: f.recent(), Split: f.split.status(), Guard: st.guards.of([]byte(f.name)).describe(),
	}
	if st.guards.byRoute[f.name] {
		r.Paths = nil
	}
	for _, rt := range st.routes {
		if rt.Function == f.name {
			path := rt.Host + rt.Prefix
			if len(rt.Methods) > 0 {
				path = strings.Join(rt.Methods, ",") + ":" + path
			}
			if rt.guard != nil {
				path += " (" + rt.guard.describe() + ")"
			}
			r.Paths = append(r.Paths, path)
		}
	}
	for class := range f.Status {
		n := f.Status[class].Load()
		r.Calls += n
		if class == 0 || class == 5 {
			r.Errors += n
		}
	}
	offered := g.offered(f)
	for _, w := range st.workers {
		rw := RouteWorker{WorkerStatus: statusOf(w), May: true}
		switch {
		case !offered[w.Bal]:
			rw.May, rw.Why = false, "does not offer this function"
		case rw.State != "ready":
			rw.May, rw.Why = false, rw.State
			if rw.Cause != "" && rw.Cause != rw.State {
				rw.Why += ": " + rw.Cause
			}
		case f.ailing.out(w) != "":
			rw.May, rw.Why = false, "left out for this function: "+f.ailing.out(w)
		case w.Bal.Full():
			rw.May, rw.Why = false, "at its limit of calls in flight"
		}
		r.Workers = append(r.Workers, rw)
	}
	// A pick tells what the rule would do now; its place is given back at once.
	var pick balance.Pick
	call := balance.Call{Fn: f.fn.Load(), Rand: uint64(g.now()), Now: g.now()}
	if w := f.group.Load().set.Pick(p.rule, &call, &pick); w != nil {
		r.Next = w.Name()
		pick.Release()
		f.group.Load().queue.Wake()
	}
	return r
}

// offered are the workers that offer the function, whether or not they are in service.
func (g *Gateway) offered(f *function) map[*balance.Worker]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	offered := map[*balance.Worker]bool{}
	for _, m := range f.members {
		offered[m.Worker] = true
	}
	return offered
}

// serveFailures answers which calls have failed, those of a function or with an id if
// it is asked for them.
func (g *Gateway) serveFailures(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	writeJSON(w, g.Failures(q.Get("function"), q.Get("id")))
}

func (g *Gateway) serveRoutes(w http.ResponseWriter, _ *http.Request) { writeJSON(w, g.Routes()) }

func (g *Gateway) serveRoute(w http.ResponseWriter, r *http.Request) {
	rt, ok := g.Route(r.PathValue("function"))
	if !ok {
		http.Error(w, "no such function: "+r.PathValue("function"), http.StatusNotFound)
		return
	}
	writeJSON(w, rt)
}
