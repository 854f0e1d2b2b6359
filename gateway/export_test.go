package gateway

import (
	"net"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
)

// ResolveWith has the names of workers looked up there.
func (c *Config) ResolveWith(r *net.Resolver) { c.resolver = r }

// Causes are the names of all ends that a call or an attempt can have.
func Causes() (names []string) {
	for e := outcome.EndedWell; e < outcome.EndCount; e++ {
		names = append(names, e.String())
	}
	return names
}

// JudgeOutliers does at once what happens at the end of each window.
func (g *Gateway) JudgeOutliers() { g.outliers(g.state.Load()) }

// QuarantineFor leaves a worker out as its next failure would, says for how long,
// and brings it back.
func (g *Gateway) QuarantineFor(worker int) time.Duration {
	w := g.state.Load().workers[worker]
	h := &g.state.Load().cfg.Health
	wait, _ := w.Quarantine(g.now(), h.Quarantine, h.MaxQuarantine, errNothing, false)
	g.restore(w)
	return wait
}
