package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// picky is a worker on which calls of some functions end in a way of their own.
func picky(t *testing.T, name string, bad func(c net.Conn), functions ...string) string {
	t.Helper()
	return script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			for _, f := range functions {
				if f == "*" || req.URL.Path == "/run/"+f {
					bad(c)
					return
				}
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name)
		}
	})
}

func malformed(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 what\r\n\r\n") }
func hangUp(net.Conn)      {}

// What one function runs into on a worker is nothing to the others, and the last
// worker of a function stays.
func TestFailuresCountForOneFunction(t *testing.T) {
	t.Parallel()
	for how, bad := range map[string]func(net.Conn){"malformed": malformed, "hangs up": hangUp} {
		t.Run("the only worker, "+how, func(t *testing.T) {
			t.Parallel()
			g, addr := start(t, simple(picky(t, "w", bad, "a")))
			for range 10 {
				if status, _ := get(t, addr, "/run/a"); status != 502 {
					t.Errorf("a: %d", status)
				}
				if status, body := get(t, addr, "/run/b"); status != 200 || body != "w" {
					t.Fatalf("b: %d %q", status, body)
				}
			}
			if s := g.Status().Workers[0].State; s != "ready" {
				t.Errorf("the worker is %s", s)
			}
			if r, _ := g.Route("a"); !r.Workers[0].May || r.Next == "" {
				t.Errorf("the last worker of a is left out: %+v", r.Workers)
			}
		})
		t.Run("one of two, "+how, func(t *testing.T) {
			t.Parallel()
			cfg := simple(picky(t, "bad", bad, "a"), named(t, "good"))
			cfg.Health = gateway.Health{Quarantine: time.Hour, MaxQuarantine: time.Hour}
			cfg.Defaults.Balancer, cfg.AdminToken = "random", "secret"
			g, addr := start(t, cfg)
			eventually(t, "it is left out for a", func() bool {
				if status, body := get(t, addr, "/run/a"); status != 200 || body != "good" {
					t.Errorf("a: %d %q", status, body)
				}
				r, _ := g.Route("a")
				return !r.Workers[0].May
			})
			eventually(t, "b goes to it", func() bool { _, body := get(t, addr, "/run/b"); return body == "bad" })
			r, _ := g.Route("a")
			if w := r.Workers[0]; w.May || w.State != "ready" || !strings.Contains(w.Why, "left out for this function") || w.Failures != 3 {
				t.Errorf("%+v", w)
			}
			c := dial(t, addr)
			c.send("GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n")
			if _, text := c.response("GET"); !strings.Contains(text, "left out for a") {
				t.Errorf("status does not tell:\n%s", text)
			}
		})
	}
}

// A worker on which one function after another fails is left out for all.
func TestWorkersThatFailEveryFunctionAreLeftOut(t *testing.T) {
	t.Parallel()
	cfg := simple(picky(t, "bad", hangUp, "*"), named(t, "good"))
	cfg.Health = gateway.Health{Quarantine: time.Hour, MaxQuarantine: time.Hour}
	cfg.Defaults.Balancer = "random"
	g, addr := start(t, cfg)
	i := 0
	eventually(t, "it is left out", func() bool {
		i++
		if status, body := get(t, addr, fmt.Sprintf("/run/f%d", i)); status != 200 || body != "good" {
			t.Errorf("%d %q", status, body)
		}
		return g.Status().Workers[0].State == "quarantined"
	})
	if w := g.Status().Workers[0]; w.Failures != 3 {
		t.Errorf("%+v", w)
	}
}

// Who was left out for a function gets its calls again after a while, and is left out
// for longer if that was too early.
func TestFunctionsComeBackToTheirWorkers(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "back")
	})
	cfg := simple(up, named(t, "other"))
	cfg.Health.Quarantine = time.Millisecond
	cfg.Defaults.Balancer, cfg.Defaults.RetryBudget = "random", 1
	g, addr := start(t, cfg)
	out := func() bool { r, _ := g.Route("f"); return len(r.Workers) > 0 && !r.Workers[0].May }
	eventually(t, "it is left out", func() bool { get(t, addr, "/run/f"); return out() })
	broken.Store(false)
	eventually(t, "it is called again", func() bool { _, body := get(t, addr, "/run/f"); return body == "back" })
	eventually(t, "all is well", func() bool { get(t, addr, "/run/f"); return !out() })
}

// A worker whose certificate nobody vouches for is not ready, and calls are told so
// at once.
func TestWorkersWhoseTLSFails(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = quietLog
	s.StartTLS()
	t.Cleanup(s.Close)
	for _, grpc := range []string{"", "Content-Type: application/grpc\r\n"} {
		g, addr := start(t, simple(s.URL))
		for _, want := range []int{502, 503} {
			c := dial(t, addr)
			c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n" + grpc + "\r\nx")
			if resp, body := c.response("POST"); resp.StatusCode != want {
				t.Errorf("%d %q, want %d", resp.StatusCode, body, want)
			}
		}
		if w := g.Status().Workers[0]; w.State != "quarantined" || !strings.Contains(w.Cause, "certificate") {
			t.Errorf("%+v", w)
		}
		if _, text := get(t, addr, "/status"); strings.Contains(text, "[ready") {
			t.Errorf("status:\n%s", text)
		}
	}
}

// Small bodies in chunks that come piece by piece are kept: another worker gets the
// whole, if the first has not run the call or it does no harm.
func TestSmallChunkedBodiesAreSentAgain(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"http", "h2c", "http, by net/http", "h2c, by net/http"} {
		kind, mounted := strings.CutSuffix(kind, ", by net/http")
		serve := start
		if mounted {
			serve = startHandler
		}
		for name, tc := range map[string]struct {
			method string
			first  func(w http.ResponseWriter, r *http.Request, begun func())
			again  bool
		}{
			"refused at once": {"POST", func(w http.ResponseWriter, _ *http.Request, begun func()) {
				w.WriteHeader(http.StatusTooManyRequests)
				fmt.Fprint(w, "busy")
				begun()
			}, true},
			"broken in between": {"PUT", func(_ http.ResponseWriter, r *http.Request, begun func()) {
				_, _ = r.Body.Read(make([]byte, 1))
				begun()
				panic(http.ErrAbortHandler)
			}, true},
			"broken after its end": {"PUT", func(_ http.ResponseWriter, r *http.Request, begun func()) {
				begun()
				_, _ = io.Copy(io.Discard, r.Body)
				panic(http.ErrAbortHandler)
			}, true},
			"may have run": {"POST", func(_ http.ResponseWriter, r *http.Request, begun func()) {
				begun()
				_, _ = io.Copy(io.Discard, r.Body)
				panic(http.ErrAbortHandler)
			}, false},
		} {
			t.Run(fmt.Sprintf("%s/mounted %v/%s", kind, mounted, name), func(t *testing.T) {
				t.Parallel()
				begun := make(chan bool, 10)
				h := func(w http.ResponseWriter, r *http.Request) { tc.first(w, r, func() { begun <- true }) }
				first := map[string]func() string{"http": func() string { return backend(t, h) }, "h2c": func() string { return h2cWorker(t, h) }}[kind]()
				second := backend(t, func(w http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					fmt.Fprintf(w, "%s %v %v", b, err, r.Trailer)
				})
				_, addr := serve(t, simple(first, second))
				c := dial(t, addr)
				c.send(tc.method + " /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n")
				<-begun
				c.send("4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n")
				resp, body := c.response(tc.method)
				if tc.again && (resp.StatusCode != http.StatusOK || body != "abcdefg <nil> map[X-Sum:[7]]") || !tc.again && resp.StatusCode != http.StatusBadGateway {
					t.Errorf("%d %q", resp.StatusCode, body)
				}
				if !resp.Close { // the connection is where it should be
					c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
					if resp, _ := c.response("GET"); resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusBadGateway && resp.StatusCode != http.StatusTooManyRequests {
						t.Errorf("the next call: %d", resp.StatusCode)
					}
				}
			})
		}
	}
}
