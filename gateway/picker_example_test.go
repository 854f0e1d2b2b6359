package gateway_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/rota-project/rota/gateway"
)

// firstFit is a rule of one's own: the first worker that has fewer than most
// calls, so that the later ones may be let go.
type firstFit struct{ most int }

func (f firstFit) Pick(_ *gateway.Fn, candidates []gateway.Candidate) int {
	for i, c := range candidates {
		if c.InFlight < f.most {
			return i
		}
	}
	return len(candidates) - 1
}

func (firstFit) Done(*gateway.Fn, string) {} // it keeps no account of its own

// A picking rule of your own.
func ExamplePicker() {
	var workers []gateway.Worker
	for i := range 3 {
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "worker", i) }))
		defer up.Close()
		workers = append(workers, gateway.Worker{URL: up.URL})
	}
	g, err := gateway.New(gateway.Config{
		Workers: workers, Defaults: gateway.Policy{Picker: firstFit{most: 8}}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer g.Close()
	for range 3 {
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/run/hello", nil))
		fmt.Print(w.Body)
	}
	// Output:
	// worker 0
	// worker 0
	// worker 0
}
