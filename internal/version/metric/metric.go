// Package metric shows to Prometheus which build of rota this is. It stands apart from
// package version, so that a worker of one's own needs no Prometheus.
package metric

import (
	"runtime"

	"github.com/rota-project/rota/internal/version"

	"github.com/prometheus/client_golang/prometheus"
)

// Build is the gauge rota_build_info of this process: 1, with what it was built of.
func Build() prometheus.Collector {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rota_build_info", Help: "1, with what this program was built of.",
		ConstLabels: prometheus.Labels{"version": version.String(), "go_version": runtime.Version()},
	})
	build.Set(1)
	return build
}
