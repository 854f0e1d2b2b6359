package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// transports are the net/http clients: for HTTP/2, for whoever mounts Handler,
// and for active checks.
type transports struct {
	once sync.Once
	h1   *http.Transport // HTTP/1, and HTTP/2 over TLS where the worker offers it
	h2c  *http.Transport
}

func (t *transports) init() {
	t.once.Do(func() {
		base := func() *http.Transport {
			return &http.Transport{
				MaxIdleConnsPerHost: 256,
				IdleConnTimeout:     idleFor,
				DisableCompression:  true, // bodies pass as they are
				ForceAttemptHTTP2:   true,
				TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			}
		}
		t.h1, t.h2c = base(), base()
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		t.h2c.Protocols = &p
	})
}

func (t *transports) close() {
	t.init()
	t.h1.CloseIdleConnections()
	t.h2c.CloseIdleConnections()
}

func (g *Gateway) transport(w *worker) http.RoundTripper {
	g.transports.init()
	if w.h2c {
		return g.transports.h2c
	}
	return g.transports.h1
}

// callKey finds the call in a request's context.
type callKey struct{}

// httpCall is a call on net/http.
type httpCall struct {
	call
	t      target
	whole  []byte // the body, if it can be sent again
	status int

	// The end of an upgraded connection may be noticed by several at once.
	mu    sync.Mutex
	ended bool
}

// settle gives the place on the worker back after its answer.
func (x *httpCall) settle(status int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		x.ended = true
		x.settled(status)
	}
}

// end is the end of the call, however it went.
func (x *httpCall) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	x.finish(x.status)
}

// newHandler is the gateway on net/http.
func (g *Gateway) newHandler() http.Handler {
	// ReverseProxy flushes answers of unknown length and server-sent events at
	// once by itself. A FlushInterval would flush the head of an answer that has
	// no body too, now and then before its end: gRPC errors are such answers, and
	// must be one frame.
	rp := &httputil.ReverseProxy{
		Rewrite:      func(pr *httputil.ProxyRequest) { g.rewrite(pr) },
		Transport:    roundTripper{g},
		BufferPool:   proxyBuffers{},
		ErrorHandler: g.proxyError,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serveHTTP(rp, w, r) })
}

type proxyBuffers struct{}

func (proxyBuffers) Get() []byte  { return *getPumpBuffer() }
func (proxyBuffers) Put(b []byte) { pumpBuffers.Put(&b) }

// callOf is the call that serveHTTP has put into a request's context.
func callOf(ctx context.Context) *httpCall {
	x, _ := ctx.Value(callKey{}).(*httpCall)
	return x
}

func (g *Gateway) serveHTTP(rp http.Handler, w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		http.Error(w, "CONNECT is not supported", http.StatusMethodNotAllowed)
		return
	}
	st := g.state.Load()
	uri := []byte(r.URL.RequestURI())
	t := st.resolve([]byte(r.Host), uri)
	var f *function
	switch t.kind {
	case toOwn:
		g.self.ServeHTTP(w, r)
		return
	case toNowhere:
		http.Error(w, "not found", http.StatusNotFound)
		return
	case toBad:
		http.Error(w, "a function's name is missing or malformed", http.StatusBadRequest)
		return
	case toFunction:
		if len(t.task) > 0 {
			f = g.tasks
		} else if f = g.function(st, t.fn); f == nil {
			http.Error(w, "no such function: "+string(t.fn), http.StatusBadRequest)
			return
		}
	}
	x := &httpCall{t: t}
	x.rnd = rand.Uint64()
	x.begin(g, st, f, g.now())
	x.task = string(t.task)
	x.idempotent = wire.Idempotent([]byte(r.Method)) || r.Header.Get("Idempotency-Key") != ""
	x.minGen = parseGeneration([]byte(r.Header.Get("Rota-Generation")))
	x.caller = balance.HashString(hostOf(r.RemoteAddr))
	if by := x.p.RateBy; by != "" && r.Header.Get(by) != "" {
		x.caller = callerHash([]byte(r.Header.Get(by)))
	}
	if x.p.Balancer == "sticky" {
		x.key = stickyHTTP(x.p, r)
	}
	ctx := context.WithValue(r.Context(), callKey{}, x)
	if x.p.CallTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, x.p.CallTimeout)
		defer cancel()
	}
	defer x.end()
	if refused := x.admit(ctx); refused != nil {
		x.status = refused.status
		refused.write(w)
		return
	}
	if n := r.ContentLength; n > 0 && n <= int64(st.cfg.Limits.ReplayBytes) && r.Header.Get("Expect") == "" {
		body := make([]byte, n)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			x.status = http.StatusBadRequest
			http.Error(w, "the body ended early", http.StatusBadRequest)
			return
		}
		x.whole = body
	}
	rp.ServeHTTP(w, r.WithContext(ctx))
}

func hostOf(addr string) string {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return ap.Addr().Unmap().String()
	}
	return addr
}

func stickyHTTP(p *policy, r *http.Request) uint64 {
	if v := r.Header.Get(p.StickyHeader); p.StickyHeader != "" && v != "" {
		return balance.HashString(v)
	}
	if p.StickyCookie != "" {
		if c, err := r.Cookie(p.StickyCookie); err == nil {
			return balance.HashString(c.Value)
		}
	}
	if v := r.URL.Query().Get(p.StickyQuery); p.StickyQuery != "" && v != "" {
		return balance.HashString(v)
	}
	return 0
}

func (r *refusal) write(w http.ResponseWriter) {
	if r.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(max(1, (r.retryAfter+time.Second-1)/time.Second))))
	}
	http.Error(w, r.text, r.status)
}

// refusalError carries a refusal through the reverse proxy.
type refusalError struct{ *refusal }

func (e refusalError) Error() string { return e.text }

// rewrite makes the request that the worker gets, but for its address.
func (g *Gateway) rewrite(pr *httputil.ProxyRequest) {
	x := callOf(pr.In.Context())
	out := pr.Out
	path, query, _ := strings.Cut(string(x.t.path), "?")
	if u, err := out.URL.Parse(path); err == nil && strings.HasPrefix(path, "/") {
		out.URL.Path, out.URL.RawPath = u.Path, u.RawPath
	}
	out.URL.RawQuery = query
	out.Host = pr.In.Host
	peer, _ := netip.ParseAddr(hostOf(pr.In.RemoteAddr))
	if x.st.trusts(peer) {
		for _, h := range []string{"X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"} {
			if v, ok := pr.In.Header[h]; ok {
				out.Header[h] = v
			}
		}
	} else {
		for _, h := range []string{"X-Real-Ip", "X-Forwarded-Port", "X-Forwarded-Server"} {
			out.Header.Del(h)
		}
	}
	host, proto := out.Header.Get("X-Forwarded-Host"), out.Header.Get("X-Forwarded-Proto")
	pr.SetXForwarded()
	if host != "" {
		out.Header.Set("X-Forwarded-Host", host)
	}
	if proto != "" {
		out.Header.Set("X-Forwarded-Proto", proto)
	}
	node := peer.String()
	if peer.Is6() {
		node = `"[` + node + `]"`
	}
	out.Header.Add("Forwarded", fmt.Sprintf("for=%s;proto=%s;host=%q", node, out.Header.Get("X-Forwarded-Proto"), pr.In.Host))
	if x.st.cfg.Trace && out.Header.Get("Traceparent") == "" {
		out.Header.Set("Traceparent", fmt.Sprintf("00-%016x%016x-%016x-01", x.random()|1, x.random(), x.random()|1))
	}
	if te := pr.In.Header.Get("TE"); strings.Contains(te, "trailers") {
		out.Header.Set("TE", "trailers") // gRPC wants it
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // do not let net/http add its own
	}
}

// proxyError answers for a call that no worker has answered.
func (g *Gateway) proxyError(w http.ResponseWriter, r *http.Request, err error) {
	x := callOf(r.Context())
	var re refusalError
	switch {
	case errors.As(err, &re):
		x.status = re.status
		re.write(w)
	case errors.Is(err, context.DeadlineExceeded):
		x.status = http.StatusGatewayTimeout
		http.Error(w, publicText(x.status), x.status)
	case r.Context().Err() != nil:
		x.status = 499 // the client has gone
		w.WriteHeader(http.StatusBadGateway)
	default:
		x.status = http.StatusBadGateway
		http.Error(w, publicText(x.status), x.status)
	}
}

// roundTripper tries a call on workers until one has answered: what run does on
// the HTTP/1 engine.
type roundTripper struct{ g *Gateway }

func (rt roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	x := callOf(ctx)
	for {
		w, refused := x.acquire(ctx)
		if refused != nil {
			return nil, refusalError{refused}
		}
		out := req.Clone(ctx)
		out.URL.Scheme, out.URL.Host = "http", w.url.Host
		if w.tls {
			out.URL.Scheme = "https"
		}
		if x.task != "" {
			out.Header.Set("Rota-Generation", strconv.FormatUint(x.generation, 10))
		}
		stream := x.whole == nil && req.Body != nil && req.Body != http.NoBody
		if x.whole != nil {
			out.Body = io.NopCloser(strings.NewReader(string(x.whole)))
			out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(x.whole))), nil }
		}
		resp, err := rt.once(x, w, out)
		if err != nil {
			if ctx.Err() != nil {
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					x.settleLate()
				}
				return nil, ctx.Err()
			}
			if x.failed(err, stream || !notRun(err)) == again {
				continue
			}
			return nil, err
		}
		if mayRefuse(resp.StatusCode) && !stream {
			body := make([]byte, refusalPeek)
			n, _ := io.ReadFull(resp.Body, body)
			refusedCall, blame, ran := refusals(resp.StatusCode, body[:n])
			if refusedCall && x.refusedBy(blame, ran, errRefused) == again {
				_ = resp.Body.Close()
				continue
			}
			resp.Body = &prepended{head: body[:n], ReadCloser: resp.Body}
		}
		x.status = resp.StatusCode
		rt.hold(x, resp)
		return resp, nil
	}
}

// once makes one attempt, bounded by the header timeout.
func (rt roundTripper) once(x *httpCall, w *worker, out *http.Request) (*http.Response, error) {
	if x.p.HeaderTimeout <= 0 {
		return rt.g.transport(w).RoundTrip(out)
	}
	ctx, cancel := context.WithCancelCause(out.Context())
	timer := time.AfterFunc(x.p.HeaderTimeout, func() { cancel(context.DeadlineExceeded) })
	resp, err := rt.g.transport(w).RoundTrip(out.WithContext(ctx))
	if !timer.Stop() && err != nil {
		return nil, fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	if err != nil {
		cancel(nil)
	}
	return resp, err
}

// notRun says that an attempt failed before the worker can have seen the call.
func notRun(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "dial tcp") ||
		strings.Contains(err.Error(), "server closed idle connection")
}

// hold keeps the call's place on the worker until the answer's body is over.
func (rt roundTripper) hold(x *httpCall, resp *http.Response) {
	x.took = rt.g.now() - x.sent
	status := resp.StatusCode
	done := func() { x.settle(status) }
	if rw, ok := resp.Body.(io.ReadWriteCloser); ok { // upgraded
		resp.Body = &heldConn{rw, done}
		return
	}
	resp.Body = &heldBody{resp.Body, done}
}

type heldBody struct {
	io.ReadCloser
	done func()
}

func (h *heldBody) Close() error {
	defer h.done()
	return h.ReadCloser.Close()
}

type heldConn struct {
	io.ReadWriteCloser
	done func()
}

func (h *heldConn) Close() error {
	defer h.done()
	return h.ReadWriteCloser.Close()
}

// prepended is a body of which the beginning was read already.
type prepended struct {
	head []byte
	io.ReadCloser
}

func (p *prepended) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.ReadCloser.Read(b)
}
