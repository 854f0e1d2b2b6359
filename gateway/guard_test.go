package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/apikey"
)

// keyed are keys of these names, each as long as a real one and made of its name.
func keyed(header string, names ...string) gateway.Guard {
	k := &gateway.Keys{Names: map[string]string{}, Header: header}
	for _, n := range names {
		k.Names[apikey.HashOf([]byte(secretOf(n))).String()] = n
	}
	return gateway.Guard{Keys: k}
}

func secretOf(name string) string { return "secret-of-" + name + "-4f2c9a7be1" }

// Who has a key may call, by whatever way; nobody else may. The key gets no further than
// the gateway, and only its name is logged.
func TestAPIKeys(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		for _, header := range []string{"", "authorization", "X-Token"} {
			t.Run(way+"/"+header, func(t *testing.T) {
				t.Parallel()
				var heard atomic.Int64
				up := backend(t, func(w http.ResponseWriter, r *http.Request) {
					heard.Add(1)
					b, _ := io.ReadAll(r.Body)
					if strings.Contains(fmt.Sprint(r.Header), "secret-of") {
						t.Errorf("the worker got the key: %v", r.Header)
					}
					fmt.Fprintf(w, "%s", b)
				})
				cfg := simple(up)
				cfg.Defaults.Rules.Guard = keyed(header, "alice", "bob")
				cfg.Functions = map[string]gateway.Function{"public": {Policy: &gateway.Policy{}}}
				cfg.Routes = []gateway.Route{{Prefix: "/route", Function: "f"}}
				cfg, log := logging(cfg)
				_, addr := serve(t, cfg)
				name, show := "X-Api-Key", func(key string) string { return key }
				switch header {
				case "authorization":
					name, show = "Authorization", func(key string) string { return "bearer " + key }
				case "X-Token":
					name = header
				}
				alias := strings.ReplaceAll(name, "-", "_")
				for _, path := range []string{"/run/f", "/run/f/x", "/runLambda/f", "/route", "/t/task"} {
					before := heard.Load()
					for what, header := range map[string][]string{
						"none": nil, "empty": {name, ""}, "wrong": {name, show(secretOf("alice") + "x")}, "a hash": {name, show(apikey.HashOf([]byte(secretOf("alice"))).String())},
						"a name": {name, show("alice")}, "elsewhere": {"X-Other", show(secretOf("alice"))}, "two": {name, show(secretOf("alice")), name, show(secretOf("bob"))},
						"an alias": {strings.Replace(alias, "Authorization", "Author_ization", 1), show(secretOf("alice"))}, "another scheme": {"Authorization", "Basic " + secretOf("alice")}, "in the query": {"X-A", "b"},
					} {
						p := path
						if what == "in the query" {
							p += "?" + name + "=" + secretOf("alice")
						}
						resp, body := send(t, http.MethodPost, addr, p, []byte("x"), false, header...)
						if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" || strings.Contains(body, "secret-of") {
							t.Errorf("%s, %s: %d %q %v", path, what, resp.StatusCode, body, resp.Header)
						}
					}
					if heard.Load() != before {
						t.Errorf("%s: the worker was called without a key", path)
					}
					if path == "/t/task" {
						continue // nobody owns it
					}
					h := []string{name, show(secretOf("bob"))}
					if name != alias {
						h = append(h, alias, "secret-of-nobody") // which some would take for the other
					}
					resp, body := send(t, http.MethodPost, addr, path, []byte("x"), false, h...)
					if resp.StatusCode != http.StatusOK || body != "x" {
						t.Errorf("%s: with a key: %d %q", path, resp.StatusCode, body)
					}
				}
				if status, body := call(t, http.MethodPost, addr, "/run/public", []byte("x")); status != http.StatusOK {
					t.Errorf("a public function: %d %q", status, body)
				}
				var named []any
				for _, c := range log.calls(t) {
					if c["key"] != nil {
						named = append(named, c["key"])
					}
				}
				if len(named) != 4 || named[0] != "bob" {
					t.Errorf("the log names the keys %v", named)
				}
				for _, line := range strings.Split(log.String(), "\n") {
					if strings.Contains(line, "secret-of") && !strings.Contains(line, "=secret-of-alice") { // in the query it is part of the target
						t.Errorf("a key is logged: %s", line)
					}
				}
			})
		}
	}
}

// Keys that are added or taken back count from the next call on.
func TestAPIKeysAreReloaded(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "a"))
	cfg.Defaults.Rules.Guard = keyed("", "alice")
	g, addr := start(t, cfg)
	ask := func(name string) int {
		resp, _ := send(t, http.MethodGet, addr, "/run/f", nil, false, "X-Api-Key", secretOf(name))
		return resp.StatusCode
	}
	if a, b := ask("alice"), ask("bob"); a != 200 || b != 401 {
		t.Errorf("alice %d, bob %d", a, b)
	}
	cfg.Defaults.Rules.Guard = keyed("", "bob")
	if err := g.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if a, b := ask("alice"), ask("bob"); a != 401 || b != 200 {
		t.Errorf("alice %d, bob %d", a, b)
	}
}

// Nobody gets past a guard by another path: a function that only its route guards is not
// called by its name, and one that gets calls by a split is guarded as the one split.
func TestGuardsCannotBeGotAround(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
			guarded := &gateway.Policy{Rules: gateway.Rules{Guard: keyed("", "fn")}}
			cfg.Functions = map[string]gateway.Function{
				"byroute": {Split: &gateway.Split{To: "byroute-2", Share: 0.5}}, "both": {Policy: guarded}, "split": {Policy: guarded, Split: &gateway.Split{To: "next", Share: 0.5}},
			}
			route := gateway.Rules{Guard: keyed("X-Route", "route")}
			cfg.Routes = []gateway.Route{{Prefix: "/byroute", Function: "byroute", Rules: route}, {Prefix: "/both", Function: "both", Rules: route}, {Host: "other.example", Prefix: "/open", Function: "byroute"}}
			g, addr := serve(t, cfg)
			for call, want := range map[string]int{
				"/byroute": 401, "/byroute route": 200, "/run/byroute": 403, "/runLambda/byroute": 403, "/run/byroute route": 403, "/run/byroute-2": 403, "/run/byroute/x": 403,
				"/both": 401, "/both route": 401, "/both fn": 401, "/both fn route": 200, "/run/both": 401, "/run/both fn": 200,
				"/run/split": 401, "/run/split fn": 200, "/run/next": 401, "/run/next fn": 200, "/run/free": 200,
			} {
				path, shown, _ := strings.Cut(call, " ")
				var header []string
				if strings.Contains(shown, "fn") {
					header = append(header, "X-Api-Key", secretOf("fn"))
				}
				if strings.Contains(shown, "route") {
					header = append(header, "X-Route", secretOf("route"))
				}
				for range 2 { // both sides of the split
					if resp, body := send(t, http.MethodGet, addr, path, nil, false, header...); resp.StatusCode != want {
						t.Errorf("%s: %d %q, want %d", call, resp.StatusCode, body, want)
					}
				}
			}
			r, _ := g.Route("byroute")
			if len(r.Paths) != 2 || r.Paths[1] != "/byroute (keys in X-Route (1))" && r.Paths[0] != "/byroute (keys in X-Route (1))" {
				t.Errorf("%q", r.Paths)
			}
			if r, _ := g.Route("next"); r.Guard != "keys in X-Api-Key (1)" {
				t.Errorf("%q", r.Guard)
			}
		})
	}
}

// A server that is asked about each call decides: it hears what the call is, may add
// headers for the worker, and answers callers that may not. Where it says nothing that
// is clear, nobody may.
func TestForwardAuth(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			stuck := make(chan struct{})
			var asked atomic.Value
			auth := backend(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Store(r.Method + " " + r.URL.Path + " " + r.Header.Get("X-Forwarded-Method") + " " + r.Header.Get("X-Forwarded-Uri") + " " + r.Header.Get("X-Forwarded-For") + fmt.Sprint(r.Header["X-Secret"]))
				switch r.Header.Get("Authorization") {
				case "good":
					w.Header()["X-User"] = []string{"alice"}
					w.Header()["X-Groups"] = []string{"a", "b"}
					w.Header().Set("X-Private", "1")
				case "none":
					w.WriteHeader(http.StatusNoContent)
				case "login":
					w.Header().Set("Set-Cookie", "a=b")
					w.Header().Set("X-Private", "1")
					http.Redirect(w, r, "https://login.example/?a=b", http.StatusFound)
				case "forbidden":
					http.Error(w, "not you", http.StatusForbidden)
				case "broken":
					w.WriteHeader(http.StatusInternalServerError)
				case "missing":
					w.WriteHeader(http.StatusNotFound)
				case "unchanged": // a redirect to nowhere
					w.WriteHeader(http.StatusNotModified)
				case "slow":
					select {
					case <-stuck:
					case <-r.Context().Done():
					}
				case "cut":
					panic(http.ErrAbortHandler)
				default:
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					http.Error(w, "who are you?", http.StatusUnauthorized)
				}
			})
			t.Cleanup(func() { close(stuck) })
			var heard atomic.Int64
			up := backend(t, func(w http.ResponseWriter, r *http.Request) {
				heard.Add(1)
				b, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%q %q %q %s", r.Header["X-User"], r.Header["X-Groups"], r.Header["X-Private"], b)
			})
			cfg := simple(up)
			cfg.Defaults.Rules.Guard.Forward = &gateway.ForwardAuth{URL: auth + "/verify", Timeout: 2 * time.Second, ResponseHeaders: []string{"x-user", "X-Groups"}}
			g, addr := serve(t, cfg)
			if resp, body := send(t, http.MethodPost, addr, "/run/f/a?b", []byte("x"), false, "Authorization", "good", "X-User", "root", "X_user", "root", "X-Secret", "1"); resp.StatusCode != http.StatusOK || body != `["alice"] ["a" "b"] [] x` {
				t.Errorf("good: %d %s", resp.StatusCode, body)
			}
			if got, want := asked.Load(), "GET /verify POST /run/f/a?b 127.0.0.1[]"; got != want {
				t.Errorf("it heard %s, want %s", got, want)
			}
			if resp, body := send(t, http.MethodPost, addr, "/run/f", []byte("x"), false, "Authorization", "none", "X-User", "root"); resp.StatusCode != http.StatusOK || body != `[] [] [] x` {
				t.Errorf("good without a user: %d %s", resp.StatusCode, body)
			}
			before := heard.Load()
			for who, want := range map[string]int{"": 401, "login": 302, "forbidden": 403, "broken": 503, "missing": 503, "unchanged": 503, "slow": 503, "cut": 503} {
				resp, body := send(t, http.MethodPost, addr, "/run/f", []byte("x"), false, "Authorization", who)
				if resp.StatusCode != want || resp.Header.Get("X-Private") != "" {
					t.Errorf("%q: %d %q %v, want %d", who, resp.StatusCode, body, resp.Header, want)
				}
				switch who {
				case "":
					if resp.Header.Get("WWW-Authenticate") == "" || body != "who are you?\n" {
						t.Errorf("%q: %q %v", who, body, resp.Header)
					}
				case "login":
					if resp.Header.Get("Location") != "https://login.example/?a=b" || resp.Header.Get("Set-Cookie") != "a=b" {
						t.Errorf("%q: %v", who, resp.Header)
					}
				}
			}
			if heard.Load() != before {
				t.Error("the worker was called for who may not")
			}
			for what, url := range map[string]string{"nobody listens": "http://127.0.0.1:1/", "no TLS": strings.Replace(auth, "http:", "https:", 1), "no such host": "http://nobody.invalid/"} {
				cfg.Defaults.Rules.Guard.Forward = &gateway.ForwardAuth{URL: url}
				_, addr := serve(t, cfg)
				if status, _ := call(t, http.MethodPost, addr, "/run/f", []byte("x")); status != 503 {
					t.Errorf("%s: %d", what, status)
				}
			}
			eventually(t, "the failures say why", func() bool {
				r, _ := g.Route("f")
				return r.Guard == "asks "+auth+"/verify" && g.Status().Workers[0].State == "ready"
			})
		})
	}
}

// Both at once, with a gateway that asks itself: that ends, and nobody gets through.
func TestForwardAuthThatAsksItself(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "a"))
	g, addr := start(t, cfg)
	cfg.Defaults.Rules.Guard = keyed("", "alice")
	cfg.Defaults.Rules.Guard.Forward = &gateway.ForwardAuth{URL: "http://" + addr + "/run/auth", RequestHeaders: []string{"X-Api-Key"}}
	if err := g.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if resp, body := send(t, http.MethodGet, addr, "/run/f", nil, false, "X-Api-Key", secretOf("alice")); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if resp, _ := send(t, http.MethodGet, addr, "/run/f", nil, false); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a key: %d", resp.StatusCode)
	}
}

func TestGuardsThatAreRefused(t *testing.T) {
	t.Parallel()
	for field, guard := range map[string]gateway.Guard{
		"keys":                          {Keys: &gateway.Keys{}},
		"keys ":                         {Keys: &gateway.Keys{Names: map[string]string{"abc": "a"}}},
		"keys.header":                   keyed("a b", "a"),
		"keys.header ":                  keyed("Host", "a"),
		"forward_auth.url":              {Forward: &gateway.ForwardAuth{}},
		"forward_auth.url ":             {Forward: &gateway.ForwardAuth{URL: "http://user:pass@a/"}},
		"forward_auth.url  ":            {Forward: &gateway.ForwardAuth{URL: "unix:/a"}},
		"forward_auth.timeout":          {Forward: &gateway.ForwardAuth{URL: "http://a", Timeout: -1}},
		"forward_auth.request_headers":  {Forward: &gateway.ForwardAuth{URL: "http://a", RequestHeaders: []string{"a b"}}},
		"forward_auth.response_headers": {Forward: &gateway.ForwardAuth{URL: "http://a", ResponseHeaders: []string{"Content-Length"}}},
	} {
		field = strings.TrimSpace(field)
		for i, cfg := range []gateway.Config{{Defaults: gateway.Policy{Rules: gateway.Rules{Guard: guard}}}, {Routes: []gateway.Route{{Prefix: "/", Function: "f", Rules: gateway.Rules{Guard: guard}}}}} {
			g, err := gateway.New(cfg)
			if err == nil {
				g.Close()
			}
			if want := []string{"defaults.", "routes[0]."}[i] + field; err == nil || !slices.Contains(strings.Fields(strings.ReplaceAll(err.Error(), ":", " ")), want) {
				t.Errorf("%s: %v", want, err)
			}
		}
	}
}
