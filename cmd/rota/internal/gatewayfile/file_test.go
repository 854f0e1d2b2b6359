package gatewayfile_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/gatewayfile"
	"github.com/rota-project/rota/compat/olscheduler"
	"github.com/rota-project/rota/gateway"
)

const full = `
listen: [127.0.0.1:9080, ":9081"]
admin: {token: secret}
trusted_proxies: [10.0.0.0/8, 127.0.0.1]
workers:
  - http://a:5000
  - {url: "http://b:5000", name: b, weight: 3, max_in_flight: 8, functions: [resize]}
  - {url: "http://c:5000", weight: 0}
closed: true
functions:
  resize: {packages: [pillow, numpy], balancer: pkg-aware, load_threshold: 3, max_in_flight: 16}
  hello:
    rate: {per_second: 10, burst: 20, by: X-Api-Key}
  plain: {}
  free: {max_body_bytes: 0}
  canary: {split: {to: plain, share: 0.1, sticky: {header: X-User}}}
defaults:
  max_body_bytes: 1000
  headers: {response: {set: {Strict-Transport-Security: max-age=1}}}
  balancer: smart
  queue: {length: 0, timeout: 2s}
  retries: {attempts: 3, budget: 0}
  timeouts: {connect: 250ms, header: 10s, call: 1m, idle: 30s}
routes:
  - {host: img.example, prefix: /, function: resize, strip: true, methods: [GET, PUT], max_body_bytes: 10, headers: {request: {set: {X-A: b}, remove: [X-C]}, response: {remove: [Server]}}}
health: {interval: 2s, path: /ready, failures: 5, panic: 0.3, outliers: true, slow_start: 10s}
limits: {head_bytes: 32768, head_timeout: 5s, connections: 20000, connection_age: 1h, connection_calls: 5, worker_connection_age: 10m, worker_connection_calls: 7}
proxy_protocol: [10.1.0.0/16, "::1"]
worker_refusals: [{status: 503, begins: busy, failing: true, may_have_run: true}]
access_log: 0.01
trace: true
`

func TestEveryKey(t *testing.T) {
	t.Parallel()
	c, err := gatewayfile.Parse([]byte(full), ".")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listen) != 2 || c.AdminToken != "secret" || len(c.TrustedProxies) != 2 || len(c.Workers) != 3 || !c.Closed || !c.Trace || c.AccessLog != 0.01 {
		t.Errorf("read %+v", c)
	}
	if w := c.Workers[1]; w.Weight != 3 || w.MaxInFlight != 8 || w.Functions[0] != "resize" || c.Workers[2].Weight != gateway.NoWeight {
		t.Errorf("workers %+v", c.Workers)
	}
	p := c.Functions["resize"].Policy
	if p == nil || p.Balancer != "pkg-aware" || p.LoadThreshold != 3 || p.MaxInFlight != 16 || p.Attempts != 3 || p.Queue != -1 || p.RetryBudget != -1 || p.CallTimeout != time.Minute {
		t.Errorf("resize: %+v", p)
	}
	if h := c.Functions["hello"].Policy; h == nil || h.Rate != 10 || h.RateBy != "X-Api-Key" || h.Balancer != "smart" {
		t.Errorf("hello: %+v", h)
	}
	if c.Functions["plain"].Policy != nil || c.Health.Interval != 2*time.Second || c.Routes[0].Host != "img.example" {
		t.Errorf("plain %+v, health %+v, routes %+v", c.Functions["plain"], c.Health, c.Routes)
	}
	if r := c.Routes[0]; len(r.Methods) != 2 || r.Rules.MaxBody != 10 || r.Rules.Request.Set["X-A"] != "b" || r.Rules.Request.Remove[0] != "X-C" || r.Rules.Response.Remove[0] != "Server" {
		t.Errorf("route %+v", r)
	}
	if free := c.Functions["free"].Policy.Rules; c.Defaults.Rules.MaxBody != 1000 || p.Rules.MaxBody != 1000 || free.MaxBody != gateway.NoLimit || free.Response.Set["Strict-Transport-Security"] == "" {
		t.Errorf("free %+v", free)
	}
	if l := c.Limits; l.ConnectionAge != time.Hour || l.ConnectionCalls != 5 || l.WorkerConnectionAge != 10*time.Minute || l.WorkerConnectionCalls != 7 || len(c.ProxyProtocol) != 2 {
		t.Errorf("limits %+v, %v", l, c.ProxyProtocol)
	}
	if r := c.WorkerRefusals; len(r) != 1 || r[0] != (gateway.WorkerRefusal{Status: 503, Begins: "busy", Failing: true, MayHaveRun: true}) {
		t.Errorf("refusals of workers %+v", r)
	}
	if s := c.Functions["canary"].Split; *s != (gateway.Split{To: "plain", Share: 0.1, StickyHeader: "X-User"}) || c.Functions["canary"].Policy != nil {
		t.Errorf("canary %+v", s)
	}
	g, err := gateway.New(c)
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
}

// A file that says nothing of refusals has those of OpenLambda's workers, an empty list
// has none.
func TestWorkerRefusalsByDefault(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]gateway.WorkerRefusal{
		"":                    olscheduler.WorkerRefusals(),
		"worker_refusals:":    olscheduler.WorkerRefusals(),
		"worker_refusals: []": nil,
		"worker_refusals: [ {status: 503, begins: a}, {status: 429, begins: b} ]": {{Status: 503, Begins: "a"}, {Status: 429, Begins: "b"}},
	} {
		if c, err := gatewayfile.Parse([]byte(text), "."); err != nil || !slices.Equal(c.WorkerRefusals, want) {
			t.Errorf("%q: %+v, %v", text, c.WorkerRefusals, err)
		}
	}
}

// What the gateway refuses is named by its place in the file.
func TestRulesThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"worker_refusals: [{begins: a}]":                                                "worker_refusals[0].status",
		"worker_refusals: [{status: 399, begins: a}]":                                   "worker_refusals[0].status",
		"worker_refusals: [{status: 429, begins: a}, {status: 600, begins: a}]":         "worker_refusals[1].status",
		"worker_refusals: [{status: 429}]":                                              "worker_refusals[0].begins",
		"worker_refusals: [{status: 429, begins: " + strings.Repeat("a", 65) + "}]":     "worker_refusals[0].begins",
		"worker_refusals: openlambda":                                                   "worker_refusals",
		"worker_refusals: [{status: 429, begins: a, ends: b}]":                          "worker_refusals[0].ends: unknown key",
		"defaults: {max_body_bytes: -1}":                                                "defaults.max_body_bytes",
		"functions: {f: {max_body_bytes: -5}}":                                          "functions.f.max_body_bytes",
		"functions: {f: {max_body_bytes: 1MB}}":                                         "functions.f.max_body_bytes",
		"routes: [{prefix: /, function: f, max_body_bytes: -1}]":                        "routes[0].max_body_bytes",
		"routes: [{prefix: /, function: f, methods: [get]}]":                            "routes[0].methods[0]",
		"routes: [{prefix: /, function: f, methods: [GET, TRACE]}]":                     "routes[0].methods[1]",
		"routes: [{prefix: /, function: f, methods: GET}]":                              "routes[0].methods",
		"routes: [{prefix: /, function: f, headers: {request: {remove: [Host]}}}]":      "routes[0].headers.request",
		"defaults: {headers: {response: {set: {Content-Length: \"1\"}}}}":               "defaults.headers.response",
		"functions: {f: {headers: {request: {set: {X-A: \"b\\r\\nc: d\"}}}}}":           "functions.f.headers.request",
		"functions: {f: {headers: {request: {add: {a: b}}}}}":                           "functions.f.headers.request.add: unknown key",
		"functions: {f: {split: {to: f, share: 0.1}}}":                                  "functions.f.split.to",
		"functions: {f: {split: {to: \"a b\", share: 0.1}}}":                            "functions.f.split.to",
		"functions: {f: {split: {share: 0.1}}}":                                         "functions.f.split.to",
		"functions: {f: {split: {to: g, share: 1.1}}}":                                  "functions.f.split.share",
		"functions: {f: {split: {to: g, share: .nan}}}":                                 "functions.f.split.share",
		"functions: {f: {split: {to: g, share: 1, sticky: {client: true, header: a}}}}": "functions.f.split.sticky",
		"functions: {f: {split: {to: g, share: 1, sticky: {header: a b}}}}":             "functions.f.split.sticky.header",
		"functions: {f: {split: {to: g, share: 1}}, g: {split: {to: h, share: 1}}}":     "functions.f.split.to",
		"closed: true\nfunctions: {f: {split: {to: g, share: 1}}}":                      "functions.f.split.to",
		"proxy_protocol: [10.0.0.0/8, here]":                                            "proxy_protocol[1]",
		"limits: {connection_age: -1s}":                                                 "limits.connection_age",
		"limits: {connection_calls: -1}":                                                "limits.connection_calls",
		"limits: {worker_connection_age: -1s}":                                          "limits.worker_connection_age",
		"limits: {worker_connection_calls: -1}":                                         "limits.worker_connection_calls",
		"defaults: {split: {to: g, share: 1}}":                                          "defaults.split: unknown key",
	} {
		c, err := gatewayfile.Parse([]byte(text), ".")
		if err == nil {
			var g *gateway.Gateway
			if g, err = gateway.New(c); err == nil {
				g.Close()
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", text, err, want)
		}
	}
}

// Zero is no limit where the page says so.
func TestNoIdleTimeout(t *testing.T) {
	t.Parallel()
	c, err := gatewayfile.Parse([]byte("functions: {events: {timeouts: {idle: 0s}}, other: {}}"), ".")
	if err != nil || c.Functions["events"].Policy.IdleTimeout != gateway.Never || c.Defaults.IdleTimeout != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"defaults: {balancr: smart}":                   "balancr",
		"workers: [{uri: http://a}]":                   "uri",
		"workers: [{url: http://a, weight: -1}]":       "workers[0].weight",
		"workers: [{url: http://a, weight: heavy}]":    "heavy",
		"functions: {f: {packges: [a]}}":               "packges",
		"defaults: {timeouts: {call: soon}}":           "soon",
		"trusted_proxies: [here]":                      "trusted_proxies[0]",
		"listen: 5":                                    "listen",
		"tls: {cert: /nowhere.crt, key: /nowhere.key}": "tls",
		"admin: {token_file: /nowhere}":                "admin.token_file",
		"workers: [":                                   "line",
		"a: 1\n---\nb: 2":                              "",
		// whose words name the key, and know nothing of Go's types
		"nope: 1": "line 1: nope: unknown key",
		"functions: {f: {hedge: true}, g: {hedgehog: 3}}":   "line 1: functions.g.hedgehog: unknown key",
		"health:\n  interval: abc":                          "line 2: health.interval: `abc`: want a duration such as \"5s\"",
		"workers: [http://a, {url: http://b, weight: big}]": "line 1: workers[1].weight: `big`: want a whole number",
		"workers: 7":    "line 1: workers: `7`: want a list",
		"closed: maybe": "line 1: closed: `maybe`: want true or false",
		"- a":           "line 1: want keys and values",
		"routes: [x]":   "line 1: routes[0]: `x`: want keys and values",
	} {
		_, err := gatewayfile.Parse([]byte(text), ".")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line about %q", text, err, want)
		}
	}
	if c, err := gatewayfile.Parse(nil, "."); err != nil || len(c.Workers) != 0 {
		t.Errorf("an empty file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("workers: [http://a]"))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_, _ = gatewayfile.Parse(raw, "/nowhere")
	})
}

func TestWatch(t *testing.T) {
	t.Parallel()
	serve := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	one, two := serve("one"), serve("two")
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	put := func(text string) {
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	put("workers: [" + one + "]")
	cfg, err := gatewayfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	cfg.Logger = log
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	t.Cleanup(gatewayfile.Watch(t.Context(), path, g, log).Stop)
	ask := func() string {
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/run/f", http.NoBody))
		return w.Body.String()
	}
	until := func(what string, cond func() bool) { t.Helper(); until(t, what, cond) }
	if ask() != "one" {
		t.Fatal("the first configuration is not in force")
	}
	put("wokers: []")
	until("the error never showed", func() bool { return strings.Contains(g.Status().ReloadError, "wokers") })
	if ask() != "one" {
		t.Error("a wrong file changed something")
	}
	put("workers: [" + two + "]")
	until("the new file was never read", func() bool { return ask() == "two" })
	if g.Status().ReloadError != "" {
		t.Error("the old error still shows")
	}
}

// A file that is away holds up nothing: the configuration may not name it any more, and
// if it does, the error shows until the file is back.
func TestFilesThatAreGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, token := filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "token")
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(path string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	put(token, strings.Repeat("t", 32))
	put(path, "{hosts: [one.example], admin: {token_file: token}}")
	cfg, err := gatewayfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	cfg.Logger = log
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	t.Cleanup(gatewayfile.Watch(t.Context(), path, g, log).Stop)
	failed := func(with string) func() bool {
		return func() bool { return strings.Contains(g.Status().ReloadError, with) }
	}
	inForce := func() bool { return g.Status().ReloadError == "" }

	remove(token)
	until(t, "no error of a file that has gone", failed("token"))
	put(token, strings.Repeat("u", 32))
	until(t, "the error stays although the file is back", inForce)

	remove(token)
	put(path, "{hosts: [two.example]}")
	two := func() bool {
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://two.example/nothing", http.NoBody))
		return w.Code == http.StatusNotFound
	}
	until(t, "a configuration is not read because of a file that it does not name", two)

	remove(path)
	until(t, "no error of a configuration that has gone", failed("gateway.yaml"))
	put(path, "{hosts: [two.example]}")
	until(t, "the error stays although the configuration is back", inForce)
}
