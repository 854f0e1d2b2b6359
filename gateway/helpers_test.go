package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/test/memo"
)

// patience bounds what a test waits for, so that a hang fails and names itself.
const patience = 20 * time.Second

// quiet is a logger that says nothing.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// start runs a gateway on an ephemeral port.
func start(t testing.TB, cfg gateway.Config) (g *gateway.Gateway, addr string) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	if cfg.Hosts == nil {
		cfg.Hosts = []string{"*"}
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(ln)
	}()
	t.Cleanup(func() {
		g.Close()
		<-done
		closeIdle()
	})
	return g, ln.Addr().String()
}

// simple is a configuration with these workers and round-robin.
func simple(urls ...string) gateway.Config {
	cfg := gateway.Config{Defaults: gateway.Policy{Balancer: "round-robin"}, Hosts: []string{"*"}} // most tests are about something else
	cfg.WorkerRefusals = []gateway.WorkerRefusal{
		{Status: http.StatusTooManyRequests, Begins: "busy"},
		{Status: http.StatusTooManyRequests, Begins: "my queue is full"},
		{Status: http.StatusInternalServerError, Begins: "did not begin:", Failing: true},
		{Status: http.StatusBadGateway, Begins: "lost on the way:", Failing: true, MayHaveRun: true},
	}
	for _, u := range urls {
		cfg.Workers = append(cfg.Workers, gateway.Worker{URL: u})
	}
	return cfg
}

// backend is a worker on net/http.
func backend(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// named answers with its name.
func named(t testing.TB, name string) string {
	return backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })
}

// script is a worker that does what it is told on each connection.
func script(t testing.TB, do func(n int, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			i := int(n.Add(1)) - 1
			go func() {
				defer c.Close()
				do(i, c, bufio.NewReader(c))
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return "http://" + ln.Addr().String()
}

// readHead reads a request head and returns it as text.
func readHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			return b.String(), err
		}
		b.WriteString(l)
		if l == "\r\n" {
			return b.String(), nil
		}
	}
}

// client is a raw client connection.
type client struct {
	net.Conn
	r *bufio.Reader
	t testing.TB
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{c, bufio.NewReader(c), t}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatal(err)
	}
}

// response reads one response to a request of that method.
func (c *client) response(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("body after %q: %v", body, err)
	}
	return resp, string(body)
}

// ways are the ways in which calls come: each gateway's rules hold on all of them.
var ways = map[string]func(testing.TB, gateway.Config) (*gateway.Gateway, string){
	"HTTP/1": start, "HTTP/2": startHTTP2, "HTTP/2 over TLS": startHTTP2TLS, "net/http": startHandler,
}

// startHTTP2 makes call and reach speak HTTP/2 in clear.
func startHTTP2(t testing.TB, cfg gateway.Config) (*gateway.Gateway, string) {
	g, addr := start(t, cfg)
	return g, "h2c:" + addr
}

func startHTTP2TLS(t testing.TB, cfg gateway.Config) (*gateway.Gateway, string) {
	cert, _ := certificate(t)
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	g, addr := start(t, cfg)
	return g, "h2:" + addr
}

// startHandler serves the plain http.Handler on net/http.
func startHandler(t testing.TB, cfg gateway.Config) (*gateway.Gateway, string) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet()
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(g.Handler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() { s.Close(); g.Close() })
	return g, strings.TrimPrefix(s.URL, "http://")
}

// reach is a client for an address that one of the ways has given, and the URL.
func reach(addr string) (*http.Client, string) {
	if a, ok := strings.CutPrefix(addr, "h2c:"); ok {
		return sharedH2C, "http://" + a
	}
	if a, ok := strings.CutPrefix(addr, "h2:"); ok {
		return sharedH2, "https://" + a
	}
	return shared, "http://" + addr
}

// get calls a path and returns status and body.
func get(t testing.TB, addr, path string) (int, string) {
	t.Helper()
	return call(t, http.MethodGet, addr, path, nil)
}

var (
	shared    = &http.Client{Transport: transport(func(p *http.Protocols) { p.SetHTTP1(true) })}
	sharedH2C = &http.Client{Transport: transport(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })}
	sharedH2  = &http.Client{Transport: transport(func(p *http.Protocols) { p.SetHTTP2(true) })}
)

// closeIdle closes the connections of shared clients that carry no call. A gateway's
// port may be the next one's: it must not be reached by connections to the former.
func closeIdle() {
	for _, c := range []*http.Client{shared, sharedH2C, sharedH2, http.DefaultClient} {
		c.CloseIdleConnections()
	}
}

func transport(speak func(*http.Protocols)) *http.Transport {
	var p http.Protocols
	speak(&p)
	return &http.Transport{
		Protocols: &p, MaxIdleConnsPerHost: 64, DisableCompression: true, ExpectContinueTimeout: patience,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // certificates are made on the spot
	}
}

func call(t testing.TB, method, addr, path string, body []byte) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, base := reach(addr)
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil && strings.Contains(err.Error(), "CloseIdleConnections called") {
		return call(t, method, addr, path, body) // by another test, before anything was sent
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// eventually waits until cond holds. It looks again when the scheduler lets it,
// and fails after patience.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("never came true: %s", what)
		}
	}
}

// idle says that no call is in flight anywhere.
func idle(g *gateway.Gateway) bool {
	for _, w := range g.Status().Workers {
		if w.InFlight != 0 {
			return false
		}
	}
	for _, r := range g.Routes() {
		if r.InFlight != 0 || r.Waiting != 0 {
			return false
		}
	}
	return true
}

func prefixes(t testing.TB, s ...string) (ps []netip.Prefix) {
	t.Helper()
	for _, x := range s {
		p, err := netip.ParsePrefix(x)
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	return ps
}

// waiting is how many calls are in queues.
func waiting(g *gateway.Gateway) (n int32) {
	for _, r := range g.Routes() {
		n += r.Waiting
	}
	return n
}

func routeTo(prefix, fn string) gateway.Route { return gateway.Route{Prefix: prefix, Function: fn} }

func stringReader(s string) io.Reader { return strings.NewReader(s) }

// quietLog is for servers whose clients do what they should not.
var quietLog = log.New(io.Discard, "", 0)

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	memo.Buffer
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
