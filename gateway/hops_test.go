package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/rota-project/rota/gateway"
)

// What RFC 9110 and 9112 ask of those between a client and a server.

func TestRequestsAsOthersWriteThem(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 100)
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			h, err := readHead(r)
			if err != nil {
				return
			}
			heads <- h
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	cfg := simple(up)
	cfg.Routes = []gateway.Route{
		{Host: "img.example", Prefix: "/", Function: "exact"},
		{Host: "*.example", Prefix: "/", Function: "wild"},
		{Host: "*.deep.example", Prefix: "/", Function: "deep"},
	}
	g, addr := start(t, cfg)
	for name, tc := range map[string]struct {
		raw    string
		status int
		worker []string // what it hears
		not    []string // what it does not
	}{
		"a later minor version":            {"GET /run/f HTTP/1.2\r\nHost: a\r\n\r\n", 200, []string{"GET /run/f HTTP/1.1\r\n"}, nil},
		"another major version":            {"GET /run/f HTTP/2.0\r\nHost: a\r\n\r\n", 505, nil, nil},
		"a version that is none":           {"GET /run/f HTTP/1.x\r\nHost: a\r\n\r\n", 505, nil, nil},
		"a scheme in capitals":             {"GET HTTP://b/run/f HTTP/1.1\r\nHost: a\r\n\r\n", 200, []string{"Host: b\r\n"}, nil},
		"a mixed scheme":                   {"GET hTTps://b/run/f HTTP/1.1\r\nHost: a\r\n\r\n", 200, []string{"Host: b\r\n"}, nil},
		"another scheme":                   {"GET ftp://b/run/f HTTP/1.1\r\nHost: a\r\n\r\n", 400, nil, nil},
		"an upgrade of HTTP/1.0":           {"GET /run/f HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 200, nil, []string{"Upgrade", "upgrade"}},
		"OPTIONS of the gateway":           {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 204, nil, nil},
		"OPTIONS of it, as a proxy's":      {"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", 204, nil, nil},
		"OPTIONS of a function":            {"OPTIONS /run/f HTTP/1.1\r\nHost: a\r\n\r\n", 200, []string{"OPTIONS /run/f"}, nil},
		"OPTIONS that may go no further":   {"OPTIONS /run/f HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 204, nil, nil},
		"OPTIONS that may go on":           {"OPTIONS /run/f HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n", 200, []string{"Max-Forwards: 2\r\n"}, nil},
		"GET heeds it not":                 {"GET /run/f HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 200, []string{"Max-Forwards: 0\r\n"}, nil},
		"Via goes on":                      {"GET /run/f HTTP/1.1\r\nHost: a\r\nVia: 1.0 other\r\n\r\n", 200, []string{"Via: 1.0 other\r\n", "Via: 1.1 rota-"}, nil},
		"the version in Via":               {"GET /run/f HTTP/1.0\r\nHost: a\r\n\r\n", 200, []string{"Via: 1.0 rota-"}, nil},
		"what a stranger says of itself":   {"GET /run/f HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /evil\r\nx-forwarded-what-ever: 1\r\nX-Forwarded: 2\r\n\r\n", 200, nil, []string{"evil", "what-ever", "X-Forwarded: "}},
		"a dot at the end of the host":     {"GET /x HTTP/1.1\r\nHost: img.example.\r\n\r\n", 200, []string{"Host: img.example.\r\n"}, nil},
		"with a port":                      {"GET /x HTTP/1.1\r\nHost: img.example.:80\r\n\r\n", 200, nil, nil},
		"a name below another":             {"GET /x HTTP/1.1\r\nHost: A.Example\r\n\r\n", 200, nil, nil},
		"the other itself":                 {"GET /x HTTP/1.1\r\nHost: example\r\n\r\n", 404, nil, nil},
		"climbing by %2f":                  {"GET /run/f/..%2f..%2fadmin HTTP/1.1\r\nHost: a\r\n\r\n", 400, nil, nil},
		"climbing by %5c":                  {"GET /run/f/..%5Cadmin HTTP/1.1\r\nHost: a\r\n\r\n", 400, nil, nil},
		"climbing by a backslash":          {"GET /run/f/..\\admin HTTP/1.1\r\nHost: a\r\n\r\n", 400, nil, nil},
		"climbing after one":               {"GET /run/f/a%2f.%2E HTTP/1.1\r\nHost: a\r\n\r\n", 400, nil, nil},
		"climbing with parameters":         {"GET /run/f/..;a=b/c HTTP/1.1\r\nHost: a\r\n\r\n", 400, nil, nil},
		"dots that do not climb":           {"GET /run/f/a..b/...%2f..c/.../x..;y HTTP/1.1\r\nHost: a\r\n\r\n", 200, nil, nil},
		"a slash that is only escaped":     {"GET /run/f/a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 200, []string{"/run/f/a%2fb "}, nil},
		"as many header lines as may be":   {"GET /run/f HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 255) + "\r\n", 200, nil, nil},
		"more header lines than there may": {"GET /run/f HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 256) + "\r\n", 431, nil, nil},
	} {
		c := dial(t, addr)
		c.send(tc.raw)
		resp, body := c.response(strings.Fields(tc.raw)[0])
		if resp.StatusCode != tc.status {
			t.Errorf("%s: %d %q, want %d", name, resp.StatusCode, body, tc.status)
		}
		if at, err := http.ParseTime(resp.Header.Get("Date")); err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("%s: Date %q", name, resp.Header.Get("Date"))
		}
		if resp.StatusCode == http.StatusNoContent && resp.Header.Get("Allow") == "" {
			t.Errorf("%s: nothing is allowed", name)
		}
		c.Close()
		if resp.StatusCode != http.StatusOK {
			if len(heads) > 0 {
				t.Errorf("%s: the worker got %q", name, <-heads)
			}
			continue
		}
		got := <-heads
		for _, w := range tc.worker {
			if !strings.Contains(got, w) {
				t.Errorf("%s: the worker got %q without %q", name, got, w)
			}
		}
		for _, w := range tc.not {
			if strings.Contains(got, w) {
				t.Errorf("%s: the worker got %q with %q", name, got, w)
			}
		}
	}
	for host, fn := range map[string]string{"img.example": "exact", "x.example": "wild", "x.deep.example": "deep", "deep.example": "wild"} {
		before, _ := g.Route(fn)
		c := dial(t, addr)
		c.send("GET /x HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		c.response("GET")
		<-heads
		eventually(t, host+" goes to "+fn, func() bool { now, _ := g.Route(fn); return now.Calls == before.Calls+1 })
	}
}

// Date is added where a worker has none, and left alone where it has.
func TestDateInEveryWay(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		if strings.HasSuffix(r.URL.Path, "/own") {
			w.Header().Set("Date", "Tue, 15 Nov 1994 08:12:31 GMT")
		}
	})
	everyWay(t, simple(up), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		for _, path := range []string{"/run/f", "/run/f/own", "/nothing", "/status"} {
			resp, err := client.Do(request(t, "GET", base+path, nil))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			at, err := http.ParseTime(resp.Header.Get("Date"))
			if own := at.Year() == 1994; err != nil || len(resp.Header["Date"]) != 1 || own != strings.HasSuffix(path, "/own") {
				t.Errorf("%s: %q, %v", path, resp.Header["Date"], err)
			}
		}
	})
}

// OPTIONS of the gateway itself, over HTTP/2.
func TestHTTP2OptionsOfTheGateway(t *testing.T) {
	t.Parallel()
	_, addr := start(t, simple())
	f := dialHTTP2(t, addr)
	f.request(1, true, ":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", "*")
	f.await("HEADERS 1 204")
}

// A worker that is the gateway itself, or sends calls back to it, does not have them
// go round for ever; checks do not, either.
func TestCallsThatComeBackAreRefused(t *testing.T) {
	t.Parallel()
	g, addr := start(t, simple())
	if err := g.AddWorkers("http://" + addr); err != nil {
		t.Fatal(err)
	}
	other, second := start(t, simple("http://"+addr))
	for _, at := range []string{addr, second} {
		if status, body := get(t, at, "/run/f"); status != http.StatusLoopDetected {
			t.Errorf("%d %q", status, body)
		}
	}
	for _, x := range []*gateway.Gateway{g, other} {
		if w := ask(x.AdminHandler(), "GET", "/status"); w.Code != 200 || !strings.Contains(w.Body.String(), "reachable") {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	}
	eventually(t, "nothing is left", func() bool { return idle(g) && idle(other) })
	if c := g.Status().Connections; c > 10 {
		t.Errorf("%d connections", c)
	}
}

// Answers as some workers write them, which nginx, HAProxy and net/http pass on.
func TestAnswersAsWorkersWriteThem(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		head string
		body string
		ok   bool
	}{
		"the same length twice":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "ok", true},
		"in one line":            {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "ok", true},
		"two lengths":            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", "", false},
		"two in one line":        {"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!", "", false},
		"a length and chunks":    {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", true},
		"chunks and a length":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", true},
		"a later version":        {"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", true},
		"a length that is none":  {"HTTP/1.1 200 OK\r\nContent-Length: 2, x\r\n\r\nok", "", false},
		"a list without numbers": {"HTTP/1.1 200 OK\r\nContent-Length: ,\r\n\r\nok", "", false},
	} {
		for way, serve := range ways {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				var conns atomic.Int64
				up := script(t, func(n int, c net.Conn, r *bufio.Reader) {
					conns.Store(int64(n) + 1)
					for {
						if _, err := readHead(r); err != nil {
							return
						}
						_, _ = io.WriteString(c, tc.head)
					}
				})
				cfg := simple(up)
				cfg.Defaults.Attempts = 1
				_, addr := serve(t, cfg)
				for range 2 {
					status, body := get(t, addr, "/run/f")
					if tc.ok && (status != 200 || body != tc.body) || !tc.ok && status != 502 {
						t.Errorf("%d %q", status, body)
					}
				}
				if n := conns.Load(); !strings.HasPrefix(tc.head, "HTTP/1.2") && n != 2 {
					t.Errorf("%d connections for two answers that others could read in another way", n)
				}
			})
		}
	}
}

// Workers that nobody can reach, or that have no weight, are said to be so at once.
func TestHopelessCallsAreAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	weightless := simple(named(t, "w"))
	weightless.Workers[0].Weight = gateway.NoWeight
	weightless.Defaults.Balancer = "random"
	dead := simple(deadURL(t), deadURL(t))
	gone := simple()
	members := &gateway.MemoryMembers{}
	members.Set(gateway.Member{Name: "m", URL: named(t, "m"), State: gateway.Dead})
	gone.Members = members
	for name, tc := range map[string]struct {
		cfg  gateway.Config
		text string
	}{
		"no weight":     {weightless, "no worker of this function has a weight"},
		"dead":          {dead, "could not be reached"},
		"reported dead": {gone, "no worker of this function can be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.cfg.Defaults.QueueTimeout = time.Hour
			_, addr := start(t, tc.cfg)
			for i := range 3 {
				status, body := get(t, addr, "/run/f")
				if i > 0 && name == "dead" {
					tc.text = "no worker of this function can be reached"
				}
				if status != 503 && status != 502 || !strings.Contains(body, tc.text) {
					t.Errorf("%d %q", status, body)
				}
			}
		})
	}
}

// names answers lookups of any name with one address, which may change.
type names struct {
	mu sync.Mutex
	to [4]byte
}

func (n *names) set(to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.to = [4]byte(net.ParseIP(to).To4())
}

// resolver is a resolver that asks it.
func (n *names) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1024)
		for {
			k, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:k]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
			if q.Type == dnsmessage.TypeA {
				n.mu.Lock()
				body := &dnsmessage.AResource{A: n.to}
				n.mu.Unlock()
				answer.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: body}}
			}
			if b, err := answer.Pack(); err == nil {
				_, _ = pc.WriteTo(b, from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// samePort listens on one port of several addresses of this machine.
func samePort(t *testing.T, ips ...string) (lns []net.Listener, port string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8 on its loopback")
	}
	for range 100 {
		lns, port = nil, "0"
		for _, ip := range ips {
			ln, err := net.Listen("tcp", net.JoinHostPort(ip, port))
			if errors.Is(err, syscall.EADDRINUSE) {
				break // on another address somebody else has the port
			}
			if err != nil {
				t.Fatal(err)
			}
			lns = append(lns, ln)
			_, port, _ = net.SplitHostPort(ln.Addr().String())
		}
		if len(lns) == len(ips) {
			return lns, port
		}
		for _, ln := range lns {
			ln.Close()
		}
	}
	t.Fatal("no port that is free on all of them")
	return nil, ""
}

// A worker whose name moves to another address is found there although its old
// connections are never idle for long.
func TestNamesThatMoveAreAskedAgain(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "h2c"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			var p http.Protocols
			p.SetHTTP1(true)
			p.SetUnencryptedHTTP2(true)
			ips := []string{"127.0.0.1", "127.0.0.2"}
			lns, port := samePort(t, ips...)
			for i, ln := range lns {
				ip := ips[i]
				s := &http.Server{Protocols: &p, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, ip) })}
				go s.Serve(ln)
				t.Cleanup(func() { s.Close() })
			}
			n := &names{}
			n.set("127.0.0.1")
			cfg := simple(scheme + "://worker.test:" + port)
			cfg.ResolveWith(n.resolver(t))
			_, addr := start(t, cfg)
			eventually(t, "the first is called", func() bool { _, body := get(t, addr, "/run/f"); return body == "127.0.0.1" })
			n.set("127.0.0.2")
			eventually(t, "the second is called", func() bool { _, body := get(t, addr, "/run/f"); return body == "127.0.0.2" })
		})
	}
}
