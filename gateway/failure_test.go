package gateway_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// told is a configuration whose log is read, without an access log.
func told(cfg gateway.Config) (gateway.Config, *accessLog) {
	cfg, l := logging(cfg)
	cfg.AccessLog = 0
	return cfg, l
}

// fails is a worker that fails as the path says.
func fails(t testing.TB) string {
	return script(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
			switch req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:] {
			case "hangsup":
				return
			case "cut":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
				return
			case "late":
				_, _ = io.Copy(io.Discard, r)
				return
			case "garbage":
				_, _ = io.WriteString(c, "HTTP/9 what\r\n\r\n")
				return
			case "500":
				answer = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nown"
			case "503":
				answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nown"
			}
			_, _ = io.WriteString(c, answer)
		}
	})
}

// Every call that fails by a worker's or the gateway's fault leaves one line, without an
// access log, with each attempt; and the id in the answer finds it again. Other calls
// leave none.
func TestEachFailedCallCanBeExplained(t *testing.T) {
	t.Parallel()
	type attempt struct {
		status         int
		cause, verdict string
	}
	for _, tc := range []struct {
		name, method, path string
		workers            []string // "" fails as the path says
		change             func(*gateway.Config)
		status             int // what counts for the call
		cause              string
		cut                bool
		tries              []attempt
	}{
		{name: "is tried on two", method: "GET", path: "/run/f/hangsup", workers: []string{"", ""}, status: 502, cause: "worker-broke", tries: []attempt{
			{0, "worker-broke", "tried again"}, {0, "worker-broke", "no other worker"},
		}},
		{name: "may have run", method: "POST", path: "/run/f/hangsup", workers: []string{"", ""}, status: 502, cause: "worker-broke", tries: []attempt{{0, "worker-broke", "may have run"}}},
		{name: "no budget", method: "GET", path: "/run/f/hangsup", workers: []string{"", ""}, status: 502, cause: "worker-broke", change: func(c *gateway.Config) { c.Defaults.RetryBudget = -1 }, tries: []attempt{
			{0, "worker-broke", "retry budget spent"},
		}},
		{name: "one attempt", method: "GET", path: "/run/f/hangsup", workers: []string{"", ""}, status: 502, cause: "worker-broke", change: func(c *gateway.Config) { c.Defaults.Attempts = 1 }, tries: []attempt{
			{0, "worker-broke", "last attempt"},
		}},
		{name: "late", method: "GET", path: "/run/f/late", workers: []string{"", ""}, change: func(c *gateway.Config) { c.Defaults.HeaderTimeout = 300 * time.Millisecond }, status: 504, cause: "worker-late", tries: []attempt{{0, "worker-late", "out of time"}}},
		{name: "garbage", method: "POST", path: "/run/f/garbage", workers: []string{""}, status: 502, cause: "worker-malformed", tries: []attempt{{0, "worker-malformed", "may have run"}}},
		{name: "cut", method: "POST", path: "/run/f/cut", workers: []string{""}, status: 502, cause: "worker-broke", cut: true, tries: []attempt{{200, "worker-broke", "answered"}}},
		{name: "unreachable", method: "POST", path: "/run/f", workers: []string{"down", "down"}, status: 502, cause: "worker-unreachable", tries: []attempt{
			{0, "worker-unreachable", "tried again"}, {0, "worker-unreachable", "no other worker"},
		}},
		{name: "of the worker's own", method: "GET", path: "/run/f/503", workers: []string{""}, status: 503, cause: "ok", cut: true, tries: []attempt{{503, "ok", "answered"}}},
		{name: "no worker", method: "GET", path: "/run/f", status: 503, cause: "gateway-no-worker"},
		{name: "loop", method: "GET", path: "/run/f", workers: []string{"itself"}, status: 508, cause: "gateway-loop"},
		{name: "well", method: "GET", path: "/run/f/x", workers: []string{""}, status: 200},
		{name: "of the function's own", method: "GET", path: "/run/f/500", workers: []string{""}, status: 500},
		{name: "nowhere", method: "GET", path: "/nowhere", workers: []string{""}, status: 404},
		{name: "too often", method: "GET", path: "/run/often", workers: []string{""}, status: 429},
	} {
		for way, serve := range ways {
			t.Run(tc.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				cfg, log := told(simple())
				for _, w := range tc.workers {
					switch w {
					case "":
						cfg.Workers = append(cfg.Workers, gateway.Worker{URL: fails(t)})
					case "down":
						cfg.Workers = append(cfg.Workers, gateway.Worker{URL: deadURL(t)})
					}
				}
				cfg.Health.Failures = 1 << 30
				cfg.Defaults.RetryBudget = 1
				cfg.Functions = map[string]gateway.Function{"often": {Policy: &gateway.Policy{Rate: 0.0001, Burst: 1}}}
				if tc.change != nil {
					tc.change(&cfg)
				}
				g, addr := serve(t, cfg)
				if tc.cause == "gateway-loop" {
					if err := g.AddWorkers("http://" + loopOf(t, g)); err != nil {
						t.Fatal(err)
					}
				}
				if tc.status == 429 {
					get(t, addr, tc.path)
				}
				client, base := reach(addr)
				resp, err := client.Do(request(t, tc.method, base+tc.path+"?token=secret", strings.NewReader(map[string]string{"POST": "hello"}[tc.method])))
				id := ""
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					id = resp.Header.Get("X-Request-ID")
				}
				if tc.cause == "" {
					eventually(t, "no call in flight", func() bool { return idle(g) })
					g.Close()
					if lines := log.calls(t); len(lines) != 0 || id != "" {
						t.Errorf("id %q, %v", id, lines)
					}
					return
				}
				want := 1
				if tc.cause == "gateway-loop" {
					want = 2 // the answer is a worker's, too, and says 508
				}
				eventually(t, "it is logged", func() bool { return len(log.calls(t)) >= 1 })
				g.Close()
				lines := log.calls(t)
				if len(lines) > want {
					t.Fatalf("%d lines: %v", len(lines), lines)
				}
				m := lines[0]
				if m["level"] != "WARN" || m["status"] != float64(tc.status) || m["cause"] != tc.cause || m["function"] != "f" && tc.cause != "gateway-loop" ||
					m["attempts"] != float64(len(tc.tries)) || strings.Contains(fmt.Sprint(m), "secret") {
					t.Errorf("%v", m)
				}
				for i, want := range tc.tries {
					a, _ := m["attempt_"+strconv.Itoa(i+1)].(map[string]any)
					status, _ := a["status"].(float64)
					if a["worker"] == "" || a["cause"] != want.cause || a["verdict"] != want.verdict || int(status) != want.status || (a["sent"] == 0.0) != (want.cause == "worker-unreachable") {
						t.Errorf("attempt %d: %v, want %v", i+1, a, want)
					}
					if read, _ := a["read"].(float64); (read > 0) != (strings.HasSuffix(tc.path, "garbage") || want.status != 0) {
						t.Errorf("attempt %d has read %v", i+1, read)
					}
					if took, _ := a["took"].(float64); took <= 0 && want.cause != "worker-unreachable" {
						t.Errorf("attempt %d took %v", i+1, took)
					}
				}
				if !tc.cut && id != m["request_id"] || m["request_id"] == "" {
					t.Errorf("the answer's id is %q, the line's %v", id, m["request_id"])
				}
				found := g.Failures("", m["request_id"].(string))
				if len(found) != 1 || found[0].Status != tc.status || found[0].Cause != tc.cause || len(found[0].Attempts) != len(tc.tries) || found[0].TookMS <= 0 {
					t.Fatalf("found %+v", found)
				}
				for i, want := range tc.tries {
					if a := found[0].Attempts[i]; a.Verdict != want.verdict || a.Cause != want.cause || a.Status != want.status {
						t.Errorf("attempt %d: %+v", i+1, a)
					}
				}
			})
		}
	}
}

// loopOf is an address of the gateway itself.
func loopOf(t *testing.T, g *gateway.Gateway) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go g.Serve(ln)
	return ln.Addr().String()
}

// A worker that is called over HTTP/2 has attempts like others.
func TestAttemptsOverHTTP2(t *testing.T) {
	t.Parallel()
	for name, up := range workersOf(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "not now")
	}) {
		if name != "h2c" {
			continue
		}
		for _, size := range []int{0, 1000, 1 << 20} { // none, kept, streamed
			for round := range 2 {
				cfg, log := told(simple(up))
				g, addr := start(t, cfg)
				for range round + 1 {
					send(t, "POST", addr, "/run/f", make([]byte, size), false, "X-Request-Id", "mine")
				}
				eventually(t, "it is logged", func() bool { return len(log.calls(t)) == round+1 })
				f := g.Failures("f", "mine")
				if len(f) != round+1 || len(f[0].Attempts) != 1 {
					t.Fatalf("%+v", f)
				}
				if a := f[0].Attempts[0]; a.Status != 503 || a.Sent < int64(size)+50 || a.Read < 7 || a.Reused != (round == 1) || a.Verdict != "answered" {
					t.Errorf("%d bytes: %+v", size, a)
				}
			}
		}
	}
}

// Of a call that was hedged both attempts are known, whichever of them counts.
func TestBothAttemptsOfAHedgeAreKnown(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first, second string // what the first and the second worker asked do
		want          []string
	}{
		"the second answers": {"waits", "503", []string{" overtaken", "ok answered"}},
		"both break":         {"breaks", "breaks", []string{"worker-broke tried again", "worker-broke last attempt"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			worker := func() string {
				return script(t, func(_ int, c net.Conn, r *bufio.Reader) {
					for {
						head, err := readHead(r)
						if err != nil {
							return
						}
						do := "200"
						if strings.Contains(head, "last") { // and no attempt of a call before it, which may come late
							if do = tc.first; asked.Add(1) == 2 {
								do = tc.second
							}
						}
						switch do {
						case "waits":
							_, _ = io.Copy(io.Discard, r)
							return
						case "breaks":
							for asked.Load() < 2 { // the other is asked first
								time.Sleep(time.Millisecond)
							}
							return
						}
						fmt.Fprintf(c, "HTTP/1.1 %s Said\r\nContent-Length: 2\r\n\r\nok", do)
					}
				})
			}
			cfg, log := told(simple(worker(), worker()))
			cfg.Defaults.Hedge, cfg.Defaults.Attempts, cfg.Health.Failures = true, 1, 1<<30
			g, addr := start(t, cfg)
			for range 200 {
				get(t, addr, "/run/f")
			}
			get(t, addr, "/run/f?last")
			eventually(t, "it is logged", func() bool { return len(log.calls(t)) == 1 })
			f := g.Failures("", "")[0]
			var got []string
			for _, a := range f.Attempts {
				got = append(got, a.Cause+" "+a.Verdict)
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) || f.Attempts[0].Worker == f.Attempts[1].Worker {
				t.Errorf("%q, want %q: %+v", got, tc.want, f)
			}
		})
	}
}

// A flood of failures has few lines and a count of the others, and pushes neither the
// lines nor the failures of another function out.
func TestFloodsOfFailuresAreSampled(t *testing.T) {
	t.Parallel()
	cfg, log := told(simple())
	cfg.Workers = []gateway.Worker{{URL: fails(t), Functions: []string{"flood", "other"}}}
	cfg.Health.Failures = 1 << 30
	g, addr := start(t, cfg)
	get(t, addr, "/run/other/hangsup")
	var c *client
	const n = 1200
	for i := range n {
		if i%50 == 0 { // each has so long for all of its calls
			c = dial(t, addr)
		}
		c.send("GET /run/flood/hangsup HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, _ := c.response("GET"); resp.StatusCode != http.StatusBadGateway {
			t.Fatal(resp.Status)
		}
	}
	get(t, addr, "/run/other/hangsup")
	if f := g.Failures("", ""); len(f) != 1000+1 {
		t.Errorf("%d failures are kept", len(f))
	}
	if f := g.Failures("other", ""); len(f) != 2 {
		t.Errorf("%d failures of the other function are kept", len(f))
	}
	g.Close()
	written, left := map[any]int{}, 0
	for _, m := range log.lines(t) {
		if m["msg"] == "call" {
			written[m["function"]]++
		}
		if out, ok := m["left_out"].(float64); ok {
			left += int(out)
		}
	}
	// Ten at once, and one each ten seconds of a slow machine's.
	if written["flood"]+left != n || written["flood"] > 50 || written["flood"] < 10 || written["other"] != 2 {
		t.Errorf("%v lines, %d left out, of %d", written, left, n)
	}
}

// Clients' faults do not push out what workers did.
func TestClientsPushNoFailureOut(t *testing.T) {
	t.Parallel()
	cfg := simple(fails(t))
	cfg.Defaults.Rate, cfg.Defaults.Burst = 0.0001, 1
	g, addr := start(t, cfg)
	for range 100 {
		get(t, addr, "/run/f/hangsup")
	}
	causes := map[string]int{}
	r, _ := g.Route("f")
	for _, f := range r.Failures {
		causes[f.Cause]++
	}
	if causes["worker-broke"] != 1 || causes["client-too-often"] != 8 {
		t.Errorf("%v", causes)
	}
}

// Who may use the admin side is told of failures, and nobody else.
func TestFailuresAreForAdmins(t *testing.T) {
	t.Parallel()
	cfg := simple(fails(t))
	cfg.AdminToken = "token"
	cfg.LocalAdmin = true // which is for adding and removing workers
	g, addr := start(t, cfg)
	send(t, "POST", addr, "/run/f/hangsup", nil, false, "X-Request-Id", "one")
	send(t, "POST", addr, "/run/g/hangsup", nil, false, "X-Request-Id", "two\u009b[31m")
	send(t, "POST", addr, "/run/g/hangsup", nil, false, "X-Request-Id", strings.Repeat("x", 1000))
	eventually(t, "they are kept", func() bool { return len(g.Failures("", "")) == 3 })
	if resp, _ := send(t, "GET", addr, "/api/v1/failures", nil, false); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a stranger gets %d", resp.StatusCode)
	}
	for query, want := range map[string]int{
		"": 3, "?function=g": 2, "?id=one": 1, "?id=one&function=g": 0, "?id=none": 0, "?function=none": 0, "?id=" + strings.Repeat("x", 1000): 1,
	} {
		resp, body := send(t, "GET", addr, "/api/v1/failures"+query, nil, false, "Authorization", "Bearer token")
		var list []gateway.Failure
		if err := json.Unmarshal([]byte(body), &list); err != nil || resp.StatusCode != http.StatusOK || len(list) != want || list == nil {
			t.Errorf("%s: %d, %v, %d failures: %s", query, resp.StatusCode, err, len(list), body)
		}
		rec := httptest.NewRecorder()
		g.AdminHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://localhost/api/v1/failures"+query, nil))
		if rec.Body.String() != body {
			t.Errorf("%s: the admin side answers %d %s", query, rec.Code, rec.Body)
		}
	}
	for _, f := range g.Failures("", "") {
		if strings.ContainsAny(f.ID, "\x1b\u009b") || len(f.ID) > 130 {
			t.Errorf("id %q", f.ID)
		}
	}
}

// What is logged by the access log already has no second line.
func TestFailedCallsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	cfg, log := logging(simple(fails(t)))
	_, addr := start(t, cfg)
	for range 30 { // more than are told without an access log
		get(t, addr, "/run/f/hangsup?x=1")
	}
	eventually(t, "they are logged", func() bool { return len(log.calls(t)) == 30 })
	for _, m := range log.calls(t) {
		if m["level"] != slog.LevelWarn.String() || m["attempt_1"] == nil || m["target"] != "/run/f/hangsup?x=1" {
			t.Errorf("%v", m)
		}
	}
}

// The metrics count attempts that did not go well by what came of them.
func TestMetricsCountFailedAttempts(t *testing.T) {
	t.Parallel()
	cfg := simple(fails(t), fails(t))
	cfg.Health.Failures, cfg.Defaults.RetryBudget = 1<<30, 1
	g, addr := start(t, cfg)
	get(t, addr, "/run/f/hangsup")
	get(t, addr, "/run/f/x")
	send(t, "POST", addr, "/run/f/hangsup", nil, false)
	eventually(t, "no call in flight", func() bool { return idle(g) })
	_, text := get(t, addr, "/metrics")
	for _, want := range []string{
		`rota_gateway_attempts_failed_total{cause="worker-broke",verdict="tried again"} 1`,
		`rota_gateway_attempts_failed_total{cause="worker-broke",verdict="no other worker"} 1`,
		`rota_gateway_attempts_failed_total{cause="worker-broke",verdict="may have run"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if n := strings.Count(text, "rota_gateway_attempts_failed_total{"); n != 3 {
		t.Errorf("%d counters of attempts", n)
	}
}

// A call that is tried again stays in one trace, which its line names.
func TestTraceOfAFailedCall(t *testing.T) {
	t.Parallel()
	traces := make(chan string, 10)
	worker := func() string {
		return script(t, func(_ int, _ net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				traces <- req.Header.Get("Traceparent")
			}
		})
	}
	cfg, log := told(simple(worker(), worker()))
	cfg.Trace = true
	_, addr := start(t, cfg)
	get(t, addr, "/run/f")
	first, second := <-traces, <-traces
	eventually(t, "it is logged", func() bool { return len(log.calls(t)) == 1 })
	if id := log.calls(t)[0]["trace"]; len(first) != 55 || first == second || first[:36] != second[:36] || first[3:35] != id {
		t.Errorf("%q, then %q; the line has %v", first, second, id)
	}
	const theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	send(t, "POST", addr, "/run/f", nil, false, "Traceparent", theirs)
	eventually(t, "it is logged", func() bool { return len(log.calls(t)) == 2 })
	if m := log.calls(t)[1]; m["trace"] != theirs[3:35] {
		t.Errorf("%v", m)
	}
}

// Whoever reads a cause in the log finds it in the document.
func TestCausesAreDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range gateway.Causes() {
		if !strings.Contains(string(doc), "`"+c+"`") {
			t.Errorf("docs/gateway.md does not have the cause %s", c)
		}
	}
}
