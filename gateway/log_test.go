package gateway_test

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/test/memo"
)

// accessLog is a log of which the lines of calls are read.
type accessLog struct {
	memo.Buffer
}

// lines are all lines, calls those of calls.
func (l *accessLog) lines(t *testing.T) (out []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

func (l *accessLog) calls(t *testing.T) (out []map[string]any) {
	t.Helper()
	return slices.DeleteFunc(l.lines(t), func(m map[string]any) bool { return m["msg"] != "call" })
}

// logging is a configuration that logs all calls.
func logging(cfg gateway.Config) (gateway.Config, *accessLog) {
	l := &accessLog{}
	cfg.Logger = slog.New(slog.NewJSONHandler(l, nil))
	cfg.AccessLog = 1
	return cfg, l
}

// Each call is logged once, however it ends, with what became of it and whose fault
// that was.
func TestEachCallIsLoggedOnceWithItsCause(t *testing.T) {
	t.Parallel()
	worker := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			switch strings.TrimPrefix(req.URL.Path, "/run/f/") {
			case "cut":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
				return
			case "stalls":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
				_, _ = io.Copy(io.Discard, r)
				return
			case "late":
				_, _ = io.Copy(io.Discard, r)
				return
			case "garbage":
				_, _ = io.WriteString(c, "HTTP/9 what\r\n\r\n")
				return
			case "badchunks":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nZZ\r\n")
				return
			case "hangsup":
				return
			case "500":
				_, _ = io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nown")
			default:
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	for _, tc := range []struct {
		method, path string
		status       float64
		cause, blame string
		attempts     float64
		sent         float64 // if another status was
	}{
		{"GET", "/run/f/x", 200, "ok", "", 1, 0},
		{"POST", "/run/f/x", 200, "ok", "", 1, 0},
		{"GET", "/run/f/500", 500, "ok", "", 1, 0},
		{"POST", "/run/f/cut", 502, "worker-broke", "worker", 1, 200},
		{"POST", "/run/f/badchunks", 502, "worker-malformed", "worker", 1, 200},
		{"POST", "/run/f/stalls", 504, "worker-stalled", "worker", 1, 200},
		{"POST", "/run/f/late", 504, "worker-late", "worker", 1, 0},
		{"POST", "/run/f/garbage", 502, "worker-malformed", "worker", 1, 0},
		{"POST", "/run/f/hangsup", 502, "worker-broke", "worker", 1, 0},
		{"GET", "/run/f/hangsup", 502, "worker-broke", "worker", 1, 0}, // there is no other
		{"GET", "/run/none", 503, "gateway-no-worker", "gateway", 0, 0},
		{"GET", "/run/dead", 502, "worker-unreachable", "worker", 1, 0},
		{"GET", "/run/", 400, "client-malformed", "client", 0, 0},
		{"GET", "/nothing", 404, "client-refused", "client", 0, 0},
		{"GET", "/status", 200, "ok", "", 0, 0},
		{"GET", "/run/often", 429, "client-too-often", "client", 0, 0},
	} {
		for name, serve := range ways {
			t.Run(name+"/"+tc.method+" "+tc.path, func(t *testing.T) {
				t.Parallel()
				cfg, log := logging(simple())
				cfg.Workers = []gateway.Worker{{URL: worker, Functions: []string{"f", "often"}}, {URL: deadURL(t), Functions: []string{"dead"}}}
				cfg.Functions = map[string]gateway.Function{"often": {Policy: &gateway.Policy{Rate: 0.0001, Burst: 1}}}
				cfg.Defaults.IdleTimeout, cfg.Defaults.HeaderTimeout = 300*time.Millisecond, 600*time.Millisecond
				_, addr := serve(t, cfg)
				client, base := reach(addr)
				want := 1
				if tc.path == "/run/often" { // the first may
					get(t, addr, tc.path)
					want++
				}
				req := request(t, tc.method, base+tc.path, strings.NewReader(map[string]string{"POST": "hello"}[tc.method]))
				req.Header.Set("X-Request-ID", "my-id")
				if resp, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				eventually(t, "it is logged", func() bool { return len(log.calls(t)) == want })
				m := log.calls(t)[want-1]
				blame, _ := m["blame"].(string)
				if m["status"] != tc.status || m["cause"] != tc.cause || blame != tc.blame || m["attempts"] != tc.attempts || m["request_id"] != "my-id" ||
					m["method"] != tc.method || m["target"] != tc.path || m["host"] == "" || m["client"] != "127.0.0.1" {
					t.Errorf("%v", m)
				}
				if sent, _ := m["sent"].(float64); sent != tc.sent {
					t.Errorf("sent %v, want %v: %v", sent, tc.sent, m)
				}
				if tc.method == "POST" && m["bytes_in"] != 5.0 || tc.status == 200 && tc.attempts == 1 && m["bytes_out"] != 2.0 {
					t.Errorf("bytes: %v", m)
				}
			})
		}
	}
}

// Requests that are not even HTTP, and clients that leave, are logged too.
func TestWhatClientsBreakIsLogged(t *testing.T) {
	t.Parallel()
	held := make(chan bool)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		held <- true
		<-r.Context().Done()
	})
	t.Run("over HTTP/2", func(t *testing.T) {
		t.Parallel()
		cfg, log := logging(simple(up))
		_, addr := start(t, cfg)
		f := dialHTTP2(t, addr)
		f.request(1, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/run/f", "connection", "close")
		f.await("RST_STREAM 1 PROTOCOL_ERROR")
		eventually(t, "it is logged", func() bool { return len(log.calls(t)) == 1 })
		if m := log.calls(t)[0]; m["status"] != 400.0 || m["cause"] != "client-malformed" {
			t.Errorf("%v", m)
		}
	})
	for name, tc := range map[string]struct {
		send   string
		held   bool
		status float64
		cause  string
	}{
		"no HTTP":      {"NONSENSE\r\n\r\n", false, 400, "client-malformed"},
		"broken chunk": {"POST /run/f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", false, 400, "client-malformed"},
		"left":         {"GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n", true, 499, "client-left"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, log := logging(simple(up))
			_, addr := start(t, cfg)
			c := dial(t, addr)
			c.send(tc.send)
			if tc.held {
				<-held
			} else {
				c.response("GET")
			}
			c.Close()
			eventually(t, "it is logged", func() bool { return len(log.calls(t)) == 1 })
			if m := log.calls(t)[0]; m["status"] != tc.status || m["cause"] != tc.cause || m["blame"] != "client" {
				t.Errorf("%v", m)
			}
		})
	}
}

// A call that is logged and has no request id gets one, which the worker hears, and
// who is refused.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	ids := make(chan string, 1)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { ids <- r.Header.Get("X-Request-ID") })
	cfg, log := logging(simple(up))
	everyWay(t, cfg, func(t *testing.T, _ *gateway.Gateway, client *http.Client, base string) {
		resp, err := client.Do(request(t, "GET", base+"/nothing", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		id := resp.Header.Get("X-Request-ID")
		eventually(t, "it is logged", func() bool {
			for _, m := range log.calls(t) {
				if m["request_id"] == id && m["status"] == 404.0 {
					return len(id) == 32
				}
			}
			return false
		})
	})
	_, addr := start(t, cfg)
	get(t, addr, "/run/f")
	if id := <-ids; len(id) != 32 {
		t.Errorf("the worker heard %q", id)
	}
}

// The last calls of a function that failed can be seen, with each attempt.
func TestRoutesShowTheLastFailures(t *testing.T) {
	t.Parallel()
	breaks := func() string {
		return script(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = readHead(r) })
	}
	cfg := simple(breaks(), breaks())
	cfg.Health.Failures, cfg.Defaults.RetryBudget = 1000, 1
	g, addr := start(t, cfg)
	for range 12 {
		get(t, addr, "/run/f")
	}
	r, _ := g.Route("f")
	if len(r.Failures) != 8 {
		t.Fatalf("%d failures are kept", len(r.Failures))
	}
	f := r.Failures[7]
	if f.Status != 502 || f.Cause != "worker-broke" || f.Blame != "worker" || f.Method != http.MethodGet || f.Target != "/run/f" || len(f.Attempts) != 2 ||
		f.Attempts[0].Sent == 0 || f.Attempts[0].Error == "" || f.Attempts[0].Worker == f.Attempts[1].Worker {
		t.Errorf("%+v", f)
	}
	if !r.Failures[0].Time.After(f.Time) {
		t.Error("the last is not the first")
	}
}

// Where a trusted proxy says who calls, that is the client for rates and the log.
func TestClientsBehindTrustedProxies(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		trusted []string
		headers [][2]string
		client  string
	}{
		"nobody is trusted":       {nil, [][2]string{{"X-Forwarded-For", "1.2.3.4"}}, "127.0.0.1"},
		"another is trusted":      {[]string{"10.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "1.2.3.4"}}, "127.0.0.1"},
		"it names the client":     {[]string{"127.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "1.2.3.4"}}, "1.2.3.4"},
		"a client that lies":      {[]string{"127.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "6.6.6.6, 1.2.3.4"}}, "1.2.3.4"},
		"two proxies":             {[]string{"127.0.0.0/8", "10.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "6.6.6.6, 1.2.3.4, 10.1.1.1"}}, "1.2.3.4"},
		"in two lines":            {[]string{"127.0.0.0/8", "10.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "1.2.3.4"}, {"X-Forwarded-For", "10.1.1.1"}}, "1.2.3.4"},
		"with a port":             {[]string{"127.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "1.2.3.4:567"}}, "1.2.3.4"},
		"IPv6":                    {[]string{"127.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "2001:db8::1"}}, "2001:db8::1"},
		"Forwarded":               {[]string{"127.0.0.0/8"}, [][2]string{{"Forwarded", `for=6.6.6.6, for="[2001:db8::1]:99";proto=http`}}, "2001:db8::1"},
		"a hidden one":            {[]string{"127.0.0.0/8", "10.0.0.0/8"}, [][2]string{{"Forwarded", "for=_hidden, for=10.0.0.7"}}, "10.0.0.7"},
		"nonsense":                {[]string{"127.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "who knows"}}, "127.0.0.1"},
		"all of them are proxies": {[]string{"127.0.0.0/8", "10.0.0.0/8"}, [][2]string{{"X-Forwarded-For", "10.0.0.1, 10.0.0.2"}}, "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, log := logging(simple(named(t, "w")))
			cfg.TrustedProxies = prefixes(t, tc.trusted...)
			cfg.Defaults.Rate, cfg.Defaults.Burst = 0.0001, 1
			_, addr := start(t, cfg)
			head := ""
			for _, h := range tc.headers {
				head += h[0] + ": " + h[1] + "\r\n"
			}
			c := dial(t, addr)
			for _, want := range []int{200, 429} {
				c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n" + head + "\r\n")
				if resp, _ := c.response("GET"); resp.StatusCode != want {
					t.Errorf("%d, want %d", resp.StatusCode, want)
				}
			}
			// Somebody else has a rate of their own, if the proxy is believed.
			want := 429
			if tc.client != "127.0.0.1" && tc.client != "10.0.0.7" && tc.client != "10.0.0.1" {
				want = 200
			}
			c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n")
			if resp, _ := c.response("GET"); len(tc.trusted) > 0 && tc.trusted[0] == "127.0.0.0/8" && want == 200 && resp.StatusCode != want {
				t.Errorf("another client: %d, want %d", resp.StatusCode, want)
			}
			eventually(t, "they are logged", func() bool { return len(log.calls(t)) == 3 })
			if m := log.calls(t)[0]; m["client"] != tc.client {
				t.Errorf("client %v, want %s", m["client"], tc.client)
			}
		})
	}
}

// What a function itself answers with 500 or above is kept for those who ask, a bounded
// number of each function's, and pushes out no other failure.
func TestFunctionsOwnErrorsAreKept(t *testing.T) {
	t.Parallel()
	g, addr := start(t, simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/run/f/503" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	})))
	get(t, addr, "/run/f/503")
	for range 12 {
		get(t, addr, "/run/f")
	}
	eventually(t, "the calls are counted", func() bool { r, _ := g.Route("f"); return r.Calls == 13 })
	r, _ := g.Route("f")
	if len(r.Failures) != 9 || len(g.Failures("f", "")) != 9 {
		t.Fatalf("%d failures are kept", len(r.Failures))
	}
	if f := r.Failures[0]; f.Status != 500 || f.Cause != "ok" || f.Blame != "" || len(f.Attempts) != 1 || f.Attempts[0].Worker == "" || f.Attempts[0].Status != 500 || f.TookMS <= 0 {
		t.Errorf("%+v", f)
	}
	if f := r.Failures[8]; f.Status != 503 {
		t.Errorf("the 503 was pushed out: %+v", f)
	}
}
