package role

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/worker"
)

// demo is what the workers of rota dev do: each task watches one route and
// sees, now and then, as often as its weight says, a flight depart.
type demo struct {
	name    string
	routes  atomic.Int64
	flights atomic.Int64
}

// hello is the function that the workers of rota dev offer. It says which
// worker has answered whom.
func (d *demo) hello(rw http.ResponseWriter, r *http.Request) {
	var in struct {
		Name string `json:"name"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&in); err != nil || in.Name == "" {
		in.Name = "world"
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(map[string]string{"hello": in.Name, "worker": d.name}) //nolint:errchkjson // strings
}

func newDemo(name string) *demo { return &demo{name: name} }

// demoDay is how long all flights of a route's weight take.
const demoDay = 12 * time.Hour

// run is the task function.
func (d *demo) run(ctx context.Context, a worker.Assigned) error {
	d.routes.Add(1)
	defer d.routes.Add(-1)
	every := max(time.Duration(float64(demoDay)/max(a.Task.Weight, 1)), 5*time.Second)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.flights.Add(1)
		case <-ctx.Done():
			return nil
		}
	}
}

// tell logs what the worker has seen.
func (d *demo) tell(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			log.Info("watching", "routes", d.routes.Load(), "departures", d.flights.Load())
		case <-ctx.Done():
			return
		}
	}
}
