package olscheduler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/compat/olscheduler"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/test/ports"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	for text, key := range map[string]string{
		`{"port": 9020, "Port": 9021}`:          "Port",
		`{"port": "9020"}`:                      "port",
		`{"port": 0}`:                           "port",
		`{"port": 65536}`:                       "port",
		`{"port": 90.5}`:                        "port",
		`{"host": 1}`:                           "host",
		`{"host": ""}`:                          "host",
		`{"balancer": "fastest"}`:               "balancer",
		`{"balancer": ["random"]}`:              "balancer",
		`{"load-threshold": -1}`:                "load-threshold",
		`{"load-threshold": "3"}`:               "load-threshold",
		`{"workers": "http://a"}`:               "workers",
		`{"workers": [1]}`:                      "workers",
		`{"workers": ["http://a:x"]}`:           "workers",
		`{"workers": ["http://a", "%zz://"]}`:   "workers",
		`{"workers": ["http://u@a"]}`:           "workers",
		`{"workers": ["http://a/path?x=1"]}`:    "workers",
		`{"workers": ["ftp://a"]}`:              "workers",
		`{"workers": ["a:1", "-1"]}`:            "workers",
		`{"workers": ["a:1", "1.5"]}`:           "workers",
		`{"workers": ["a:1", "x"]}`:             "workers",
		`{"workers": ["a:1", "1", "b:1"]}`:      "workers",
		`{"workers": ["http://a", "http://a"]}`: "workers",
		`{"registry": "/nowhere/at/all.json"}`:  "registry",
		`{"registry": 5}`:                       "registry",
		`{`:                                     "",
		`[]`:                                    "",
		`null`:                                  "",
		``:                                      "",
		`{} {}`:                                 "",
	} {
		path := write(t, "ol.json", text)
		_, err := olscheduler.Load(path)
		var fe *olscheduler.FileError
		if !errors.As(err, &fe) || fe.Key != key || fe.ExitStatus() != 2 {
			t.Errorf("%s: got %v, want key %q", text, err, key)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, path) || strings.Contains(msg, "\n") || !strings.Contains(msg, key) {
			t.Errorf("%s: %q does not name file and key in one line", text, msg)
		}
	}
	if _, err := olscheduler.Load("/nowhere/ol.json"); err == nil || !strings.Contains(err.Error(), "/nowhere/ol.json") {
		t.Errorf("a missing file: %v", err)
	}
	for _, reg := range []string{`{}`, `[{"pkgs": []}]`, `[{"handle": ""}]`, `[{"handle": "a/b"}]`, `[{"handle": "a", "pkgs": "x"}]`, `[{"handle":"a"},{"handle":"a"}]`, `[`} {
		rp := write(t, "reg.json", reg)
		_, err := olscheduler.Load(write(t, "ol.json", fmt.Sprintf(`{"registry": %q}`, rp)))
		if err == nil || !strings.Contains(err.Error(), rp) {
			t.Errorf("registry %s: %v", reg, err)
		}
	}
}

func TestBothSpellingsOfWorkers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		list    []string
		urls    []string
		weights []int
	}{
		{[]string{"http://localhost:9021", "http://localhost:9022"}, []string{"http://localhost:9021", "http://localhost:9022"}, []int{0, 0}},
		{[]string{"http://a:1", "http://b:2", "http://c:3"}, []string{"http://a:1", "http://b:2", "http://c:3"}, []int{0, 0, 0}},
		{[]string{"localhost:8080", "1", "localhost:8081", "3"}, []string{"http://localhost:8080", "http://localhost:8081"}, []int{1, 3}},
		{[]string{"localhost:8080", "0"}, []string{"http://localhost:8080"}, []int{gateway.NoWeight}},
		{[]string{"http://a:1", "2"}, []string{"http://a:1"}, []int{2}},
		{nil, nil, nil},
	} {
		ws, err := olscheduler.Workers(tc.list)
		if err != nil || len(ws) != len(tc.urls) {
			t.Errorf("%v: %v, %v", tc.list, ws, err)
			continue
		}
		for i, w := range ws {
			if w.URL != tc.urls[i] || w.Weight != tc.weights[i] {
				t.Errorf("%v: worker %d is %+v", tc.list, i, w)
			}
		}
	}
}

// worker answers as the workers of olscheduler's own tests do.
func worker(t *testing.T, gate <-chan bool) (u url.URL, text string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gate != nil && strings.HasPrefix(r.URL.Path, "/run") {
			<-gate
		}
		fmt.Fprintf(w, "%s by http://%s", r.URL.Path, r.Context().Value(http.LocalAddrContextKey))
	}))
	t.Cleanup(s.Close)
	p, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return *p, s.URL
}

func TestStartAsInGo(t *testing.T) {
	t.Parallel()
	a, _ := worker(t, nil)
	b, _ := worker(t, nil)
	cfg := olscheduler.DefaultConfig()
	cfg.Port = ports.Free(t)
	cfg.Registry["foo"] = []string{"pkg0", "pkg1"}
	cfg.Registry["bar"] = []string{"pkg0", "pkg2"}
	cfg.Balancer = olscheduler.NewPackageAware([]url.URL{a, b}, 3)
	cfg.Logger = slog.New(slog.DiscardHandler)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- olscheduler.Start(ctx, cfg) }()
	base := fmt.Sprintf("http://localhost:%d", cfg.Port)
	post := func(path string) (int, string) {
		for {
			resp, err := http.Post(base+path, "application/json", strings.NewReader(`{"param0":"value0"}`))
			if err != nil {
				select {
				case err := <-done:
					t.Fatalf("it ended: %v", err)
				case <-time.After(5 * time.Millisecond): // not listening yet
					continue
				}
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			return resp.StatusCode, string(b)
		}
	}
	_, first := post("/runLambda/foo")
	if !strings.HasPrefix(first, "/runLambda/foo by ") {
		t.Fatalf("answered %q", first)
	}
	for range 3 { // the largest package decides: foo and bar share it
		if _, got := post("/runLambda/bar"); strings.TrimPrefix(got, "/runLambda/bar") != strings.TrimPrefix(first, "/runLambda/foo") {
			t.Errorf("bar: %q, foo: %q", got, first)
		}
	}
	for path, want := range map[string]int{"/runLambda/": 400, "/runLambda/baz": 400, "/run/foo/rest?q": 200, "/status": 405} {
		if status, body := post(path); status != want {
			t.Errorf("%s: %d %q, want %d", path, status, body, want)
		}
	}
	if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", cfg.Port)); err != nil {
		t.Error(err)
	}
	other := cfg
	if err := olscheduler.Start(t.Context(), other); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a port in use: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("stopped: %v", err)
	}
}

func TestTheFiveBalancers(t *testing.T) {
	t.Parallel()
	urls := []url.URL{}
	for range 4 {
		u, _ := worker(t, nil)
		urls = append(urls, u)
	}
	for name, b := range map[string]*olscheduler.Balancer{
		"round-robin": olscheduler.NewRoundRobin(urls), "random": olscheduler.NewRandom(urls, 1, 0, 0, 0),
		"least-loaded": olscheduler.NewLeastLoaded(urls), "hashing-bounded": olscheduler.NewHashingBounded(urls),
		"pkg-aware": olscheduler.NewPackageAware(urls, 3),
	} {
		h, g, err := olscheduler.Handler(olscheduler.Config{Balancer: b, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for range 8 {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/runLambda/f", nil))
			seen[w.Body.String()]++
		}
		want := map[string]int{"round-robin": 4, "random": 1, "least-loaded": 4, "hashing-bounded": 1, "pkg-aware": 1}[name]
		if len(seen) != want {
			t.Errorf("%s: 8 calls one after another went to %v, want %d workers", name, seen, want)
		}
		g.Close()
	}
}

// TestUnknownKeys: files in use carry keys of the programs that made them; they
// are passed over, and named. Known keys count in any case, as they did.
func TestUnknownKeys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`{"port": 9020}`: nil,
		`{"name": "suite", "workerDelay": 100, "port": 9020}`:          {"name", "workerDelay"},
		`{"PORT": 9020, "Workers": ["http://a"], "Load-Threshold": 3}`: nil,
		`{"port": 9020, "x": {"port": 1}, "y": null}`:                  {"x", "y"},
	} {
		path := write(t, "ol.json", text)
		c, err := olscheduler.Load(path)
		if err != nil || c.Port != 9020 || !slices.Equal(c.Unknown, want) {
			t.Errorf("%s: port %d, unknown %q, %v", text, c.Port, c.Unknown, err)
			continue
		}
		var fe *olscheduler.FileError
		if err := c.Strict(path); len(want) > 0 && (!errors.As(err, &fe) || fe.Key != want[0] || fe.ExitStatus() != 2) || len(want) == 0 && err != nil {
			t.Errorf("%s, strictly: %v", text, err)
		}
	}
}

// mostLoaded is a rule that no gateway has. It counts what it is told.
type mostLoaded struct{ picked, done atomic.Int64 }

func (m *mostLoaded) Pick(fn *gateway.Fn, candidates []gateway.Candidate) int {
	m.picked.Add(1)
	if fn.Name() != "f" || fn.Packages()[0] != "numpy" {
		return -1
	}
	best := 0
	for i, c := range candidates {
		if c.InFlight > candidates[best].InFlight {
			best = i
		}
	}
	return best
}

func (m *mostLoaded) Done(*gateway.Fn, string) { m.done.Add(1) }

// TestCustomBalancer: a rule of the user's own picks, and is told of each end.
func TestCustomBalancer(t *testing.T) {
	t.Parallel()
	release := make(chan bool)
	var urls []url.URL
	for range 3 {
		u, _ := worker(t, release)
		urls = append(urls, u)
	}
	rule := &mostLoaded{}
	h, g, err := olscheduler.Handler(olscheduler.Config{
		Balancer: olscheduler.NewCustom(urls, rule), Registry: map[string][]string{"f": {"numpy"}}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for range 8 {
		wg.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/runLambda/f", nil))
			mu.Lock()
			defer mu.Unlock()
			seen[w.Body.String()]++
		})
	}
	for rule.picked.Load() < 8 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if len(seen) != 1 || rule.done.Load() != rule.picked.Load() {
		t.Errorf("calls went to %v; picked %d, done %d", seen, rule.picked.Load(), rule.done.Load())
	}
}

// TestBasePath: a worker URL's path is put before that of each call, in either
// spelling, whatever its slashes.
func TestBasePath(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) }))
	t.Cleanup(up.Close)
	for base, want := range map[string]string{
		"": "", "/": "", "/lambda": "/lambda", "/lambda/": "/lambda", "/a/b//": "/a/b", "/a%2Fb/c": "/a%2Fb/c",
	} {
		c, err := olscheduler.Load(write(t, "ol.json", fmt.Sprintf(`{"workers": [%q]}`, up.URL+base)))
		if err != nil {
			t.Fatal(err)
		}
		c.Logger = slog.New(slog.DiscardHandler)
		h, g, err := olscheduler.Handler(c)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/run/f/x?y=1", nil))
		if got := w.Body.String(); got != want+"/run/f/x?y=1" {
			t.Errorf("%q: the worker was asked for %s", base, got)
		}
		status := httptest.NewRecorder()
		g.AdminHandler().ServeHTTP(status, httptest.NewRequest(http.MethodGet, "http://localhost/status", http.NoBody))
		if !strings.Contains(status.Body.String(), want+"/status") {
			t.Errorf("%q: status says %s", base, status.Body.String())
		}
		g.Close()
	}
}

// What a current OpenLambda worker answers when it has not run a call has the call tried
// on another worker; what else has the same status is the function's.
func TestWorkerRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status  int
		body    string
		method  string
		retried bool
	}{
		{http.StatusTooManyRequests, "lambda function queue is full\n", http.MethodPost, true},
		{http.StatusTooManyRequests, "lambda instance queue is full", http.MethodPost, true},
		{http.StatusTooManyRequests, "lambda instance queue is full", http.MethodGet, true},
		{http.StatusTooManyRequests, "slow down, says the function", http.MethodPost, false},
		{http.StatusInternalServerError, "could not create Sandbox: out of memory", http.MethodPost, true},
		{http.StatusInternalServerError, "the function's own error", http.MethodGet, false},
		{http.StatusBadGateway, "RoundTrip failed: EOF", http.MethodGet, true},
		{http.StatusBadGateway, "RoundTrip failed: EOF", http.MethodPost, false},
		{http.StatusBadGateway, "the function's own 502", http.MethodGet, false},
		{http.StatusServiceUnavailable, "lambda function queue is full", http.MethodGet, false},
	} {
		t.Run(fmt.Sprintf("%d %.12s %s", tc.status, tc.body, tc.method), func(t *testing.T) {
			t.Parallel()
			var urls []url.URL
			for _, h := range []http.HandlerFunc{
				func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(tc.status)
					_, _ = io.WriteString(w, tc.body)
				},
				func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") },
			} {
				s := httptest.NewServer(h)
				t.Cleanup(s.Close)
				u, err := url.Parse(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				urls = append(urls, *u)
			}
			cfg := olscheduler.DefaultConfig()
			cfg.Balancer, cfg.Logger = olscheduler.NewRoundRobin(urls), slog.New(slog.DiscardHandler)
			g, err := olscheduler.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.Close)
			gw := httptest.NewServer(g.Handler())
			t.Cleanup(gw.Close)
			refused := 0
			for range 2 { // each worker is first once
				req, err := http.NewRequestWithContext(t.Context(), tc.method, gw.URL+"/runLambda/f", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := gw.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				switch {
				case resp.StatusCode == tc.status && string(body) == tc.body:
					refused++
				case resp.StatusCode != http.StatusOK || string(body) != "fine":
					t.Errorf("%d %q", resp.StatusCode, body)
				}
			}
			if tc.retried && refused != 0 || !tc.retried && refused != 1 {
				t.Errorf("%d of 2 calls were answered by the worker that refuses", refused)
			}
		})
	}
}
