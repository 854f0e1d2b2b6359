package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/rota-project/rota/gateway"
)

// A split function's calls are shared exactly; the other function's worker is called
// under its own name, and the route says how many it got.
func TestSplits(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			echo := func(name string) string {
				return backend(t, func(w http.ResponseWriter, r *http.Request) {
					b, _ := io.ReadAll(r.Body)
					fmt.Fprintf(w, "%s %s %s", name, r.URL.RequestURI(), b)
				})
			}
			cfg := simple()
			cfg.Workers = []gateway.Worker{{URL: echo("old"), Functions: []string{"hello"}}, {URL: echo("new"), Functions: []string{"hello-2"}}}
			cfg.Functions = map[string]gateway.Function{"hello": {Split: &gateway.Split{To: "hello-2", Share: 0.25}}}
			cfg.Routes = []gateway.Route{{Prefix: "/hi", Function: "hello"}}
			g, addr := serve(t, cfg)
			count := map[string]int{}
			for i := range 200 {
				path := []string{"/run/hello/a?b=c", "/runLambda/hello", "/run/hello", "/hi/a"}[i/4%4]
				_, got := call(t, http.MethodPost, addr, path, []byte("body"))
				count[got]++
			}
			for want, n := range map[string]int{
				"old /run/hello/a?b=c body": 39, "new /run/hello-2/a?b=c body": 13, "old /runLambda/hello body": 39, "new /runLambda/hello-2 body": 13,
				"old /run/hello body": 36, "new /run/hello-2 body": 12, "old /hi/a body": 36, "new /hi/a body": 12,
			} {
				if count[want] != n {
					t.Errorf("%s: %d times, want %d; all: %v", want, count[want], n, count)
				}
			}
			r, _ := g.Route("hello")
			if s := r.Split; s == nil || *s != (gateway.SplitStatus{To: "hello-2", Share: 0.25, Calls: 200, Sent: 50}) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A reload with another share is in force at once; one without ends it.
func TestSplitsAreReloaded(t *testing.T) {
	t.Parallel()
	cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
	g, addr := start(t, cfg)
	for share, want := range map[float64]string{0: "/run/hello", 1: "/run/hello-2"} {
		cfg.Functions = map[string]gateway.Function{"hello": {Split: &gateway.Split{To: "hello-2", Share: share}}}
		if err := g.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, got := get(t, addr, "/run/hello"); got != want {
				t.Errorf("%v: %s", share, got)
			}
		}
	}
	cfg.Functions = nil
	if err := g.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if r, _ := g.Route("hello"); r.Split != nil {
		t.Errorf("%+v", r.Split)
	}
}

// A sticky split keeps the calls of a client, or with a header's value, together; about
// its share of them is the other function's.
func TestStickySplits(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		for _, by := range []string{"client", "header"} {
			t.Run(way+"/"+by, func(t *testing.T) {
				t.Parallel()
				cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
				cfg.TrustedProxies = prefixes(t, "127.0.0.0/8")
				s := &gateway.Split{To: "b", Share: 0.5, StickyClient: by == "client"}
				header := "X-Forwarded-For"
				if by == "header" {
					s.StickyHeader, header = "x-user", "X-User"
				}
				cfg.Functions = map[string]gateway.Function{"a": {Split: s}}
				_, addr := serve(t, cfg)
				second := 0
				for who := range 40 {
					first := ""
					for i := range 3 {
						_, got := send(t, http.MethodGet, addr, "/run/a", nil, false, header, fmt.Sprintf("10.0.0.%d", who))
						if i == 0 {
							first = got
						} else if got != first {
							t.Errorf("%d: %s after %s", who, got, first)
						}
					}
					if first == "/run/b" {
						second++
					}
				}
				if second < 8 || second > 32 {
					t.Errorf("%d of 40, want about half", second)
				}
			})
		}
	}
}
