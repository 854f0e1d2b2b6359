// Package flights is a list of tasks to try rota with: the routes between
// airports of the US, each weighing as much as it has flights.
//
// rota dev calls it. It holds data and nothing that runs.
package flights

import (
	_ "embed"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/taskfile"
)

//go:embed flights-airport.csv
var routes []byte

// columns says how a route is a task, for taskfile.Options.
func columns() map[string]string {
	return map[string]string{"id": "{origin}-{destination}", "group": "{origin}", "weight": "{count}"}
}

// Tasks returns one task for each of the 5,366 routes.
func Tasks() ([]rota.Task, error) {
	return taskfile.Parse(routes, "flights-airport.csv", taskfile.Options{Columns: columns()})
}
