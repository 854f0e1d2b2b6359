package worker

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rota-project/rota/internal/origin"
)

// TestPagesCallNoFunctions: what a web page asks of a worker's port for calls is refused,
// whatever its method, also under a name of its own that leads here. Programs and gateways
// call, and a gateway's calls have the Host and Origin of whoever called it.
func TestPagesCallNoFunctions(t *testing.T) {
	t.Parallel()
	guard, err := origin.New(origin.Config{Addrs: []string{"127.0.0.1:7000"}})
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	h := throughGateway(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true }), guard)
	for name, tc := range map[string]struct {
		host   string
		header map[string]string
		runs   bool
	}{
		"a program":              {"127.0.0.1:7000", nil, true},
		"a gateway":              {"api.example.org", map[string]string{"Via": "1.1 rota", "Origin": "https://app.example.org", "Sec-Fetch-Site": "cross-site"}, true},
		"a form":                 {"127.0.0.1:7000", map[string]string{"Origin": "http://evil.test"}, false},
		"a form of no origin":    {"127.0.0.1:7000", map[string]string{"Origin": "null"}, false},
		"an image":               {"127.0.0.1:7000", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		"a page of another port": {"localhost:7000", map[string]string{"Sec-Fetch-Site": "same-site"}, false},
		"a rebound name":         {"rebound.test:7000", nil, false},
		"no name":                {"", nil, false},
		"a websocket":            {"127.0.0.1:7000", map[string]string{"Origin": "http://evil.test", "Upgrade": "websocket", "Connection": "Upgrade"}, false},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			r := httptest.NewRequestWithContext(t.Context(), method, "/run/f", http.NoBody)
			r.Host = tc.host
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			ran = false
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if ran != tc.runs || !ran && rec.Code < 400 {
				t.Errorf("%s, %s: ran %v, %d", name, method, ran, rec.Code)
			}
		}
	}
}
