package peer

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// Config configures a replica. Etcd (or Store), Root and Generator are required, and must
// be the same in all replicas.
type Config struct {
	// Etcd configures the etcd that the replicas share: endpoints, user and password, TLS
	// from files or memory, or an existing client. Its Root is derived from Root below.
	Etcd etcd.Config
	// Store replaces Etcd, for tests or if a store is already open. The node does not close
	// it.
	Store store.Store
	// Root separates clusters on one etcd: "feeds" and "caches" are different clusters.
	Root string
	// Name identifies the replica; live replicas have different names. Empty means
	// {ip}-{pid}. A name that stays the same over restarts causes fewer moves.
	Name string

	// Generator returns the service's list of tasks. The leader calls it at least once per
	// Interval and whenever replicas join or leave. An error, or no answer within Timeout,
	// changes nothing.
	Generator source.Generator
	// Hold is the fraction of the tasks that a new list may remove at once. A list that
	// removes more, or all tasks, is accepted only after it has stayed the same for HoldFor
	// (zero means 10 min). Zero means 1, which holds no list: the generator belongs to the
	// service, and should return an error when it does not know the tasks.
	Hold    float64
	HoldFor time.Duration
	// Interval is the maximum time between two passes. Zero means 60 s.
	Interval time.Duration
	// Timeout is the time limit of one call of Generator. Zero means 30 s.
	Timeout time.Duration
	// ReBalanceWait is the time that a pass waits for further changes, so that several
	// replicas that join or leave cause one pass. Zero means 25 ms.
	ReBalanceWait time.Duration

	// TTL is the lease of a replica: the time after a disconnect or a kill until its tasks
	// run elsewhere. Zero means 5 s; the minimum is 1 s.
	TTL time.Duration
	// MaxNumNodes is the maximum number of live replicas. Each is a worker and a scheduler,
	// and counts once. (In the old escheduler, the number includes a master: its 4 is 3
	// here.) A further replica waits; a killed one keeps its place until its TTL is over.
	// Zero means no limit.
	MaxNumNodes int
	// JoinWait is the time that a further replica waits before Run returns
	// ErrWorkerNumExceedMaximum; meanwhile Err returns it. Zero means no limit.
	JoinWait time.Duration
	// Gather is the number of replicas for which the very first plan waits, at most for
	// GatherWait (zero means 30 s), so that tasks are not moved while the replicas start.
	// Later replicas do not wait. Zero means no barrier.
	Gather     int
	GatherWait time.Duration

	// Zone, Labels, Capacity, MaxTasks and Strength are used by placement; see rota.Worker.
	Zone     string
	Labels   map[string]string
	Capacity map[string]float64
	MaxTasks int
	Strength float64
	// Placement configures the planner.
	Placement placement.Options

	// Exit is called with worker.ExitFenced (75) when a task still runs after its lease has
	// ended, so that another replica may already run it. Nil means os.Exit, after a line on
	// standard error. If Exit returns, Run returns worker.ErrOutlived at once; the service
	// itself must then deal with the task and the process.
	Exit func(code int)

	// Logger is the logger. Nil discards messages.
	Logger *slog.Logger
}

func (c Config) normalize() (Config, error) {
	bad := func(field string, value any, want string) (Config, error) {
		return c, fmt.Errorf("peer: %w", &rota.FieldError{Field: field, Value: value, Want: want})
	}
	switch {
	case c.Store == nil && len(c.Etcd.Endpoints) == 0 && c.Etcd.Client == nil:
		return bad("endpoints", "", "the address of an etcd; it is missing")
	case c.Root == "":
		return bad("root", c.Root, "a name that separates clusters on one etcd; it is missing")
	case c.Generator == nil:
		return bad("generator", "", "a function that lists the tasks; it is missing")
	case c.MaxNumNodes < 0:
		return bad("max_num_nodes", c.MaxNumNodes, "zero or more")
	case c.Gather < 0:
		return bad("gather", c.Gather, "zero or more")
	}
	if c.Hold < 0 || c.Hold > 1 {
		return bad("hold", c.Hold, "a fraction above 0, at most 1")
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"interval", c.Interval},
		{"timeout", c.Timeout},
		{"rebalance_wait", c.ReBalanceWait},
		{"ttl", c.TTL},
		{"gather_wait", c.GatherWait},
		{"join_wait", c.JoinWait},
		{"hold_for", c.HoldFor},
	} {
		if d.value < 0 {
			return bad(d.field, d.value, "zero or more")
		}
	}
	c.Etcd.Root = store.PeerRoot(c.Root)
	if c.Name == "" {
		c.Name = fmt.Sprintf("%s-%d", ownIP(), os.Getpid())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// ownIP is the first address of this host that others may know it by: of IPv4, if it
// has one.
func ownIP() string {
	addresses, _ := net.InterfaceAddrs() // without any there is the last resort
	return firstIP(addresses)
}

func firstIP(addresses []net.Addr) string {
	first := "127.0.0.1"
	for _, a := range addresses {
		switch n, ok := a.(*net.IPNet); {
		case !ok || !n.IP.IsGlobalUnicast():
		case n.IP.To4() != nil:
			return n.IP.String()
		case first == "127.0.0.1":
			first = n.IP.String()
		}
	}
	return first
}
