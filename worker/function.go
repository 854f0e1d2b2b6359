package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/listener"
	"github.com/rota-project/rota/internal/offer"
	"github.com/rota-project/rota/internal/origin"
	"github.com/rota-project/rota/internal/program/build"

	"go.opentelemetry.io/otel/trace"
)

// functions are what the worker answers calls of.
type functions struct {
	handlers map[string]http.Handler
	packages map[string][]string
	calls    http.Handler // of tasks
	url      string       // once it listens
}

// HandleFunction registers a function. Call it before Run. The gateways of the cluster send
// calls of /run/<name> here. packages lists the packages that the function needs, the
// largest first; gateways keep functions that share packages together.
func (w *Worker) HandleFunction(name string, h http.Handler, packages ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := offer.ValidName(name); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	switch {
	case w.ran:
		return errors.New("worker: HandleFunction after Run")
	case h == nil:
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "function", Value: name, Want: "a non-nil handler"})
	case w.functions.handlers[name] != nil:
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "function", Value: name, Want: "one handler per function; this function has one"})
	case strings.ContainsAny(strings.Join(packages, ""), ", \t\n"):
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "packages", Value: strings.Join(packages, " "), Want: "names without commas and spaces"})
	}
	if w.functions.handlers == nil {
		w.functions.handlers, w.functions.packages = map[string]http.Handler{}, map[string][]string{}
	}
	w.functions.handlers[name], w.functions.packages[name] = h, slices.Clone(packages)
	return nil
}

// HandleCalls registers the handler for calls of tasks. Call it before Run. A call of
// /t/<task>/rest at a gateway arrives as /rest at the worker that owns the task, with the
// generation of its grant in the header Rota-Generation.
func (w *Worker) HandleCalls(h http.Handler) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ran {
		return errors.New("worker: HandleCalls after Run")
	}
	w.functions.calls = h
	return nil
}

func (f *functions) any() bool { return len(f.handlers) > 0 || f.calls != nil }

// serve listens for calls. It returns what ends it.
// It listens with TLS if conf is not nil.
func (f *functions) serve(addr string, conf *tls.Config, spans trace.TracerProvider) (stop func(), err error) {
	if addr == "" {
		addr = net.JoinHostPort(listener.Loopback(), "0")
	}
	ln, err := listener.TCP(context.Background(), addr)
	if err != nil {
		return nil, fmt.Errorf("worker: listen for calls: %w", err)
	}
	f.url = "http://" + ln.Addr().String()
	if conf != nil {
		f.url = "https://" + ln.Addr().String()
		ln = tls.NewListener(ln, conf)
	}
	mux := http.NewServeMux()
	for name, h := range f.handlers {
		mux.Handle("/run/"+name, h)
		mux.Handle("/run/"+name+"/", h)
		mux.Handle("/runLambda/"+name, h)
	}
	mux.HandleFunc("GET /status", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("ready\n")) })
	if f.calls != nil {
		mux.Handle("/", f.calls)
	}
	handler := traced(spans, mux)
	if conf == nil { // over TLS nobody but schedulers gets as far
		guard, err := origin.New(origin.Config{Addrs: []string{ln.Addr().String()}})
		if err != nil {
			_ = ln.Close()
			return nil, err
		}
		handler = throughGateway(handler, guard)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: maxCallHeader}
	go func() { _ = srv.Serve(ln) }()
	return func() {
		// The session has ended: gateways are just learning that nothing may be
		// sent here any more. What is on its way still arrives.
		time.Sleep(noticeTime)
		ctx, cancel := context.WithTimeout(context.Background(), callsGrace)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
	}, nil
}

// maxCallHeader is the most bytes of a call's header: what a gateway takes by default, and
// what it adds.
const maxCallHeader = 96 << 10

// throughGateway lets calls pass that a gateway brings, whatever Host and Origin they were
// made with: it says so in Via, which no web page can set, and has asked its own guard.
// All others are held to the worker's guard.
func throughGateway(calls http.Handler, guard *origin.Guard) http.Handler {
	direct := guard.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ask := origin.Of(r)
		ask.Acts = true // a function may do anything, whatever the method
		if refusal := guard.Check(ask); refusal != nil {
			http.Error(rw, refusal.Reason, refusal.Status)
			return
		}
		calls.ServeHTTP(rw, r)
	}), nil)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if len(r.Header["Via"]) > 0 {
			calls.ServeHTTP(rw, r)
			return
		}
		direct.ServeHTTP(rw, r)
	})
}

// noticeTime is how long gateways may take to notice that a worker has left.
const noticeTime = 100 * time.Millisecond

// callsGrace is how long calls in flight may take when the worker ends.
const callsGrace = 10 * time.Second

// labels are the worker's own and those that offer its functions. The worker's
// lock is held.
func (w *Worker) labels() map[string]string {
	labels := w.cfg.Labels
	if w.functions.url != "" {
		labels = offer.Labels(labels, w.functions.url, w.functions.packages)
	}
	for kind := range w.handlers {
		if rota.IsProgramKind(kind) {
			return build.Own().Labels(labels)
		}
	}
	return labels
}
