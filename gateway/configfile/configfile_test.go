package configfile_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/gateway/configfile"
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
defaults:
  balancer: smart
  queue: {length: 0, timeout: 2s}
  retries: {attempts: 3, budget: 0}
  timeouts: {connect: 250ms, header: 10s, call: 1m, idle: 30s}
routes:
  - {host: img.example, prefix: /, function: resize, strip: true}
health: {interval: 2s, path: /ready, failures: 5, panic: 0.3, outliers: true, slow_start: 10s}
limits: {head_bytes: 32768, head_timeout: 5s, connections: 20000}
access_log: 0.01
trace: true
`

func TestEveryKey(t *testing.T) {
	t.Parallel()
	c, err := configfile.Parse([]byte(full), ".")
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
	g, err := gateway.New(c)
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
}

// Zero is no limit where the page says so.
func TestNoIdleTimeout(t *testing.T) {
	t.Parallel()
	c, err := configfile.Parse([]byte("functions: {events: {timeouts: {idle: 0s}}, other: {}}"), ".")
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
		_, err := configfile.Parse([]byte(text), ".")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line about %q", text, err, want)
		}
	}
	if c, err := configfile.Parse(nil, "."); err != nil || len(c.Workers) != 0 {
		t.Errorf("an empty file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("workers: [http://a]"))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		_, _ = configfile.Parse(raw, "/nowhere")
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
	cfg, err := configfile.Load(path)
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
	t.Cleanup(configfile.Watch(t.Context(), path, g, log).Stop)
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
