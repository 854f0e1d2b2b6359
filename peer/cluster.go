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
	// AsOf is the latest time at which this is known to have been true.
	AsOf time.Time
	// Leader is the name of the leading replica; empty while there is none.
	Leader string
	// Replicas are the names of the live replicas, in order. A killed replica counts as
	// live until its lease ends.
	Replicas []string
	// Instances are all instances of all tasks, in order.
	Instances []Placed
	// AllRunning means that all of them are known to run; see Node.IsAllRunning.
	AllRunning bool
}

// Placed is an instance and its replica.
type Placed struct {
	rota.Instance
	// Replica is the name of the replica that has it; empty if none does.
	Replica string
	// Generation is the number of the grant.
	Generation rota.Generation
	// State is what the replica reported, such as "running"; empty before its first report.
	State ownership.State
}

// Cluster returns who runs what in the whole cluster, according to this replica's view of
// etcd. It returns an error while there is no view yet.
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

// ElectionKey returns the key in etcd that the leader holds, for programs that watch it.
// Cluster returns the leader's name.
func (n *Node) ElectionKey() string { return store.PeerRoot(n.cfg.Root) + store.LeaderKey }
