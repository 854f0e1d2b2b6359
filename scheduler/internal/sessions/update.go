package sessions

import (
	"sync"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/record"
)

// update tells workers what is now declared of the tasks that they have. A change of
// what is to be run is no update: the leader replaces the grant.
func (s *Server) update(tasks []table.Change[record.Task]) {
	v, updates := s.cfg.View, map[*session][]*rotav1.UpdateItem{}
	for _, change := range tasks {
		t := change.New
		if t == nil {
			continue
		}
		spec := sync.OnceValue(func() uint64 { return record.Spec(t) })
		for n := range t.Replicas {
			i := rota.Instance{Task: t.ID, Index: n}
			for _, worker := range v.Holders(i) {
				c := s.live[worker]
				if c == nil || s.grantsLost(worker) {
					continue
				}
				if r, ok := v.Grant(worker, i); ok && !r.Revoked && !c.stopped(v, r) && c.good(r, t.Mode, spec()) {
					updates[c] = append(updates[c], &rotav1.UpdateItem{
						Task: t.ID, Index: int64(n), Generation: uint64(r.Generation),
						Group: t.Group, Key: t.Key, Weight: t.Weight, Priority: t.Priority,
					})
				}
			}
		}
	}
	for c, items := range updates {
		c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: &rotav1.Grants{Update: items}}})
	}
}
