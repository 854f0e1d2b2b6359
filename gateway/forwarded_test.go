package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rota-project/rota/gateway"
)

// Who is asked about a call hears of the host and the path that the worker gets, however the
// caller has written them.
func TestForwardAuthHearsWhereTheCallGoes(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"HTTP/1", "net/http"} { // HTTP/2 has no other form
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Value
			auth := backend(t, func(_ http.ResponseWriter, r *http.Request) {
				asked.Store(r.Header.Get("X-Forwarded-Host") + " " + r.Header.Get("X-Forwarded-Uri"))
			})
			cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host+" "+r.RequestURI) }))
			cfg.Defaults.Rules.Guard.Forward = &gateway.ForwardAuth{URL: auth}
			cfg.Routes = []gateway.Route{routeTo("/", "f")}
			_, addr := ways[way](t, cfg)
			for target, want := range map[string]string{
				"/run/f?a":                          "other.example /run/f?a",
				"http://a.example/run/f/x?b=/run/g": "a.example /run/f/x?b=/run/g",
				"HTTPS://A.example:80/run/f":        "A.example:80 /run/f",
				"http://a.example":                  "a.example /",
				"http://a.example?c":                "a.example /?c",
				"http://a.example/%61":              "a.example /%61",
			} {
				c := dial(t, addr)
				c.send("GET " + target + " HTTP/1.1\r\nHost: other.example\r\n\r\n")
				resp, body := c.response(http.MethodGet)
				if resp.StatusCode != http.StatusOK || body != want || asked.Load() != want {
					t.Errorf("%s: %d, the worker heard %q, who was asked %q", target, resp.StatusCode, body, asked.Load())
				}
			}
		})
	}
}

// An API key is told to nobody, whichever guard wants it and whichever asks; cookies are
// told once, as the worker gets them.
func TestForwardAuthHearsNoKeys(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			for _, header := range []string{"Authorization", "X-Api-Key", "x-token"} {
				for _, where := range []string{"both", "route asks", "function asks"} {
					var heard atomic.Value
					auth := backend(t, func(_ http.ResponseWriter, r *http.Request) { heard.Store(r.Header.Clone()) })
					asks := gateway.Guard{Forward: &gateway.ForwardAuth{URL: auth}}
					if header != "Authorization" {
						asks.Forward.RequestHeaders = []string{"Cookie", "X-Token", "X-Api-Key", "Authorization"}
					}
					guard, route := asks, keyed(header, "alice")
					switch where {
					case "both":
						guard.Keys, route = route.Keys, gateway.Guard{}
					case "route asks":
						guard, route = route, guard
					}
					cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%q", r.Header["Cookie"]) }))
					cfg.Defaults.Rules.Guard = guard
					cfg.Routes = []gateway.Route{{Prefix: "/f", Function: "f", Rules: gateway.Rules{Guard: route}}}
					_, addr := serve(t, cfg)
					key := secretOf("alice")
					shown := http.CanonicalHeaderKey(header)
					headers := []string{"Cookie", "a=1; b=2; c=3", shown, key}
					if header == "Authorization" {
						headers[3] = "Bearer " + key
					} else {
						headers = append(headers, "Authorization", "for the server")
					}
					resp, body := send(t, http.MethodGet, addr, "/f", nil, false, headers...)
					if resp.StatusCode != http.StatusOK || body != `["a=1; b=2; c=3"]` {
						t.Errorf("%s, %s: %d %s", header, where, resp.StatusCode, body)
						continue
					}
					h, _ := heard.Load().(http.Header)
					if strings.Contains(fmt.Sprint(h), key) {
						t.Errorf("%s, %s: who is asked heard the key: %v", header, where, h)
					}
					if !slices.Equal(h["Cookie"], []string{"a=1; b=2; c=3"}) {
						t.Errorf("%s, %s: who is asked heard the cookies %q", header, where, h["Cookie"])
					}
					if (h.Get("Authorization") == "for the server") != (header != "Authorization") {
						t.Errorf("%s, %s: who is asked heard %v", header, where, h)
					}
				}
			}
		})
	}
}

// The token by which a cluster's gateway knows a caller is told to no server that is asked.
func TestForwardAuthHearsNoTokens(t *testing.T) {
	t.Parallel()
	var heard atomic.Value
	auth := backend(t, func(_ http.ResponseWriter, r *http.Request) { heard.Store(fmt.Sprint(r.Header)) })
	cfg := simple(named(t, "a"))
	cfg.Logger = quiet()
	cfg.Defaults.Rules.Guard.Forward = &gateway.ForwardAuth{URL: auth}
	cfg.Admit = func(_ context.Context, _ netip.AddrPort, said []string) error {
		if !slices.Equal(said, []string{"Bearer secret"}) {
			return errors.New("who are you?")
		}
		return nil
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(elsewhere{ln}) }()
	t.Cleanup(func() { g.Close(); <-served })
	resp, body := send(t, http.MethodGet, ln.Addr().String(), "/run/f", nil, false, "Authorization", "Bearer secret")
	if got, _ := heard.Load().(string); resp.StatusCode != http.StatusOK || got == "" || strings.Contains(got, "secret") {
		t.Errorf("%d %q; who is asked heard %s", resp.StatusCode, body, got)
	}
}

// What a server says of a caller reaches the worker however many headers the call has, and a
// call ends of which it says what cannot be passed on.
func TestForwardAuthIsNeverHalfHeard(t *testing.T) {
	t.Parallel()
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			auth := backend(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header()["X-User"] = []string{"alice"}
				if r.Header.Get("X-Case") == "control" {
					w.Header()["X-Groups"] = []string{"a", "b\x01"}
				}
			})
			cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%q %d", r.Header["X-User"], len(r.Header["X-Many"]))
			}))
			cfg.Defaults.Rules.Guard.Forward = &gateway.ForwardAuth{URL: auth, RequestHeaders: []string{"X-Case"}, ResponseHeaders: []string{"X-User", "X-Groups"}}
			_, addr := serve(t, cfg)
			most := 0
			for n := 260; n > 240 && most == 0; n-- { // as many as a call may have, and less
				headers := []string{"X-User", "root"}
				for range n {
					headers = append(headers, "X-Many", "x")
				}
				resp, body := send(t, http.MethodGet, addr, "/run/f", nil, false, headers...)
				if resp.StatusCode != http.StatusOK {
					continue
				}
				if most = n; body != fmt.Sprintf(`["alice"] %d`, n) {
					t.Errorf("with %d: %s", n, body)
				}
			}
			if most == 0 {
				t.Error("no call got through")
			}
			if resp, body := send(t, http.MethodGet, addr, "/run/f", nil, false, "X-Case", "control"); resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("what cannot be passed on: %d %q", resp.StatusCode, body)
			}
		})
	}
}
