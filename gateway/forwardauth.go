package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway/internal/headers"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// ForwardAuth has a server asked about each call, by a GET: 2xx lets it pass; 401, 403
// and redirects are what the caller is answered; with anything else, or without an
// answer in time, the call is refused with 503.
type ForwardAuth struct {
	// URL is who is asked, http or https. It hears X-Forwarded-Method, -Proto, -Host, -Uri
	// and -For of the call.
	URL string
	// Timeout of one question; 0 means 5 s.
	Timeout time.Duration
	// RequestHeaders are those of the call that it gets; nil means Authorization and Cookie.
	RequestHeaders []string
	// ResponseHeaders are those of its answer that the worker gets, in place of the caller's.
	ResponseHeaders []string
	// TLS is for https; nil trusts the system's roots.
	TLS *tls.Config
}

func (a *ForwardAuth) normalize(field string) error {
	u, err := url.Parse(a.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return &rota.FieldError{Field: field + ".url", Value: a.URL, Want: "http://host:port/path or https://host:port/path, without user"}
	}
	if a.TLS != nil && u.Scheme != "https" {
		return &rota.FieldError{Field: field + ".tls", Value: a.URL, Want: "a URL on https"}
	}
	if a.Timeout < 0 {
		return &rota.FieldError{Field: field + ".timeout", Value: a.Timeout, Want: "zero or more"}
	}
	for _, l := range []struct {
		field string
		names []string
	}{{".request_headers", a.RequestHeaders}, {".response_headers", a.ResponseHeaders}} {
		if _, name, err := headers.New(nil, l.names, false); err != nil {
			return &rota.FieldError{Field: field + l.field, Value: name, Want: err.Error()}
		}
	}
	return nil
}

// maxAuthBody is the most bytes of an answer about a call that the caller gets.
const maxAuthBody = 64 << 10

// passedOn are the headers of such an answer that the caller gets.
var passedOn = []string{"Cache-Control", "Content-Type", "Location", "Retry-After", "Set-Cookie", "Www-Authenticate"}

// admitForward asks whether the call may go on. If not it answers it, and ok is false.
// guards are all those of the call: who is asked gets no key of theirs.
func (x *exchange) admitForward(a *ForwardAuth, guards [2]*guard) (keep, ok bool) {
	timeout := a.Timeout
	orElse(&timeout, authTimeout)
	ctx, cancel := context.WithTimeout(x.context(), timeout)
	defer cancel()
	x.waiting.Store(x.g.now()) // the client is missed if it goes
	resp, err := x.ask(ctx, a, guards)
	if err != nil {
		x.waiting.Store(0)
		return x.fail(outcome.GatewayAuth, fmt.Errorf("asking %s: %w", a.URL, err)), false
	}
	defer resp.Body.Close() //nolint:errcheck // its end is the connection's
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAuthBody))
	x.waiting.Store(0)
	switch s := resp.StatusCode; {
	case s >= 200 && s < 300:
		if err = x.takeFrom(a, resp.Header); err == nil {
			return false, true
		}
	case err == nil && (s == 401 || s == 403 || s >= 300 && s < 400 && resp.Header.Get("Location") != ""):
		page := &recorder{status: s}
		page.body.Write(body)
		for _, name := range passedOn {
			for _, v := range resp.Header[name] {
				page.Header().Add(name, v)
			}
		}
		return x.reply(&refusal{end: outcome.ClientRefused, status: s, page: page}), false
	}
	if err == nil {
		err = fmt.Errorf("it answered %d", resp.StatusCode)
	}
	return x.fail(outcome.GatewayAuth, fmt.Errorf("asking %s: %w", a.URL, err)), false
}

// ask puts the question.
func (x *exchange) ask(ctx context.Context, a *ForwardAuth, guards [2]*guard) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	copied := a.RequestHeaders
	if copied == nil {
		copied = []string{"Authorization", "Cookie"}
	}
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if slices.ContainsFunc(copied, func(n string) bool { return bytes.EqualFold(f.Name, []byte(n)) }) && !x.stops(f, guards) {
			req.Header.Add(string(f.Name), string(f.Value))
		}
	}
	proto := "http"
	if x.peer.TLS {
		proto = "https"
	}
	for name, value := range map[string]string{
		"User-Agent": "rota-gateway", "Via": "1.1 " + string(x.g.via), "X-Forwarded-Method": string(x.req.Method), "X-Forwarded-Proto": proto,
		"X-Forwarded-Host": string(x.req.Host), "X-Forwarded-Uri": string(x.req.Target), "X-Forwarded-For": x.clientAddr().String(),
	} {
		req.Header.Set(name, value)
	}
	return x.g.askers.of(a).RoundTrip(req)
}

// stops says whether a header of the call is for nobody behind the gateway: it is a key, what
// a cluster's gateway knows callers by, or a piece of Cookie that is in the first one, too.
func (x *exchange) stops(f *wire.Field, guards [2]*guard) bool {
	switch f.Kind {
	case wire.Cookie:
		if f.Drop {
			return true
		}
	case wire.Authorization:
		if x.call.st.cfg.Admit != nil {
			return true
		}
	}
	return slices.ContainsFunc(guards[:], func(g *guard) bool { return g != nil && g.keys != nil && headers.Same(f.Name, g.header) })
}

// takeFrom puts headers of the answer into the call, in place of what the caller says. The
// error is about one that no worker can be told.
func (x *exchange) takeFrom(a *ForwardAuth, answer http.Header) error {
	for _, name := range a.ResponseHeaders {
		for i := range x.req.Fields {
			if f := &x.req.Fields[i]; headers.Same(f.Name, name) {
				f.Drop = true
			}
		}
		for _, v := range answer.Values(name) {
			if !wire.IsValue([]byte(v)) {
				return fmt.Errorf("its header %s has a value that cannot be passed on", name)
			}
			x.req.Fields = append(x.req.Fields, wire.NewField([]byte(name), []byte(v)))
		}
	}
	return nil
}

// askers are the clients of net/http for questions about calls.
type askers struct {
	mu sync.Mutex
	by map[*ForwardAuth]*http.Transport
}

func (as *askers) of(a *ForwardAuth) *http.Transport {
	as.mu.Lock()
	defer as.mu.Unlock()
	t := as.by[a]
	if t == nil {
		t = &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: upstream.IdleFor, DisableCompression: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
		if a.TLS != nil {
			t.TLSClientConfig = a.TLS.Clone()
			orElse(&t.TLSClientConfig.MinVersion, tls.VersionTLS12)
		}
		if as.by == nil {
			as.by = map[*ForwardAuth]*http.Transport{}
		}
		as.by[a] = t
	}
	return t
}

// reset closes the idle connections of all, and has those that are still asked begin anew.
func (as *askers) reset() {
	as.mu.Lock()
	defer as.mu.Unlock()
	for _, t := range as.by {
		t.CloseIdleConnections()
	}
	clear(as.by)
}
