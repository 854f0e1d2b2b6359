package gateway_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// Bodies up to the limit are kept to be sent again, larger ones are not.
func TestBodiesAreKeptUpToALimit(t *testing.T) {
	t.Parallel()
	full := backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, "busy")
	})
	fine := backend(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for size, want := range map[int]int{64 << 10: 200, 64<<10 + 1: 429} {
				_, addr := serve(t, simple(full, fine))
				status, body := call(t, "POST", addr, "/run/f", make([]byte, size))
				if status != want || want == 200 && body != fmt.Sprint(size) {
					t.Errorf("%d bytes: %d %q, want %d", size, status, body, want)
				}
			}
		})
	}
}

// An answer that ends with the worker's connection ends for the client too, whose
// connection goes on.
func TestAnswersUntilTheConnectionCloses(t *testing.T) {
	t.Parallel()
	up := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nabc")
			io.WriteString(c, "de")
		}
	})
	everyWay(t, simple(up), func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		for range 3 {
			resp, err := client.Do(request(t, "GET", base+"/run/f", nil))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(b) != "abcde" || resp.Close {
				t.Errorf("%q, %v, close %v", b, err, resp.Close)
			}
		}
	})
}

// Only what does no harm twice is hedged.
func TestPostsAreNotHedged(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	began, release := make(chan bool), make(chan bool)
	up := func() string {
		return backend(t, func(_ http.ResponseWriter, r *http.Request) {
			if slow.Load() && r.Method == http.MethodPost {
				began <- true
				<-release
			}
		})
	}
	cfg := simple(up(), up())
	cfg.Defaults.Hedge = true
	g, addr := start(t, cfg)
	for range 200 {
		get(t, addr, "/run/f")
	}
	slow.Store(true)
	answer := make(chan int, 1)
	go func() {
		status, _ := call(t, "POST", addr, "/run/f", []byte("x"))
		answer <- status
	}()
	<-began
	for range 20 { // far longer than the percentile of what answers at once
		get(t, addr, "/run/f")
	}
	eventually(t, "one worker has the POST, and no GET is left", func() bool {
		s := g.Status()
		return s.Workers[0].InFlight+s.Workers[1].InFlight == 1
	})
	release <- true
	if status := <-answer; status != 200 {
		t.Errorf("answered %d", status)
	}
}

// Active checks find a worker that is sick although nobody calls it, and find it
// when it is well again.
func TestActiveChecks(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	cfg := simple(up, named(t, "other"))
	cfg.Health = gateway.Health{Interval: time.Millisecond, Path: "/health", Failures: 2, Quarantine: time.Millisecond}
	g, _ := start(t, cfg)
	sick.Store(true)
	eventually(t, "it is out", func() bool { return g.Status().Workers[0].State == "quarantined" })
	sick.Store(false)
	eventually(t, "it is back", func() bool { return g.Status().Workers[0].State == "ready" })
}

func TestQuarantineDoubles(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Health = gateway.Health{Quarantine: time.Hour, MaxQuarantine: 5 * time.Hour}
	g, _ := start(t, cfg)
	for i, want := range []float64{1, 2, 4, 5, 5} {
		if got := g.QuarantineFor(0).Round(time.Hour).Hours(); got != want {
			t.Errorf("failure %d: %v hours, want %v", i, got, want)
		}
	}
}

func TestAccessLogIsSampled(t *testing.T) {
	t.Parallel()
	for share, bounds := range map[float64][2]int{0: {0, 0}, 0.5: {150, 250}, 1: {400, 400}} {
		var log logBuffer
		cfg := simple(named(t, "w"))
		cfg.Logger = log.logger()
		cfg.AccessLog = share
		g, addr := start(t, cfg)
		for range 400 {
			get(t, addr, "/run/f")
		}
		g.Close() // the last call's line comes after its answer
		if n := strings.Count(log.String(), "msg=call"); n < bounds[0]-1 || n > bounds[1] {
			t.Errorf("share %v: %d of 400 calls are logged", share, n)
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Limits.Connections = 2
	_, addr := start(t, cfg)
	var first *client
	for range 2 {
		first = dial(t, addr)
		first.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
		first.response("GET")
	}
	third := dial(t, addr)
	if _, err := third.r.ReadByte(); err == nil {
		t.Error("a third connection is served")
	}
	first.Close()
	eventually(t, "there is room again", func() bool {
		c := dial(t, addr)
		if _, err := io.WriteString(c, "GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			return false
		}
		_, err := http.ReadResponse(c.r, nil)
		return err == nil
	})
}

func TestForwardedOfIPv6(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	cfg := simple(up)
	cfg.Logger = quiet()
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	r := httptest.NewRequest(http.MethodGet, "/run/f", nil)
	r.RemoteAddr, r.Host = "[2001:db8::1]:99", "example.org"
	g.Handler().ServeHTTP(httptest.NewRecorder(), r)
	h := <-got
	if h.Get("Forwarded") != `for="[2001:db8::1]";proto=http;host="example.org"` || h.Get("X-Forwarded-For") != "2001:db8::1" {
		t.Errorf("got %v", h)
	}
}

// A connection that waits costs little, and holds no buffer.
func TestIdleConnectionsAreCheap(t *testing.T) {
	const n = 200
	cfg := simple(named(t, "w"))
	cert, _ := certificate(t)
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	_, addr := start(t, cfg)
	for name, open := range map[string]func(){
		"TLS": func() {
			c := dial(t, addr)
			tc := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
			tc.Write([]byte("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n"))
			tc.Read(make([]byte, 1000))
		},
		"HTTP/1": func() {
			c := dial(t, addr)
			c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
			c.response("GET")
		},
		"HTTP/2": func() {
			f := dialHTTP2(t, addr)
			f.get(1)
			f.await("HEADERS 1 200")
		},
	} {
		t.Run(name, func(t *testing.T) {
			open()
			inUse := func() uint64 {
				runtime.GC()
				runtime.GC() // what a pool holds goes with the second
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapInuse + m.StackInuse
			}
			before := inUse()
			for range n {
				open()
			}
			// The client's side, with its own buffers, is in this process too.
			each := (float64(inUse()) - float64(before)) / n
			if each > 64<<10 { // the race detector takes some of it
				t.Errorf("%.1f KiB a connection", each/1024)
			}
			t.Logf("%.1f KiB a connection, both sides", each/1024)
		})
	}
}
