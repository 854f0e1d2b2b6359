package sessions

import (
	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
)

// sendAll sends everything that the worker holds; it runs inside View.Read.
func (c *session) sendAll(v *view.View) {
	g := &rotav1.Grants{Full: true}
	if t := v.Grants[c.name]; t != nil {
		for r := range t.All() {
			c.add(v, g, r)
		}
	}
	c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: g}})
	c.tell(c.srv.facts())
}

// tell says how the cluster is, if the worker was not told so last.
func (c *session) tell(now facts) {
	c.mu.Lock()
	news := c.told == nil || *c.told != now
	c.told = &now
	c.mu.Unlock()
	if news {
		c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Cluster{Cluster: &rotav1.ClusterState{
			Barrier: now.barrier, AllRunning: now.allRunning,
		}}})
	}
}

// sendChanges sends what changed; it runs while the view stands still.
func (c *session) sendChanges(v *view.View, changes []table.Change[record.Grant]) {
	g := &rotav1.Grants{}
	for _, ch := range changes {
		switch {
		case ch.New != nil:
			c.add(v, g, ch.New)
		case !ch.Old.Revoked:
			g.Revoke = append(g.Revoke, revoke(ch.Old))
		}
	}
	if len(g.GetGrant())+len(g.GetRevoke()) > 0 {
		c.say(&rotav1.ToWorker{Body: &rotav1.ToWorker_Grants{Grants: g}})
	}
}

// add puts one grant into a message. Grants of an earlier session are only
// good for tasks that go on without a lease.
func (c *session) add(v *view.View, g *rotav1.Grants, r *record.Grant) {
	t, ok := v.Tasks.Get(r.Instance.Task)
	switch {
	case r.Revoked, !ok, c.stopped(v, r):
		g.Revoke = append(g.Revoke, revoke(r))
	case !c.good(r, t.Mode, record.Spec(t)):
		// The leader replaces it by one for this session and this spec.
	default:
		g.Grant = append(g.Grant, &rotav1.GrantItem{
			Task: &rotav1.TaskSpec{
				Id: t.ID, Kind: t.Kind, Group: t.Group, Key: t.Key, Weight: t.Weight, Priority: t.Priority,
				Payload: t.Payload, Mode: string(t.Mode),
			},
			Index: int64(r.Instance.Index), Generation: uint64(r.Generation), Traceparent: tracing.BinaryParent(r.Trace),
		})
	}
}

// good reports whether a grant is one for this session and this spec.
func (c *session) good(r *record.Grant, mode rota.Mode, spec uint64) bool {
	return (r.Session == c.id || mode == rota.Available) && r.Spec == spec
}

// stopped reports whether the worker has said that it will not run r any more.
// It may have forgotten, and must not be asked to start it again: the leader is
// about to give it to somebody else.
func (c *session) stopped(v *view.View, r *record.Grant) bool {
	a, ok := v.Ack(c.name, r.Instance)
	return ok && a.Generation == r.Generation && a.State == ownership.Stopped
}

func revoke(r *record.Grant) *rotav1.RevokeItem {
	return &rotav1.RevokeItem{Task: r.Instance.Task, Index: int64(r.Instance.Index), Generation: uint64(r.Generation)}
}
