package gatewaycli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/test/memo"
)

// TestPrintedForPeople: whatever callers and workers have written, no table or text
// has what a terminal would obey.
func TestPrintedForPeople(t *testing.T) {
	t.Parallel()
	const evil = "\x1b[2J\u202e\x07\n"
	failure := gateway.Failure{
		ID: "id" + evil, Function: "f" + evil, Client: "c" + evil, Method: "M" + evil, Target: "/" + evil, Error: "e" + evil, Trace: "t" + evil,
		Attempts: []gateway.Attempt{{Worker: "w" + evil, Error: "e" + evil}},
	}
	route := gateway.RouteStatus{
		Function: "f" + evil, Packages: []string{evil}, Paths: []string{evil}, Next: evil, Guard: evil, Failures: []gateway.Failure{failure},
		Split: &gateway.SplitStatus{To: evil}, Workers: []gateway.RouteWorker{{WorkerStatus: gateway.WorkerStatus{Name: "w" + evil, State: evil}, Why: evil}},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v any = []gateway.Failure{failure}
		switch r.URL.Path {
		case "/api/v1/routes":
			v = []gateway.RouteStatus{route}
		case "/api/v1/routes/f":
			v = route
		}
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	for _, args := range [][]string{{"list"}, {"get", "f"}, {"failures"}, {"failures", "id"}} {
		var out, errs memo.Buffer
		if err := run(t.Context(), &out, &errs, append(append([]string{"route"}, args...), "--gateway", srv.URL)...); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if s := out.String(); !strings.Contains(s, "f") || strings.ContainsAny(s, "\x1b\u202e\x07") {
			t.Errorf("%v: %q", args, s)
		}
	}
}
