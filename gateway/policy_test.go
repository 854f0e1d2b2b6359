package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway"
)

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]gateway.Config{
		"workers[0].url":            {Workers: []gateway.Worker{{URL: "http://a/path?x=1"}}},
		"workers[1].url":            {Workers: []gateway.Worker{{URL: "http://a"}, {URL: "http://user@b"}}},
		"listen[2]":                 {Listen: []string{"a:0", "a:0", ":80", ":80"}[1:]},
		"workers[1]":                {Workers: []gateway.Worker{{URL: "http://a"}, {URL: "http://a"}}},
		"workers[0].weight":         {Workers: []gateway.Worker{{URL: "http://a", Weight: -2}}},
		"workers[0].max_in_flight":  {Workers: []gateway.Worker{{URL: "http://a", MaxInFlight: -1}}},
		"defaults.balancer":         {Defaults: gateway.Policy{Balancer: "fastest"}},
		"defaults.sticky":           {Defaults: gateway.Policy{Balancer: "sticky"}},
		"defaults.retries.attempts": {Defaults: gateway.Policy{Attempts: 6}},
		"defaults.retries.budget":   {Defaults: gateway.Policy{RetryBudget: 2}},
		"defaults.timeouts.call":    {Defaults: gateway.Policy{CallTimeout: -1}},
		"functions.f.balancer":      {Functions: map[string]gateway.Function{"f": {Policy: &gateway.Policy{Balancer: "x"}}}},
		"functions":                 {Functions: map[string]gateway.Function{"a b": {}}},
		"routes[0].prefix":          {Routes: []gateway.Route{{Prefix: "x", Function: "f"}}},
		"routes[0].function":        {Closed: true, Routes: []gateway.Route{{Prefix: "/x", Function: "f"}}},
		"health.panic":              {Health: gateway.Health{Panic: 2}},
		"health.path":               {Health: gateway.Health{Path: "x"}},
		"limits.head_bytes":         {Limits: gateway.Limits{HeadBytes: -1}},
		"access_log":                {AccessLog: 2},
		"listen[0]":                 {Listen: []string{"x"}},
		"drain":                     {Drain: -1},
	} {
		_, err := gateway.New(cfg)
		var fe *rota.FieldError
		if !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
	for _, l := range []string{"unix:/run/x.sock", "a:b", "a:99999", "a", ":", "/x:80", "http://a:80"} {
		if _, err := gateway.New(gateway.Config{Listen: []string{l}}); err == nil || !strings.Contains(err.Error(), "listen[0]") {
			t.Errorf("listen %q: %v", l, err)
		}
	}
	for _, u := range []string{"unix:x", "unix://x", "http://unix:/x", "http://", "a:80"} {
		if _, err := gateway.New(gateway.Config{Workers: []gateway.Worker{{URL: u}}}); err == nil || !strings.Contains(err.Error(), "workers[0].url") {
			t.Errorf("worker %q: %v", u, err)
		}
	}
	fn := func(host, prefix string, methods ...string) gateway.Route {
		return gateway.Route{Host: host, Prefix: prefix, Function: "f", Methods: methods}
	}
	for _, c := range []struct {
		routes []gateway.Route
		field  string // empty: they are all reached
	}{
		{[]gateway.Route{fn("", "/a"), fn("", "/a")}, "routes[1]"},
		{[]gateway.Route{fn("x", "/a"), fn("", "/a"), fn("X", "/a")}, "routes[2]"},
		{[]gateway.Route{fn("", "/a"), fn("", "/a", "GET")}, "routes[1]"},
		{[]gateway.Route{fn("", "/a", "GET", "PUT"), fn("", "/a", "HEAD")}, "routes[1]"},
		{[]gateway.Route{fn("", "/a", "GET"), fn("", "/a", "PUT"), fn("", "/a"), fn("", "/a/b"), fn("x", "/a"), fn("*.x", "/a")}, ""},
		{[]gateway.Route{fn("", "/run/f")}, "routes[0].prefix"},
		{[]gateway.Route{fn("x", "/runLambda/f")}, "routes[0].prefix"},
		{[]gateway.Route{fn("", "/t/")}, "routes[0].prefix"},
		{[]gateway.Route{fn("", "/runs/f"), fn("", "/t"), fn("x", "/run")}, ""},
	} {
		err := gateway.Config{Routes: c.routes}.Validate()
		var fe *rota.FieldError
		if (err == nil) != (c.field == "") || err != nil && (!errors.As(err, &fe) || fe.Field != c.field) {
			t.Errorf("routes %v: %v", c.routes, err)
		}
	}
	for _, n := range []int{1, 255} {
		if err := (gateway.Config{Limits: gateway.Limits{HeadBytes: n}}).Validate(); err == nil || !strings.Contains(err.Error(), "limits.head_bytes") {
			t.Errorf("head_bytes %d: %v", n, err)
		}
	}
	for h, ok := range map[string]bool{
		"*": false, "*.": false, "*.*.x": false, "a*.x": false, "x:80": false, "http://x": false, "a b": false, "x/": false, "[::1]": false, "x.": false, "-x": false, ".x": false,
		"*.x": true, "x": true, "a-b.c_d.9": true, "127.0.0.1": true,
	} {
		g, err := gateway.New(gateway.Config{Routes: []gateway.Route{{Host: h, Prefix: "/", Function: "f"}}})
		if err == nil {
			g.Close()
		}
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "routes[0].host") {
			t.Errorf("host %q: %v", h, err)
		}
	}
}

// Calls that do not end are cut off when the drain's time is over.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	began := make(chan bool)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { began <- true; <-r.Context().Done() })
	cfg := simple(up)
	cfg.Drain, cfg.Logger, cfg.Listen = 50*time.Millisecond, quiet(), []string{"127.0.0.1:0"}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	lns, err := g.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.ServeAll(ctx, lns) }()
	c := dial(t, lns[0].Addr().String())
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	<-began
	stop()
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "the drain time of 50ms") {
		t.Errorf("it ended with %v", err)
	}
}

func TestWorkerLimitQueuesInOrder(t *testing.T) {
	t.Parallel()
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			order, finish := make(chan string, 10), make(chan bool)
			up := backend(t, func(_ http.ResponseWriter, r *http.Request) {
				order <- r.URL.RawQuery
				<-finish
			})
			cfg := simple(up)
			cfg.Workers[0].MaxInFlight = 1
			cfg.Defaults.Queue = 3
			cfg.Defaults.QueueTimeout = patience
			g, addr := serve(t, cfg)
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() { get(t, addr, fmt.Sprintf("/run/f?%d", i)) })
				if i == 0 {
					<-order
				} else {
					eventually(t, "it waits", func() bool { return waiting(g) == int32(i) })
				}
			}
			if status, body := get(t, addr, "/run/f?full"); status != 503 {
				t.Errorf("with a full queue: %d %q", status, body)
			}
			for i := 1; i < 4; i++ {
				finish <- true
				if got := <-order; got != fmt.Sprint(i) {
					t.Errorf("call %s was next, want %d", got, i)
				}
			}
			finish <- true
			wg.Wait()
			eventually(t, "no call in flight", func() bool { return idle(g) })
		})
	}
}

func TestFunctionLimitAndQueueTimeout(t *testing.T) {
	t.Parallel()
	began, finish := make(chan bool), make(chan bool)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "slow") {
			began <- true
			<-finish
		}
	})
	cfg := simple(up)
	cfg.Functions = map[string]gateway.Function{"slow": {Policy: &gateway.Policy{Balancer: "random", MaxInFlight: 1, QueueTimeout: 20 * time.Millisecond}}}
	g, addr := start(t, cfg)
	go get(t, addr, "/run/slow")
	<-began
	c := dial(t, addr)
	c.send("GET /run/slow HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("over the limit: %d", resp.StatusCode)
	}
	if status, _ := get(t, addr, "/run/other"); status != 200 {
		t.Errorf("another function: %d", status)
	}
	finish <- true
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

// Who waits in a queue and leaves, leaves the queue.
func TestWaitingClientLeaves(t *testing.T) {
	t.Parallel()
	began, finish := make(chan bool), make(chan bool)
	up := backend(t, func(http.ResponseWriter, *http.Request) { began <- true; <-finish })
	cfg := simple(up)
	cfg.Workers[0].MaxInFlight = 1
	cfg.Defaults.QueueTimeout = time.Hour
	g, addr := start(t, cfg)
	go get(t, addr, "/run/f")
	<-began
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "it waits", func() bool { return waiting(g) == 1 })
	c.Close()
	eventually(t, "it has left", func() bool { return waiting(g) == 0 })
	finish <- true
	eventually(t, "no call in flight", func() bool { return idle(g) })
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Defaults.Rate, cfg.Defaults.Burst, cfg.Defaults.RateBy = 0.001, 3, "X-Caller"
	_, addr := start(t, cfg)
	for _, caller := range []string{"ann", "bob"} {
		c := dial(t, addr)
		for i := range 5 {
			c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nx-caller: " + caller + "\r\n\r\n")
			resp, _ := c.response("GET")
			want := 200
			if i >= 3 {
				want = 429
			}
			if resp.StatusCode != want || want == 429 && resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s, call %d: %d, want %d", caller, i, resp.StatusCode, want)
			}
		}
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	hangs := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/body") {
			fmt.Fprint(w, "begun")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	for name, serve := range ways {
		for what, p := range map[string]gateway.Policy{
			"header": {Balancer: "random", HeaderTimeout: 150 * time.Millisecond},
			"call":   {Balancer: "random", CallTimeout: 150 * time.Millisecond},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				cfg := simple(hangs)
				cfg.Defaults = p
				g, addr := serve(t, cfg)
				if status, body := get(t, addr, "/run/f"); status != 504 {
					t.Errorf("%d %q", status, body)
				}
				eventually(t, "no call in flight", func() bool { return idle(g) })
			})
		}
	}
	t.Run("a body that stands still", func(t *testing.T) {
		t.Parallel()
		stuck := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
			io.Copy(io.Discard, r)
		})
		cfg := simple(stuck)
		cfg.Defaults.IdleTimeout = 200 * time.Millisecond
		g, addr := start(t, cfg)
		c := dial(t, addr)
		c.send("GET /run/f HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%q looks whole", b)
		}
		eventually(t, "no call in flight", func() bool { return idle(g) })
	})
}

func TestHedging(t *testing.T) {
	t.Parallel()
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var slow atomic.Bool
			cancelled := make(chan bool, 10)
			first := backend(t, func(w http.ResponseWriter, r *http.Request) {
				if slow.Load() {
					<-r.Context().Done()
					cancelled <- true
				}
				fmt.Fprint(w, "first")
			})
			cfg := simple(first, named(t, "second"))
			cfg.Defaults.Hedge = true
			g, addr := serve(t, cfg)
			for range 200 { // its 95th percentile becomes known
				get(t, addr, "/run/f")
			}
			slow.Store(true)
			for range 4 {
				if status, body := get(t, addr, "/run/f"); status != 200 || body != "second" {
					t.Errorf("%d %q, want the second worker's answer", status, body)
				}
			}
			<-cancelled
			eventually(t, "no call in flight", func() bool { return idle(g) })
		})
	}
}

func TestRetryBudget(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	breaks := func() string {
		return script(t, func(_ int, _ net.Conn, r *bufio.Reader) {
			if _, err := readHead(r); err == nil {
				calls.Add(1)
			}
		})
	}
	cfg := simple(breaks(), breaks(), breaks())
	cfg.Health = gateway.Health{Failures: 1 << 30}
	_, addr := start(t, cfg)
	const n = 300
	for range n {
		get(t, addr, "/run/f")
	}
	// Ten repetitions are there at the beginning, one is earned by five calls.
	if c := calls.Load(); c > n+10+n/5+1 || c < n+n/10 {
		t.Errorf("%d calls became %d", n, c)
	}
}

func TestStickySessions(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "a"), named(t, "b"), named(t, "c"))
	cfg.Defaults = gateway.Policy{Balancer: "sticky", StickyHeader: "X-User", StickyCookie: "sid", StickyQuery: "session"}
	_, addr := start(t, cfg)
	c := dial(t, addr)
	for i := range 10 {
		var first string
		for _, head := range []string{
			fmt.Sprintf("GET /run/f HTTP/1.1\r\nHost: a\r\nx-user: u%d\r\n\r\n", i),
			fmt.Sprintf("GET /run/f HTTP/1.1\r\nHost: a\r\nCookie: x=1; sid=u%d\r\n\r\n", i),
			fmt.Sprintf("GET /run/f?a=b&session=u%d HTTP/1.1\r\nHost: a\r\n\r\n", i),
		} {
			c.send(head)
			_, body := c.response("GET")
			if first == "" {
				first = body
			}
			if body != first {
				t.Errorf("session u%d went to %s and %s", i, first, body)
			}
		}
	}
}

func TestCallsByTaskGoToItsOwner(t *testing.T) {
	t.Parallel()
	show := func(name string) string {
		return backend(t, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s %s", name, r.URL, r.Header.Get("Rota-Generation"))
		})
	}
	var ms gateway.MemoryMembers
	ms.Set(gateway.Member{Name: "w1", URL: show("w1")}, gateway.Member{Name: "w2", URL: show("w2")})
	ms.SetOwner("feed-1", gateway.Owner{Worker: "w1", Generation: 7})
	cfg := simple()
	cfg.Members = &ms
	cfg.Defaults.QueueTimeout = 20 * time.Millisecond
	for name, serve := range ways {
		t.Run(name, func(t *testing.T) {
			_, addr := serve(t, cfg)
			ms.SetOwner("feed-1", gateway.Owner{Worker: "w1", Generation: 7})
			for path, want := range map[string]string{"/t/feed-1": "w1 / 7", "/t/feed-1/a/b?c=d": "w1 /a/b?c=d 7", "/t/feed-1?x": "w1 /?x 7"} {
				if status, body := get(t, addr, path); status != 200 || body != want {
					t.Errorf("%s: %d %q, want %q", path, status, body, want)
				}
			}
			ask := func(gen string) int {
				client, base := reach(addr)
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/t/feed-1", nil)
				req.Header.Set("Rota-Generation", gen)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}
			if ask("7") != 200 || ask("8") != 412 {
				t.Errorf("generation 7: %d, 8: %d, want 200 and 412", ask("7"), ask("8"))
			}
			ms.SetOwner("feed-1", gateway.Owner{Worker: "w2", Generation: 8})
			if _, body := get(t, addr, "/t/feed-1"); body != "w2 / 8" {
				t.Errorf("after the move: %q", body)
			}
			if status, _ := get(t, addr, "/t/nobody"); status != 503 {
				t.Errorf("a task without an owner: %d", status)
			}
		})
	}
}

func TestFunctionsOfferedBySomeWorkers(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "a"), named(t, "b"))
	cfg.Workers[1].Functions = []string{"special"}
	g, addr := start(t, cfg)
	seen := map[string]bool{}
	for range 6 {
		if _, body := get(t, addr, "/run/plain"); body != "a" {
			t.Errorf("plain was answered by %q", body)
		}
		_, body := get(t, addr, "/run/special")
		seen[body] = true
	}
	if len(seen) != 2 {
		t.Errorf("special was answered by %v only", seen)
	}
	r, ok := g.Route("plain")
	if !ok || len(r.Workers) != 2 || !r.Workers[0].May || r.Workers[1].May || r.Workers[1].Why == "" {
		t.Errorf("route: %+v", r)
	}
}

func TestRoutesByHostAndPath(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL) })
	cfg := simple(up)
	cfg.Routes = []gateway.Route{
		{Prefix: "/api", Function: "api", Strip: true}, {Prefix: "/api/deep", Function: "deep"}, {Host: "only.example", Prefix: "/", Function: "host"},
	}
	g, addr := start(t, cfg)
	for _, tc := range []struct{ host, path, fn, want string }{
		{"x", "/api/a?b", "api", "/a?b"},
		{"x", "/api", "api", "/"},
		{"x", "/api/deep/c", "deep", "/api/deep/c"},
		{"only.example:80", "/api/a", "host", "/api/a"},
		{"x", "/apis", "", ""},
	} {
		c := dial(t, addr)
		c.send("GET " + tc.path + " HTTP/1.1\r\nHost: " + tc.host + "\r\n\r\n")
		resp, body := c.response("GET")
		if tc.fn == "" {
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s%s: %d", tc.host, tc.path, resp.StatusCode)
			}
			continue
		}
		if body != tc.want {
			t.Errorf("%s%s: %q, want %q", tc.host, tc.path, body, tc.want)
		}
		eventually(t, tc.fn+" is counted", func() bool {
			r, _ := g.Route(tc.fn)
			return r.Calls > 0
		})
	}
}

func TestClosedGateway(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "w"))
	cfg.Closed, cfg.Functions = true, map[string]gateway.Function{"known": {}}
	_, addr := start(t, cfg)
	if status, _ := get(t, addr, "/run/known"); status != 200 {
		t.Errorf("known: %d", status)
	}
	if status, body := get(t, addr, "/runLambda/unknown"); status != 400 || !strings.Contains(body, "unknown") {
		t.Errorf("unknown: %d %q", status, body)
	}
}

func TestReloadWithAnErrorKeepsTheOld(t *testing.T) {
	t.Parallel()
	g, addr := start(t, simple(named(t, "old")))
	bad := simple("http://a/path?x=1")
	if err := g.Reload(bad); err == nil {
		t.Fatal("accepted")
	}
	if _, body := get(t, addr, "/run/f"); body != "old" {
		t.Errorf("after a refused reload: %q", body)
	}
	if s := g.Status(); s.ReloadError == "" {
		t.Error("status does not show the error")
	}
	if _, body := get(t, addr, "/status"); !strings.Contains(body, "configuration refused") {
		t.Errorf("/status: %s", body)
	}
	good := simple(named(t, "new"))
	good.Logger = quiet()
	if err := g.Reload(good); err != nil {
		t.Fatal(err)
	}
	if _, body := get(t, addr, "/run/f"); body != "new" || g.Status().ReloadError != "" {
		t.Errorf("after the reload: %q, %q", body, g.Status().ReloadError)
	}
}

func TestMetricsLogAndTrace(t *testing.T) {
	t.Parallel()
	traces := make(chan string, 1)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { traces <- r.Header.Get("Traceparent") })
	cfg := simple(up)
	var log logBuffer
	cfg.Logger = log.logger()
	cfg.AccessLog, cfg.Trace = 1, true
	_, addr := start(t, cfg)
	get(t, addr, "/run/hello?x")
	var version, trace, span, flags string
	if n, _ := fmt.Sscanf(strings.ReplaceAll(<-traces, "-", " "), "%s %s %s %s", &version, &trace, &span, &flags); n != 4 || len(trace) != 32 || len(span) != 16 {
		t.Errorf("trace %q %q %q %q", version, trace, span, flags)
	}
	eventually(t, "the call is logged", func() bool {
		return strings.Contains(log.String(), "function=hello") && strings.Contains(log.String(), "status=200")
	})
	// The log's line is the last that happens to a call.
	_, body := get(t, addr, "/metrics")
	for _, want := range []string{
		`rota_gateway_calls_total{class="2xx",function="hello"} 1`, `rota_gateway_call_seconds_count{function="hello"} 1`,
		`rota_gateway_worker_calls_total{worker="` + up + `"} 1`, `rota_gateway_worker_ready{worker="` + up + `"} 1`, `rota_build_info{go_version="go1.`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestOutliersAreLeftOut(t *testing.T) {
	t.Parallel()
	bad := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	cfg := simple(bad, named(t, "a"), named(t, "b"), named(t, "c"))
	cfg.Health = gateway.Health{Outliers: true, Quarantine: time.Hour, MaxQuarantine: time.Hour}
	g, addr := start(t, cfg)
	for range 400 {
		get(t, addr, "/run/f")
	}
	g.JudgeOutliers()
	for i, w := range g.Status().Workers {
		if want := map[bool]string{true: "quarantined", false: "ready"}[i == 0]; w.State != want {
			t.Errorf("worker %d is %s, want %s", i, w.State, want)
		}
	}
}
