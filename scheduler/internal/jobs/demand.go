package jobs

import (
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota/internal/job"
)

// Queued visits jobs that wait for a worker, and for no time, so many at most. Of those
// that can be placed alike the oldest come first.
func (c *Control) Queued(most int, visit func(id string, s job.Spec)) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, class := range slices.Sorted(maps.Keys(c.p.queue)) {
		for _, id := range c.p.queue[class] {
			e := c.p.entries[id]
			if e == nil || e.job.State != job.Queued {
				continue
			}
			if ready, _ := e.job.Ready(now); !ready {
				continue
			}
			if most--; most < 0 {
				return
			}
			visit(id, e.spec)
		}
	}
}

// ActiveOn visits the jobs that a worker has.
func (c *Control) ActiveOn(worker string, visit func(id string, s job.Spec)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.p.active[worker] {
		if e := c.p.entries[id]; e != nil {
			visit(id, e.spec)
		}
	}
}

// Commands says which commands a worker runs as jobs, or whether it runs whatever it is
// given, and how many at once: 0 for one that takes no jobs.
func (c *Control) Commands(worker string) (commands []string, whatever bool, slots int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.p.workers[worker]
	return slices.Clone(w.GetCommands()), w.GetAny(), int(w.GetSlots())
}
