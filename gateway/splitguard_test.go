package gateway_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway"
)

// guardedBy is a function with a key of that name, split to another one if to is not empty.
func guardedBy(name, to string) gateway.Function {
	f := gateway.Function{Policy: &gateway.Policy{}}
	if name != "" {
		f.Policy.Rules.Guard = keyed("", name)
	}
	if to != "" {
		f.Split = &gateway.Split{To: to, Share: 1}
	}
	return f
}

// What gets calls by splits is not called in another way by anybody whom a split would not
// let pass, whatever the splits are guarded by.
func TestGuardsOfSplits(t *testing.T) {
	t.Parallel()
	byRoute := gateway.Route{Prefix: "/routed", Function: "routed", Rules: gateway.Rules{Guard: keyed("", "route")}}
	for way, serve := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			up := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })
			for name, tc := range map[string]struct {
				functions map[string]gateway.Function
				byName    map[string]int // the status of /run/to with the key of that name
				splits    map[string]string
			}{
				"one guard": {
					map[string]gateway.Function{"f": guardedBy("a", "to")},
					map[string]int{"a": 200, "b": 401, "": 401},
					map[string]string{"f": "a"},
				},
				"the same twice": {
					map[string]gateway.Function{"f": guardedBy("a", "to"), "g": guardedBy("a", "to"), "to": guardedBy("a", "")},
					map[string]int{"a": 200, "b": 401, "": 401},
					map[string]string{"f": "a", "g": "a"},
				},
				"several guards": {
					map[string]gateway.Function{"f": guardedBy("a", "to"), "g": guardedBy("b", "to"), "h": guardedBy("c", "to")},
					map[string]int{"a": 403, "b": 403, "c": 403, "": 403},
					map[string]string{"f": "a", "g": "b", "h": "c"},
				},
				"a route's, and another": {
					map[string]gateway.Function{"f": guardedBy("a", "to"), "routed": guardedBy("", "to")},
					map[string]int{"a": 403, "route": 403, "": 403},
					map[string]string{"f": "a"},
				},
			} {
				cfg := simple(up)
				cfg.Functions, cfg.Routes = tc.functions, []gateway.Route{byRoute}
				for range 3 { // the order of a map is not the same twice
					_, addr := serve(t, cfg)
					for key, want := range tc.byName {
						for _, path := range []string{"/run/to", "/run/to/x", "/runLambda/to"} {
							if resp, body := send(t, http.MethodGet, addr, path, nil, false, "X-Api-Key", secretOf(key)); resp.StatusCode != want {
								t.Errorf("%s: %s by %q: %d %q, want %d", name, path, key, resp.StatusCode, body, want)
							}
						}
					}
					for f, key := range tc.splits {
						for _, other := range []string{"a", "b", "c"} {
							resp, body := send(t, http.MethodGet, addr, "/run/"+f, nil, false, "X-Api-Key", secretOf(other))
							if ok := resp.StatusCode == http.StatusOK && body == "/run/to"; ok != (other == key) {
								t.Errorf("%s: /run/%s by %q: %d %q", name, f, other, resp.StatusCode, body)
							}
						}
					}
				}
			}
		})
	}
}

// A split that would lead past a guard is refused: the field is named.
func TestSplitsPastGuardsAreRefused(t *testing.T) {
	t.Parallel()
	byRoute := []gateway.Route{{Prefix: "/to", Function: "to", Rules: gateway.Rules{Guard: keyed("", "route")}}}
	for name, cfg := range map[string]gateway.Config{
		"to one with a guard":      {Functions: map[string]gateway.Function{"f": guardedBy("", "to"), "to": guardedBy("a", "")}},
		"to one with another":      {Functions: map[string]gateway.Function{"f": guardedBy("b", "to"), "to": guardedBy("a", "")}},
		"to one with the defaults": {Defaults: gateway.Policy{Rules: gateway.Rules{Guard: keyed("", "a")}}, Functions: map[string]gateway.Function{"f": guardedBy("", "to")}},
		"to one of a route":        {Functions: map[string]gateway.Function{"f": guardedBy("", "to")}, Routes: byRoute},
		"to that of a guarded one": {Functions: map[string]gateway.Function{"f": guardedBy("", "to"), "g": guardedBy("a", "to")}},
		"by a route, to one": {
			Functions: map[string]gateway.Function{"f": guardedBy("", "to"), "to": guardedBy("a", "")},
			Routes:    []gateway.Route{{Prefix: "/f", Function: "f", Rules: gateway.Rules{Guard: keyed("", "a")}}},
		},
	} {
		var fe *rota.FieldError
		if err := cfg.Validate(); !errors.As(err, &fe) || fe.Field != "functions.f.split.to" || fe.Value != "to" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
