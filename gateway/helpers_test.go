package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
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
	})
	return g, ln.Addr().String()
}

// simple is a configuration with these workers and round-robin.
func simple(urls ...string) gateway.Config {
	cfg := gateway.Config{Defaults: gateway.Policy{Balancer: "round-robin"}}
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

// get calls a path and returns status and body.
func get(t testing.TB, addr, path string) (int, string) {
	t.Helper()
	return call(t, http.MethodGet, addr, path, nil)
}

var shared = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func call(t testing.TB, method, addr, path string, body []byte) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := shared.Do(req)
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
