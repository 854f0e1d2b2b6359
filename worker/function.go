package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/offer"
)

// functions are what the worker answers calls of.
type functions struct {
	handlers map[string]http.Handler
	packages map[string][]string
	calls    http.Handler // of tasks
	url      string       // once it listens
}

// HandleFunction registers a function, before Run: the gateways of the cluster
// send calls of /run/<name> here. packages are those that it needs, the largest
// first; gateways keep functions that share them together.
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
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "function", Value: name, Want: "a handler that is not nil"})
	case w.functions.handlers[name] != nil:
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "function", Value: name, Want: "one handler a function; it has one"})
	case strings.ContainsAny(strings.Join(packages, ""), ", \t\n"):
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "packages", Value: strings.Join(packages, " "), Want: "names without commas and spaces"})
	}
	if w.functions.handlers == nil {
		w.functions.handlers, w.functions.packages = map[string]http.Handler{}, map[string][]string{}
	}
	w.functions.handlers[name], w.functions.packages[name] = h, slices.Clone(packages)
	return nil
}

// HandleCalls registers what answers calls of tasks, before Run: /t/<task>/rest
// at a gateway arrives as /rest at the worker that owns the task, with the
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
func (f *functions) serve(addr string, conf *tls.Config) (stop func(), err error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
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
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
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

// noticeTime is how long gateways may take to notice that a worker has left.
const noticeTime = 100 * time.Millisecond

// callsGrace is how long calls in flight may take when the worker ends.
const callsGrace = 10 * time.Second

// labels are the worker's own and those that offer its functions. The worker's
// lock is held.
func (w *Worker) labels() map[string]string {
	if w.functions.url == "" {
		return w.cfg.Labels
	}
	return offer.Labels(maps.Clone(w.cfg.Labels), w.functions.url, w.functions.packages)
}
