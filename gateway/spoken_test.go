package gateway_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rota-project/rota/gateway"
)

// TestNobodySpeaksForOthers: what proxies say of their clients is taken from those that
// are trusted, in every name and spelling that libraries read, and what the operator or
// whoever is asked about a call says is never taken for a stranger's.
func TestNobodySpeaksForOthers(t *testing.T) {
	t.Parallel()
	names := []string{
		"X-Forwarded-User", "X-Forwarded-Client-Cert", "X-Forwarded-Uri", "X-Forwarded-Port", "X-Forwarded", "Forwarded-For", "X-Real-Ip", "X-Original-Forwarded-For",
		"True-Client-Ip", "Cf-Connecting-Ip", "Cf-Connecting-Ipv6", "Fastly-Client-Ip", "Client-Ip", "X-Client-Ip", "X-Cluster-Client-Ip",
		"X-Envoy-External-Address", "X-Azure-Clientip", "X-Appengine-User-Ip", "Wl-Proxy-Client-Ip", "X-Nf-Client-Connection-Ip",
		"X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Host", "X-Original-Method", "X-Scheme", "Front-End-Https",
	}
	for way, serve := range ways {
		for _, from := range []string{"a stranger", "a trusted proxy"} {
			t.Run(from+" over "+way, func(t *testing.T) {
				t.Parallel()
				auth := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.Header()["X-Forwarded-User"] = []string{"alice"} })
				cfg := simple(backend(t, func(w http.ResponseWriter, r *http.Request) {
					for _, name := range append(slices.Clone(names), "Proxy") {
						for _, spelling := range []string{name, strings.ReplaceAll(name, "-", "_")} {
							if v := r.Header[http.CanonicalHeaderKey(spelling)]; v != nil {
								fmt.Fprintf(w, "%s=%s\n", spelling, strings.Join(v, ","))
							}
						}
					}
				}))
				cfg.Functions = map[string]gateway.Function{"set": {Policy: &gateway.Policy{Rules: gateway.Rules{
					Request: gateway.HeaderChanges{Set: map[string]string{"True-Client-Ip": "edge", "X-Forwarded-User": "bob"}},
				}}}, "asks": {Policy: &gateway.Policy{Rules: gateway.Rules{
					Guard: gateway.Guard{Forward: &gateway.ForwardAuth{URL: auth, ResponseHeaders: []string{"X-Forwarded-User"}}},
				}}}}
				var want string
				if from == "a trusted proxy" {
					cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
					for _, name := range names {
						want += name + "=evil\n"
					}
				}
				_, addr := serve(t, cfg)
				headers := []string{"Proxy", "http://evil", "PROXY", "http://evil"}
				for _, name := range names {
					headers = append(headers, name, "evil")
					if strings.Contains(name, "-") {
						headers = append(headers, strings.ReplaceAll(name, "-", "_"), "evil")
					}
				}
				if _, body := send(t, http.MethodGet, addr, "/run/f", nil, false, headers...); body != want {
					t.Errorf("the worker got\n%swant\n%s", body, want)
				}
				_, body := send(t, http.MethodGet, addr, "/run/set", nil, false, headers...)
				if !strings.Contains(body, "True-Client-Ip=edge\n") || !strings.Contains(body, "X-Forwarded-User=bob\n") {
					t.Errorf("what the operator sets: the worker got\n%s", body)
				}
				if _, body := send(t, http.MethodGet, addr, "/run/asks", nil, false, headers...); !strings.Contains(body, "X-Forwarded-User=alice\n") {
					t.Errorf("who is asked: the worker got\n%s", body)
				}
			})
		}
	}
}
