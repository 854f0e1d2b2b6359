package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rota-project/rota/gateway"
)

// send sends one request by the way of addr, the body with its length or without.
func send(t testing.TB, method, addr, path string, body []byte, chunked bool, header ...string) (*http.Response, string) {
	t.Helper()
	client, base := reach(addr)
	var r io.Reader = bytes.NewReader(body)
	if chunked {
		r = struct{ io.Reader }{r}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, r)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header[header[i]] = append(req.Header[header[i]], header[i+1])
	}
	if h := req.Header.Get("Host"); h != "" {
		req.Host = h
	}
	noRedirect := *client
	noRedirect.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// A body over the limit is answered 413: at once if its length says so, so that no
// worker hears of it, and else when it is too long. What is as long as allowed passes.
func TestBodiesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			var whole, heard atomic.Int64
			h := func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Too-Large") != "" {
					heard.Add(1)
				}
				if n, err := io.Copy(io.Discard, r.Body); err == nil {
					whole.Add(1)
					fmt.Fprint(w, n)
				}
			}
			for kind, worker := range workersOf(t, h) {
				cfg := simple(worker)
				cfg.Defaults.Rules.MaxBody = 1000
				cfg.Functions = map[string]gateway.Function{"large": {Policy: &gateway.Policy{Rules: gateway.Rules{MaxBody: 100_000}}}}
				cfg.Routes = []gateway.Route{
					{Prefix: "/small", Function: "large", Rules: gateway.Rules{MaxBody: 10}},
					{Prefix: "/any", Function: "f", Rules: gateway.Rules{MaxBody: gateway.NoLimit}},
					{Prefix: "/same", Function: "large"},
				}
				g, addr := serve(t, cfg)
				for path, most := range map[string]int{"/run/f": 1000, "/run/large": 100_000, "/small": 10, "/same": 100_000, "/any": 200_000, "/t/task": 1000} {
					for _, chunks := range []bool{false, true} {
						for _, size := range []int{0, 1, most, most + 1, 2*most + 10_000} {
							want := http.StatusOK
							switch {
							case path == "/any":
							case size > most:
								want = http.StatusRequestEntityTooLarge
							}
							if path == "/t/task" && (want == http.StatusOK || chunks) {
								continue // nobody owns it
							}
							var header []string
							if size > most && path != "/any" && !chunks {
								header = []string{"X-Too-Large", "yes"}
							}
							resp, body := send(t, http.MethodPost, addr, path, bytes.Repeat([]byte("x"), size), chunks, header...)
							if resp.StatusCode != want || want == http.StatusOK && body != fmt.Sprint(size) {
								t.Errorf("%s, %s: %d bytes, chunked %v: %d %q, want %d", kind, path, size, chunks, resp.StatusCode, body, want)
							}
						}
					}
				}
				if heard.Load() > 0 {
					t.Errorf("%s: the worker heard of a body that is too long by its length", kind)
				}
				eventually(t, "all calls are over", func() bool { return idle(g) })
				for _, w := range g.Status().Workers {
					if w.State != "ready" {
						t.Errorf("%s: the worker is to blame: %+v", kind, w)
					}
				}
			}
		})
	}
}

// A client that waits for 100 (Continue) is refused before it sends a body that is too large.
func TestTooLargeBodiesAreNotAskedFor(t *testing.T) {
	t.Parallel()
	cfg := simple(named(t, "a"))
	cfg.Defaults.Rules.MaxBody = 10
	_, addr := start(t, cfg)
	c := dial(t, addr)
	c.send("POST /run/f HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
	if resp, _ := c.response(http.MethodPost); resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
		t.Errorf("%d, close %v", resp.StatusCode, resp.Close)
	}
}

// Rules set and remove headers in both directions, a route's after its function's,
// whoever the client is and however the worker is reached; what the gateway answers for
// itself has those of answers, too.
func TestHeaderRules(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // an answer before the end of a body closes the connection on the client, which may fail to write first
				w.Header().Set("Server", "secret/1.0")
				w.Header()["X-Powered-By"] = []string{"a", "b"}
				w.Header().Set("X-Frame-Options", "ALLOW")
				fmt.Fprintf(w, "%q %q %q %q %q", r.Header["X-Env"], r.Header["X-Debug"], r.Header["X_debug"], r.Header["X-User"], r.Header["X-Kept"])
			}
			for kind, worker := range workersOf(t, h) {
				cfg := simple(worker)
				cfg.Defaults.QueueTimeout = time.Millisecond // nobody owns the task below
				cfg.Defaults.Rules = gateway.Rules{
					Request:  gateway.HeaderChanges{Set: map[string]string{"X-Env": "prod", "X-User": "nobody"}, Remove: []string{"x-debug"}},
					Response: gateway.HeaderChanges{Set: map[string]string{"X-Frame-Options": "DENY"}, Remove: []string{"server", "X-Powered-By"}},
				}
				cfg.Routes = []gateway.Route{{Prefix: "/route", Function: "f", Rules: gateway.Rules{
					Request: gateway.HeaderChanges{Set: map[string]string{"X-User": "route"}}, Response: gateway.HeaderChanges{Set: map[string]string{"X-Route": "1"}},
				}}}
				_, addr := serve(t, cfg)
				for path, user := range map[string]string{"/run/f": "nobody", "/route": "route"} {
					for _, body := range []string{"", "small", strings.Repeat("x", 100_000)} {
						resp, got := send(t, http.MethodPost, addr, path, []byte(body), false, "X-Env", "theirs", "X-Env", "again", "X-Debug", "1", "X_debug", "1", "X-User", "root", "X-Kept", "yes")
						if want := fmt.Sprintf(`["prod"] [] [] [%q] ["yes"]`, user); got != want {
							t.Errorf("%s, %s: the worker heard %s, want %s", kind, path, got, want)
						}
						if h := resp.Header; h.Get("Server") != "" || h["X-Powered-By"] != nil || len(h["X-Frame-Options"]) != 1 || h.Get("X-Frame-Options") != "DENY" || (h.Get("X-Route") == "1") != (path == "/route") {
							t.Errorf("%s, %s: the client heard %v", kind, path, h)
						}
					}
				}
				if resp, _ := send(t, http.MethodGet, addr, "/t/nobodys", nil, false); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("X-Frame-Options") != "DENY" {
					t.Errorf("an answer of the gateway's own: %d %v", resp.StatusCode, resp.Header)
				}
			}
		})
	}
}

// A switch of protocols has the rules' headers, too.
func TestHeaderRulesOfUpgrades(t *testing.T) {
	t.Parallel()
	up := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Upgrade", "x")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("X-User", r.Header.Get("X-User"))
		w.WriteHeader(http.StatusSwitchingProtocols)
		nc, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			nc.Close()
		}
	})
	cfg := simple(up)
	cfg.Defaults.Rules = gateway.Rules{Request: gateway.HeaderChanges{Set: map[string]string{"X-User": "a"}}, Response: gateway.HeaderChanges{Set: map[string]string{"X-Seen": "b"}}}
	_, addr := start(t, cfg)
	c := dial(t, addr)
	c.send("GET /run/f HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if resp, _ := c.response(http.MethodGet); resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("X-User") != "a" || resp.Header.Get("X-Seen") != "b" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// What is taken off a path is told to the worker, what a trusted proxy took off before
// with it; strangers cannot say so.
func TestForwardedPrefix(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			up := backend(t, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %q", r.URL.Path, r.Header["X-Forwarded-Prefix"])
			})
			for _, trusted := range []bool{false, true} {
				cfg := simple(up)
				cfg.Routes = []gateway.Route{{Prefix: "/img", Function: "f", Strip: true}, {Prefix: "/doc/", Function: "f", Strip: true}, {Prefix: "/kept", Function: "f"}, {Prefix: "/", Function: "f", Strip: true}}
				if trusted {
					cfg.TrustedProxies = prefixes(t, "127.0.0.0/8")
				}
				_, addr := serve(t, cfg)
				for path, want := range map[string]string{
					"/img/a": `/a ["/img"]`, "/img": `/ ["/img"]`, "/doc/a/b": `/a/b ["/doc"]`, "/kept/a": "/kept/a []", "/a": "/a []", "/run/f": "/run/f []",
				} {
					if _, got := send(t, http.MethodGet, addr, path, nil, false); got != want {
						t.Errorf("%s: %s, want %s", path, got, want)
					}
				}
				want := `/a ["/img"]`
				if trusted {
					want = `/a ["/api/img"]`
				}
				if _, got := send(t, http.MethodGet, addr, "/img/a", nil, false, "X-Forwarded-Prefix", "/api/"); got != want {
					t.Errorf("behind a proxy, trusted %v: %s, want %s", trusted, got, want)
				}
			}
		})
	}
}

// A route with methods is for those only; a path that is for others is answered 405 with
// those in Allow.
func TestMethodsOfRoutes(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			up := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Fn")) })
			fn := func(prefix, name string, methods ...string) gateway.Route {
				return gateway.Route{Prefix: prefix, Function: name, Methods: methods, Rules: gateway.Rules{Request: gateway.HeaderChanges{Set: map[string]string{"X-Fn": name}}}}
			}
			cfg := simple(up)
			cfg.CORS.Origins = []string{"https://page.example"}
			cfg.Routes = []gateway.Route{fn("/items", "read", "GET"), fn("/items", "write", "POST", "PUT"), fn("/items/deep", "deep", "DELETE"), fn("/only", "only", "PURGE"), fn("/all", "all")}
			_, addr := serve(t, cfg)
			for call, want := range map[string]string{
				"GET /items": "read", "POST /items/x": "write", "PUT /items": "write", "GET /items/deep": "read", "DELETE /items/deep/x": "deep", "PURGE /only": "only", "BREW /all": "all",
				"DELETE /items": "405 GET, POST, PUT", "GET /only": "405 PURGE", "PATCH /items/deep": "405 DELETE, GET, POST, PUT", "get /items": "405 GET, POST, PUT", "OPTIONS /items": "405 GET, POST, PUT",
				"GET /itemsx": "404 ", "GET /nowhere": "404 ",
			} {
				method, path, _ := strings.Cut(call, " ")
				resp, got := send(t, method, addr, path, nil, false)
				if resp.StatusCode != http.StatusOK {
					got = fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("Allow"))
				}
				if got != want {
					t.Errorf("%s: %s, want %s", call, got, want)
				}
			}
			if resp, _ := send(t, http.MethodHead, addr, "/items", nil, false); resp.StatusCode != http.StatusOK {
				t.Errorf("HEAD: %d", resp.StatusCode)
			}
			for method, want := range map[string]int{"PUT": 204, "DELETE": 405} {
				if resp, _ := send(t, http.MethodOptions, addr, "/items", nil, false, "Origin", "https://page.example", "Access-Control-Request-Method", method); resp.StatusCode != want {
					t.Errorf("may a page %s? %d, want %d", method, resp.StatusCode, want)
				}
			}
		})
	}
}
