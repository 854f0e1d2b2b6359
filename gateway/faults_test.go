package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/offer"
)

// The faults of the old olscheduler and of other Go gateways, one test each.

func TestHashingBoundedAnswersItsFirstCall(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Defaults.Balancer = "hashing-bounded"
	_, addr := start(t, cfg)
	if status, body := get(t, addr, "/run/f"); status != 200 || body != "w" {
		t.Fatalf("%d %q", status, body)
	}
}

func TestConcurrentCallsOfNewFunctions(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"smart", "pkg-aware", "pull", "hashing-bounded"} {
		cfg := simple(named(t, "a"), named(t, "b"))
		cfg.Defaults.Balancer = b
		g, addr := start(t, cfg)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				if status, body := get(t, addr, fmt.Sprintf("/run/f%d", i%50)); status != 200 {
					t.Errorf("%s: %d %s", b, status, body)
				}
			})
		}
		wg.Wait()
		eventually(t, "no call in flight", func() bool { return idle(g) })
	}
}

func TestLoadReturnsWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	began, left := make(chan bool, 10), make(chan bool, 10)
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // or net/http does not look whether the caller is there
		if strings.HasSuffix(r.URL.Path, "/stream") {
			w.(http.Flusher).Flush()
		}
		began <- true
		if strings.HasSuffix(r.URL.Path, "/stream") {
			for r.Context().Err() == nil {
				fmt.Fprint(w, "data\n")
				w.(http.Flusher).Flush()
			}
		}
		<-r.Context().Done()
		left <- true
	})
	g, addr := start(t, simple(up))
	for _, head := range []string{"GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n", "POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", "GET /run/f/stream HTTP/1.1\r\nHost: a\r\n\r\n"} {
		c := dial(t, addr)
		c.send(head)
		<-began
		if idle(g) {
			t.Fatal("nothing is counted in flight")
		}
		c.Close()
		select {
		case <-left: // the worker is told too
		case <-time.After(patience):
			t.Fatal("the worker never learned that the client has gone")
		}
		eventually(t, "no call in flight", func() bool { return idle(g) })
	}
}

// deadURL is a URL at which nobody listens.
func deadURL(t testing.TB) string {
	t.Helper()
	url, _ := down(t)
	return url
}

func TestConnectionsToWorkersAreKept(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	var gate sync.WaitGroup
	gate.Add(32)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/together") {
			gate.Done()
			gate.Wait()
		}
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	_, addr := start(t, simple(s.URL))
	var wg sync.WaitGroup
	for range 32 { // all at once
		wg.Go(func() { get(t, addr, "/run/f/together") })
	}
	wg.Wait()
	for range 10 {
		for range 32 {
			wg.Go(func() { get(t, addr, "/run/f") })
		}
		wg.Wait()
	}
	if n := conns.Load(); n > 32 {
		t.Errorf("%d connections for at most 32 calls at once", n)
	}
}

func TestWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	a, b := named(t, "a"), named(t, "b")
	g, addr := start(t, simple(a))
	if err := g.RemoveWorkers("http://nobody:1"); err != nil {
		t.Errorf("removing one that is not there: %v", err)
	}
	if err := g.AddWorkers(b, b); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for range 10 {
		_, body := get(t, addr, "/run/f")
		seen[body]++
	}
	if seen["a"] != 5 || seen["b"] != 5 {
		t.Errorf("calls after adding: %v, want 5 each", seen)
	}
	if err := g.RemoveWorkers(a); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if _, body := get(t, addr, "/run/f"); body != "b" {
			t.Errorf("%q answered after it was removed", body)
		}
	}
	if err := g.RemoveWorkers(b); err != nil {
		t.Fatal(err)
	}
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("no worker: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if err := g.AddWorkers("http://x/path?x=1"); err == nil {
		t.Error("a URL with a path was added")
	}
}

// An answer by which a worker says that it has not run a call has it tried on another
// one; what begins in another way, or has another status, is the function's.
func TestWorkerRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status  int
		body    string
		method  string
		retried bool
	}{
		{429, "busy\n", "POST", true},
		{429, "busy", "POST", true},
		{429, "bus", "POST", false},
		{429, "my queue is full", "POST", true},
		{429, "my queue is full", "GET", true},
		{429, "slow down, says the function", "POST", false},
		{500, "did not begin: out of memory", "POST", true},
		{500, "the function's own error", "GET", false},
		{502, "lost on the way: EOF", "GET", true},
		{502, "lost on the way: EOF", "POST", false},
		{502, "the function's own 502", "GET", false},
		{405, "method not allowed", "POST", false},
		{503, "busy", "GET", false},
	} {
		for _, chunked := range []bool{false, true} {
			for name, serve := range ways {
				t.Run(fmt.Sprintf("%s/%d %.12s %s chunked %v", name, tc.status, tc.body, tc.method, chunked), func(t *testing.T) {
					t.Parallel()
					var refused atomic.Int64
					full := backend(t, func(w http.ResponseWriter, r *http.Request) {
						refused.Add(1)
						io.Copy(io.Discard, r.Body)
						w.WriteHeader(tc.status)
						if chunked {
							w.(http.Flusher).Flush()
						}
						fmt.Fprint(w, tc.body)
					})
					fine := backend(t, func(w http.ResponseWriter, r *http.Request) {
						b, _ := io.ReadAll(r.Body)
						fmt.Fprintf(w, "fine %s", b)
					})
					g, addr := serve(t, simple(full, fine))
					status, body := call(t, tc.method, addr, "/run/f", []byte("abc"))
					if tc.retried && (status != 200 || body != "fine abc") {
						t.Errorf("got %d %q, want the other worker's answer", status, body)
					}
					if !tc.retried && (status != tc.status || body != tc.body) {
						t.Errorf("got %d %q, want it as it is", status, body)
					}
					if refused.Load() != 1 {
						t.Errorf("the first worker was called %d times", refused.Load())
					}
					eventually(t, "no call in flight", func() bool { return idle(g) })
				})
			}
		}
	}
}

// If all workers refuse, the caller gets the last refusal as it is.
func TestAllWorkersRefuse(t *testing.T) {
	t.Parallel()
	full := func() string {
		return backend(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, "busy")
		})
	}
	cfg := simple(full(), full())
	cfg.Defaults.Attempts = 2
	_, addr := start(t, cfg)
	if status, body := call(t, "POST", addr, "/run/f", nil); status != 429 || body != "busy" {
		t.Errorf("%d %q", status, body)
	}
}

// A call that the worker has read is not sent again, unless that does no harm.
func TestWhatMayHaveRunIsNotRepeated(t *testing.T) {
	t.Parallel()
	for method, retried := range map[string]bool{"GET": true, "PUT": true, "DELETE": true, "POST": false, "PATCH": false} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var read atomic.Int64
			breaks := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if req, err := http.ReadRequest(r); err == nil {
					io.Copy(io.Discard, req.Body)
					read.Add(1)
				}
			})
			fine := named(t, "fine")
			g, addr := start(t, simple(breaks, fine))
			status, body := call(t, method, addr, "/run/f", []byte("x"))
			if retried && body != "fine" || !retried && status != 502 {
				t.Errorf("%d %q", status, body)
			}
			if read.Load() != 1 {
				t.Errorf("read %d times", read.Load())
			}
			eventually(t, "no call in flight", func() bool { return idle(g) })
		})
	}
	t.Run("POST with Idempotency-Key", func(t *testing.T) {
		t.Parallel()
		breaks := script(t, func(_ int, _ net.Conn, r *bufio.Reader) { readHead(r) })
		_, addr := start(t, simple(breaks, named(t, "fine")))
		c := dial(t, addr)
		c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 7\r\nContent-Length: 0\r\n\r\n")
		if _, body := c.response("POST"); body != "fine" {
			t.Errorf("%q", body)
		}
	})
}

// A worker that is removed or drained finishes what it has, gets nothing new,
// and nobody sees a 5xx (knative#13525, #15211).
func TestScaleDownFinishesCalls(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"removed", "draining"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			began, finish := make(chan bool), make(chan bool)
			var late atomic.Int64
			var leaving atomic.Bool
			slow := backend(t, func(w http.ResponseWriter, _ *http.Request) {
				if leaving.Load() {
					late.Add(1)
				}
				began <- true
				<-finish
				fmt.Fprint(w, "slow")
			})
			fast := named(t, "fast")
			var ms gateway.MemoryMembers
			ms.Set(gateway.Member{Name: "slow", URL: slow}, gateway.Member{Name: "fast", URL: fast})
			cfg := simple()
			cfg.Members = &ms
			g, addr := start(t, cfg)
			eventually(t, "two workers", func() bool { return len(g.Status().Workers) == 2 })
			answer := make(chan string, 1)
			go func() {
				_, body := get(t, addr, "/run/f")
				answer <- body
			}()
			<-began
			if how == "removed" {
				ms.Set(gateway.Member{Name: "fast", URL: fast})
				eventually(t, "one worker", func() bool { return len(g.Status().Workers) == 1 })
			} else {
				ms.Set(gateway.Member{Name: "slow", URL: slow, State: gateway.Draining}, gateway.Member{Name: "fast", URL: fast})
				eventually(t, "draining", func() bool { return g.Status().Workers[0].State == "draining" })
			}
			leaving.Store(true)
			for range 10 {
				if status, body := get(t, addr, "/run/f"); status != 200 || body != "fast" {
					t.Errorf("%d %q while scaling down", status, body)
				}
			}
			finish <- true
			if body := <-answer; body != "slow" {
				t.Errorf("the call in flight got %q", body)
			}
			if late.Load() != 0 {
				t.Error("a worker that leaves got a new call")
			}
			eventually(t, "no call in flight", func() bool { return idle(g) })
		})
	}
}

// Each of five servers gets its part (traefik#12306, knative#14199).
func TestFiveServersShareTheCalls(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"round-robin", "random", "least-loaded", "p2c", "least-latency"} {
		t.Run(b, func(t *testing.T) {
			t.Parallel()
			var counts [5]atomic.Int64
			cfg := simple()
			cfg.Defaults.Balancer = b
			for i := range counts {
				cfg.Workers = append(cfg.Workers, gateway.Worker{URL: backend(t, func(http.ResponseWriter, *http.Request) { counts[i].Add(1) })})
			}
			_, addr := start(t, cfg)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for range 50 {
						get(t, addr, "/run/f")
					}
				})
			}
			wg.Wait()
			for i := range counts {
				// Whoever goes by latency goes by the noise of this machine too.
				if n := counts[i].Load(); n < 5 || n > 300 {
					t.Errorf("server %d got %d of 500 calls", i, n)
				}
			}
		})
	}
}

func TestSlowStartAfterJoining(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "old"))
	cfg.Health.SlowStart = time.Hour
	g, addr := start(t, cfg)
	if err := g.AddWorkers(named(t, "new")); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for range 400 {
		_, body := get(t, addr, "/run/f")
		seen[body]++
	}
	if seen["new"] == 0 || seen["new"] > 100 {
		t.Errorf("calls: %v, want about a tenth of an even share for the new one", seen)
	}
}

func TestQuarantineAndReturn(t *testing.T) {
	t.Parallel()
	at, listen := down(t)
	cfg := simple(at, named(t, "other"))
	cfg.Health.Quarantine = 10 * time.Millisecond
	g, addr := start(t, cfg)
	for range 20 {
		if status, body := call(t, "POST", addr, "/run/f", []byte("x")); status != 200 || body != "other" {
			t.Fatalf("%d %q while a worker is down", status, body)
		}
	}
	if s := g.Status().Workers[0]; s.State != "quarantined" || s.Failures != 1 {
		t.Errorf("%+v, want quarantined after one refused connection", s)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "back") })}
	go s.Serve(listen())
	t.Cleanup(func() { s.Close() })
	eventually(t, "the worker is back", func() bool { return g.Status().Workers[0].State == "ready" })
	seen := map[string]bool{}
	for range 4 {
		_, body := get(t, addr, "/run/f")
		seen[body] = true
	}
	if !seen["back"] {
		t.Error("the worker that came back gets no calls")
	}
}

// Workers that all fail are not all left out: some calls might succeed.
func TestPanicThreshold(t *testing.T) {
	t.Parallel()
	breaks := func() string {
		return script(t, func(_ int, _ net.Conn, r *bufio.Reader) { readHead(r) })
	}
	cfg := simple(breaks(), breaks(), breaks(), breaks())
	cfg.Health = gateway.Health{Failures: 1, Quarantine: time.Hour, Panic: 0.5}
	g, addr := start(t, cfg)
	for range 30 {
		call(t, "POST", addr, "/run/f", nil)
	}
	ready := 0
	r, _ := g.Route("f")
	for _, w := range r.Workers {
		if w.May {
			ready++
		}
	}
	if ready != 2 {
		t.Errorf("%d of 4 failing workers are in service, want the half that must stay", ready)
	}
}

// All workers restarting: calls wait for one instead of failing.
func TestCallsWaitForAWorker(t *testing.T) {
	t.Parallel()
	at, listen := down(t)
	cfg := simple(at)
	cfg.Health.Quarantine = 10 * time.Millisecond
	cfg.Defaults.QueueTimeout, cfg.Defaults.RestartWait = patience, patience
	g, addr := start(t, cfg)
	answer := make(chan string, 1)
	go func() {
		status, body := call(t, "POST", addr, "/run/f", []byte("x"))
		answer <- fmt.Sprint(status, body)
	}()
	eventually(t, "the call waits", func() bool { return waiting(g) == 1 })
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "up") })}
	go s.Serve(listen())
	t.Cleanup(func() { s.Close() })
	if got := <-answer; got != "200up" && got != "200 up" {
		t.Errorf("got %s", got)
	}
}

func TestShutdownLetsCallsFinish(t *testing.T) {
	t.Parallel()
	began, finish := make(chan bool), make(chan bool)
	up := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		began <- true
		<-finish
		fmt.Fprint(w, "done")
	})
	g, addr := start(t, simple(up))
	idleConn := dial(t, addr)
	idleConn.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
	idleConn.response("GET")
	answer := make(chan string, 1)
	go func() {
		_, body := get(t, addr, "/run/f")
		answer <- body
	}()
	<-began
	down := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		down <- g.Shutdown(ctx)
	}()
	if _, err := idleConn.r.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection: %v, want it closed", err)
	}
	finish <- true
	if body := <-answer; body != "done" {
		t.Errorf("the call in flight got %q", body)
	}
	if err := <-down; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// A worker of a cluster says that the server of a function does not answer: another worker
// is tried, the cause is kept for those who ask, and callers are told nothing of it.
func TestFunctionsWhoseServersAreAway(t *testing.T) {
	t.Parallel()
	const cause = "dial tcp 127.0.0.1:9: connect: connection refused"
	for _, tc := range []struct {
		begins, method string
		others         bool // there is another worker
		status         int
		end            string
	}{
		{offer.NotReached, "POST", true, 200, ""},
		{offer.NotReached, "POST", false, 503, "worker-refused"},
		{offer.BrokeOff, "GET", true, 200, ""},
		{offer.BrokeOff, "GET", false, 502, "worker-broke"},
		{offer.BrokeOff, "POST", false, 502, "worker-broke"},
	} {
		for way, backend := range map[string]func(*testing.T, http.HandlerFunc) string{
			"HTTP/1": func(t *testing.T, h http.HandlerFunc) string { return backend(t, h) }, "HTTP/2": h2cWorker,
		} {
			t.Run(fmt.Sprintf("%s %s others %v over %s", tc.begins, tc.method, tc.others, way), func(t *testing.T) {
				t.Parallel()
				away := backend(t, func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					http.Error(w, tc.begins+cause, http.StatusBadGateway)
				})
				only := map[string][]string{"f": nil}
				ms := []gateway.Member{{Name: "away", URL: away, Functions: only}}
				if tc.others {
					ms = append(ms, gateway.Member{Name: "fine", URL: backend(t, func(http.ResponseWriter, *http.Request) {}), Functions: only})
				}
				cfg := simple()
				members := &gateway.MemoryMembers{}
				members.Set(ms...)
				cfg.Members = members
				g, addr := start(t, cfg)
				eventually(t, "the workers", func() bool { return len(g.Status().Workers) == len(ms) })
				status, body := call(t, tc.method, addr, "/run/f", []byte("x"))
				if status != tc.status || strings.Contains(body, "dial") {
					t.Fatalf("%d %q", status, body)
				}
				if tc.end == "" {
					return
				}
				eventually(t, "the failure is kept", func() bool { return len(g.Failures("f", "")) == 1 })
				f := g.Failures("f", "")[0]
				if f.Cause != tc.end || !strings.HasSuffix(f.Error, cause) || f.Attempts[0].Worker != "away" || f.Attempts[0].Status != 502 || !strings.HasSuffix(f.Attempts[0].Error, cause) {
					t.Errorf("%+v", f)
				}
				eventually(t, "no call in flight", func() bool { return idle(g) })
			})
		}
	}
}
