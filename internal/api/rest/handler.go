package rest

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/origin"
	"github.com/rota-project/rota/internal/packed"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/internal/unread"
)

// Limits of the HTTP API.
const (
	// MaxHeader is the most bytes that the header of a request may have.
	MaxHeader = 32 << 10
	// DefaultTimeout is how long a call may take, watches excepted.
	DefaultTimeout = 30 * time.Second
)

// Config says what the handler serves. Only Conn is needed.
type Config struct {
	// Conn leads to the gRPC server that answers, most often in the same process.
	Conn grpc.ClientConnInterface
	// Addr is the address that the server listens on; empty is one of loopback.
	// Only requests whose Host names it are answered, so that no web page can
	// reach the API by a name of its own that resolves to this server (DNS
	// rebinding): on loopback that is a loopback host, elsewhere any address.
	Addr string
	// Hosts are host names without port that are answered too, as of
	// origin.Config.
	Hosts []string
	// Console answers / and what is below it, but for what follows.
	// Nil: there is nothing there.
	Console http.Handler
	// Metrics answers /metrics. Nil: there is nothing there.
	Metrics http.Handler
	// Debug answers what is below /debug/. Nil: there is nothing there.
	Debug http.Handler
	// Ready answers /readyz: nil is 200, an error is 503 with its text.
	// A Config without it is ready when it is alive.
	Ready func(context.Context) error
	// SignIn answers what concerns signing in at a browser: /signin, /signin.js,
	// /v1/signin and what is below it, /v1/signout, /v1/whoami. Nil: there is
	// nothing there.
	SignIn http.Handler
	// Session is the value of the cookie that a request is made with, which its
	// call is to hand on; empty without one. Nil: requests have none.
	Session func(*http.Request) string
	// Jobs answers the calls of the old job API: /start, /stop, /query, /stream.
	// Nil: there is nothing there.
	Jobs http.Handler
	// Admit decides who may call a route, when nothing but the header of the
	// request was read: by the name of the gRPC method, or by those below. The
	// pass, which may be nil, pays for the body and is ended by whoever gave it.
	// The error is a gRPC status. Nil: all may.
	Admit func(r *http.Request, method string) (*auth.Pass, error)
	// Timeout is the most time a call may take, watches excepted.
	// Zero means DefaultTimeout.
	Timeout time.Duration
}

// Names, as of gRPC methods, of the routes that are none.
const (
	MetricsMethod = "/rota.HTTP/Metrics"
	DebugMethod   = "/rota.HTTP/Debug"
	ConsoleMethod = "/rota.HTTP/Console"
	OpenAPIMethod = "/rota.HTTP/OpenAPI"
	AliveMethod   = "/rota.HTTP/Alive"
	ReadyMethod   = "/rota.HTTP/Ready"
)

// NewHandler returns the handler of the whole HTTP side: /v1, /v1/openapi.json,
// /healthz, /readyz, and, if given, /metrics and the console. Its error is a
// *rota.FieldError.
func NewHandler(cfg Config) (http.Handler, error) {
	if cfg.Conn == nil {
		return nil, &rota.FieldError{Field: "Conn", Value: nil, Want: "a connection to the gRPC server"}
	}
	if cfg.Timeout < 0 {
		return nil, &rota.FieldError{Field: "Timeout", Value: cfg.Timeout, Want: "zero or more"}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	known, err := newRoutes()
	if err != nil {
		return nil, err
	}
	root := &root{cfg: cfg, routes: known}
	if root.calls, err = newGateway(strictConn{cfg.Conn}, root.admit, root.session); err != nil {
		return nil, err
	}
	names := origin.Config{Hosts: cfg.Hosts}
	if cfg.Addr != "" {
		names.Addrs = []string{cfg.Addr}
	}
	guard, err := origin.New(names)
	if err != nil {
		return nil, err
	}
	return rollingDeadline(guard.Handler(root, func(w http.ResponseWriter, r *origin.RefusedError) {
		writeError(w, r.Status, "permission_denied", r.Reason, "")
	})), nil
}

// root hands a request to who answers it. It does what http.ServeMux does,
// without cleaning the path: a task's id may contain anything, "//" and ".."
// too, as long as it is escaped.
type root struct {
	cfg    Config
	routes routes
	calls  http.Handler
}

// enter asks whether the request may call the method.
func (h *root) enter(r *http.Request, method string) (*auth.Pass, error) {
	if h.cfg.Admit == nil {
		return nil, nil
	}
	return h.cfg.Admit(r, method)
}

// session is what a request hands on of its cookie.
func (h *root) session(_ context.Context, r *http.Request) metadata.MD {
	if h.cfg.Session == nil || len(r.Header["Authorization"]) > 0 {
		return nil
	}
	if value := h.cfg.Session(r); value != "" {
		return metadata.Pairs(auth.SessionKey, value)
	}
	return nil
}

// protect has browsers take an answer for what it is, and show it to no page of
// another origin.
func protect(head http.Header) {
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Frame-Options", "DENY")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Referrer-Policy", "no-referrer")
}

func isSignIn(path string) bool {
	switch path {
	case "/signin", "/signin.js", "/v1/signin", "/v1/signout", "/v1/whoami":
		return true
	}
	return strings.HasPrefix(path, "/v1/signin/")
}

func (h *root) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	path := r.URL.EscapedPath()
	var method string
	var next http.Handler
	switch {
	case path == "/v1/openapi.json":
		method, next = OpenAPIMethod, getOnly(http.HandlerFunc(serveOpenAPI))
	case h.cfg.SignIn != nil && isSignIn(path):
		h.cfg.SignIn.ServeHTTP(w, r) // it asks for itself
		return
	case strings.HasPrefix(path, "/v1/"):
		h.serveCall(w, r)
		return
	case path == "/healthz":
		method, next = AliveMethod, getOnly(http.HandlerFunc(serveOK))
	case path == "/readyz":
		method, next = ReadyMethod, getOnly(http.HandlerFunc(h.serveReady))
	case path == "/metrics" && h.cfg.Metrics != nil:
		method, next = MetricsMethod, h.cfg.Metrics
	case strings.HasPrefix(path, "/debug/") && h.cfg.Debug != nil:
		method, next = DebugMethod, h.cfg.Debug
	case h.cfg.Jobs != nil && (path == "/start" || path == "/stop" || path == "/query" || path == "/stream"):
		h.cfg.Jobs.ServeHTTP(w, r) // it asks for itself, and answers as the old one did
		return
	case h.cfg.Console != nil:
		method, next = ConsoleMethod, h.cfg.Console
	default:
		writeError(w, http.StatusNotFound, "not_found", "nothing is at "+r.URL.Path, "")
		return
	}
	if _, err := h.enter(r, method); err != nil {
		unread.Close(w, r)
		handleError(r.Context(), nil, marshaler{}, w, r, err)
		return
	}
	next.ServeHTTP(w, r)
}

func (h *root) serveCall(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	if isWatch(r) {
		cancel()
		ctx, cancel = untilStopping(r.Context())
	}
	defer cancel()
	r = r.WithContext(ctx)
	r, ok := withQuery(w, r)
	if !ok {
		return
	}
	// The gateway's router must see each part of the path as it was escaped, or
	// an id with a slash would be two parts; unescape undoes it once, after.
	u := *r.URL
	u.Path, u.RawPath = u.EscapedPath(), ""
	r = r.WithContext(r.Context())
	r.URL = &u
	w.Header().Set("Cache-Control", "no-store")
	// A page of another origin can neither ask with somebody's session nor read how long
	// the answer is, so compression gives nothing away.
	if small := packed.New(w, r, cancel); small != nil {
		defer func() { _ = small.Close() }() // who reads has gone
		w = small
	}
	h.calls.ServeHTTP(w, r)
}

func isWatch(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	parts := strings.Split(r.URL.EscapedPath(), "/") // an id may have slashes, escaped
	switch len(parts) {
	case 3:
		return strings.HasSuffix(parts[2], ":watch")
	case 5:
		return parts[2] == "jobs" && parts[4] == "output" || parts[2] == "tasks" && parts[4] == "logs"
	}
	return false
}

func (h *root) serveReady(w http.ResponseWriter, r *http.Request) {
	if h.cfg.Ready != nil {
		if err := h.cfg.Ready(r.Context()); err != nil {
			writeError(w, http.StatusServiceUnavailable, "unavailable", err.Error(), "")
			return
		}
	}
	serveOK(w, r)
}

func serveOK(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}

func getOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeError(w, http.StatusMethodNotAllowed, "unimplemented", r.Method+" is not possible here", "")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newGateway returns the calls of the services as JSON over conn, behind admit.
func newGateway(conn grpc.ClientConnInterface, admit runtime.Middleware, more func(context.Context, *http.Request) metadata.MD) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler{}),
		runtime.WithMetadata(more),
		runtime.WithUnescapingMode(runtime.UnescapingModeLegacy),
		runtime.WithMiddlewares(admit, unescape),
		runtime.WithErrorHandler(handleError),
		runtime.WithRoutingErrorHandler(handleRoutingError),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithIncomingHeaderMatcher(traceHeaders),
		runtime.WithOutgoingHeaderMatcher(ageHeaders),
		runtime.WithOutgoingTrailerMatcher(noHeader),
	)
	ctx := context.Background()
	tasks := rotav1.NewTasksClient(conn)
	for _, register := range []func() error{
		func() error { return rotav1.RegisterTasksHandlerClient(ctx, mux, tasks) },
		func() error { return rotav1.RegisterWorkersHandlerClient(ctx, mux, rotav1.NewWorkersClient(conn)) },
		func() error { return rotav1.RegisterProgramsHandlerClient(ctx, mux, rotav1.NewProgramsClient(conn)) },
		func() error { return rotav1.RegisterClusterHandlerClient(ctx, mux, rotav1.NewClusterClient(conn)) },
		func() error { return rotav1.RegisterEventsHandlerClient(ctx, mux, rotav1.NewEventsClient(conn)) },
		func() error { return rotav1.RegisterMembersHandlerClient(ctx, mux, rotav1.NewMembersClient(conn)) },
		func() error { return rotav1.RegisterJobsHandlerClient(ctx, mux, rotav1.NewJobsClient(conn)) },
		func() error {
			return rotav1.RegisterJobSchedulesHandlerClient(ctx, mux, rotav1.NewJobSchedulesClient(conn))
		},
		func() error { return rotav1.RegisterFunctionsHandlerClient(ctx, mux, rotav1.NewFunctionsClient(conn)) },
		func() error { return rotav1.RegisterPoolsHandlerClient(ctx, mux, rotav1.NewPoolsClient(conn)) },
		func() error { return handleDelete(mux, tasks) },
	} {
		if err := register(); err != nil {
			return nil, err
		}
	}
	return mux, nil
}

// Headers of answers, of gRPC and of HTTP alike.
const (
	// AgeHeader says how old the picture is that an answer is from, in milliseconds.
	AgeHeader = "rota-age-ms"
	// StaleHeader is "true" if that is older than a lease: what runs may have changed.
	StaleHeader = "rota-stale"
)

// ageHeaders lets only those through from the metadata of gRPC's answers.
func ageHeaders(key string) (string, bool) {
	return key, key == AgeHeader || key == StaleHeader
}

// traceHeaders lets the trace context of a call through to gRPC, beside what always is.
func traceHeaders(key string) (string, bool) {
	if key == tracing.ParentHeader || key == tracing.StateHeader {
		return strings.ToLower(key), true
	}
	return runtime.DefaultHeaderMatcher(key)
}

// noHeader keeps the metadata of gRPC answers out of HTTP's.
func noHeader(string) (string, bool) { return "", false }

// unescape undoes the escaping of what the path of a call names.
func unescape(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		for name, escaped := range params {
			value, err := url.PathUnescape(escaped)
			if err != nil { // net/url has checked it
				writeError(w, http.StatusBadRequest, "invalid_argument", err.Error(), name)
				return
			}
			params[name] = value
		}
		next(w, r, params)
	}
}

// handleDelete takes DELETE /v1/tasks/{id}. The generated handler would split
// the id at its commas, because the field that it maps to is a list.
func handleDelete(mux *runtime.ServeMux, tasks rotav1.TasksClient) error {
	return mux.HandlePath(http.MethodDelete, "/v1/tasks/{ids}", func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		ctx, err := runtime.AnnotateContext(r.Context(), mux, r, rotav1.Tasks_DeleteTasks_FullMethodName)
		if err != nil {
			handleError(r.Context(), mux, marshaler{}, w, r, err)
			return
		}
		resp, err := tasks.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{params["ids"]}})
		if err != nil {
			handleError(ctx, mux, marshaler{}, w, r, err)
			return
		}
		ctx = runtime.NewServerMetadataContext(ctx, runtime.ServerMetadata{})
		runtime.ForwardResponseMessage(ctx, mux, marshaler{}, w, r, resp)
	})
}
