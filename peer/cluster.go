package peer

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store"
)

// Cluster is who runs what in the whole cluster.
type Cluster struct {
	// AsOf is the latest moment at which this is known to have been so.
	AsOf time.Time
	// Leader is the replica that decides; empty while there is none.
	Leader string
	// Replicas are those that live, in order. One that was killed lives until its
	// lease ends.
	Replicas []string
	// Instances are all of all tasks, in order.
	Instances []Placed
	// AllRunning says that each of them is known to run; see Node.IsAllRunning.
	AllRunning bool
}

// Placed is where one instance is.
type Placed struct {
	rota.Instance
	// Replica has it; empty while nobody does.
	Replica string
	// Generation is that of the grant.
	Generation rota.Generation
	// State is what the replica says of it, as "running"; empty before it has.
	State ownership.State
}

// Cluster answers who runs what in the whole cluster, as this replica's picture of
// etcd has it. An error says that there is no picture yet.
func (n *Node) Cluster() (Cluster, error) {
	n.mu.Lock()
	sched := n.sched
	n.mu.Unlock()
	if sched == nil || sched.View().Revision() == 0 {
		return Cluster{}, errors.New("peer: cluster: nothing has been read from etcd yet")
	}
	v := sched.View()
	out := Cluster{AsOf: v.AsOf(), AllRunning: n.IsAllRunning()}
	v.Read(func() {
		if v.Leader != nil {
			out.Leader = v.Leader.Name
		}
		out.Replicas = slices.Sorted(maps.Keys(v.Sessions))
		out.Instances = make([]Placed, 0, v.Instances())
		for t := range v.Tasks.All() {
			for index := range max(t.Replicas, 1) {
				p := Placed{Instance: rota.Instance{Task: t.ID, Index: index}}
				if who, g := v.Owner(p.Instance); g != nil {
					p.Replica, p.Generation = who, g.Generation
					if a, ok := v.Ack(who, p.Instance); ok && a.Generation == g.Generation {
						p.State = a.State
					}
				}
				out.Instances = append(out.Instances, p)
			}
		}
	})
	return out, nil
}

// ElectionKey is the key in etcd that whoever leads holds, for those who watch it.
// Cluster says who that is.
func (n *Node) ElectionKey() string { return store.PeerRoot(n.cfg.Root) + store.LeaderKey }
