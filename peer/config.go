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

// Config says which cluster a replica is part of and what runs there. Etcd (or
// Store), Root and Generator are needed, and are the same in all replicas.
type Config struct {
	// Etcd is the etcd that the replicas share: endpoints, user and password, TLS, each
	// by files or in memory, or a client that is there already. Its Root is set by Root
	// below.
	Etcd etcd.Config
	// Store is used in place of Etcd, for tests or where it is open already. The
	// node does not close it.
	Store store.Store
	// Root separates clusters on one etcd: "feeds" is another one than "caches".
	Root string
	// Name tells replicas apart; no two that live have the same. Empty makes it
	// {ip}-{pid}. One that stays the same over restarts moves less.
	Name string

	// Generator is the service's own list of what should run. The leader asks it
	// at least each Interval and whenever replicas come and go; an error, or no
	// answer within Timeout, leaves everything as it is.
	Generator source.Generator
	// Hold is the part of its tasks above which a list may not remove more at once: such
	// a list, and one that removes all, is taken only after it has been the same for
	// HoldFor (zero means 10 min). Zero means 1, which holds none: the generator is the
	// service's own, and answers an error when it does not know.
	Hold    float64
	HoldFor time.Duration
	// Interval is the most time between two passes. Zero means 60 s.
	Interval time.Duration
	// Timeout bounds one call of Generator. Zero means 30 s.
	Timeout time.Duration
	// ReBalanceWait is how long a pass waits for more changes, so that several
	// replicas that come or go make one pass. Zero means 25 ms.
	ReBalanceWait time.Duration

	// TTL is how long a replica is trusted without a word: its tasks run elsewhere
	// that long after it was cut off or killed. Zero means 5 s; at least 1 s.
	TTL time.Duration
	// MaxNumNodes is the most replicas that may live: each is a worker, and a
	// scheduler that needs no place of its own. (In the old escheduler the number
	// counts a master beside the workers: its 4 is 3 here.) One more waits: a replica
	// that was killed has its place until its TTL is over. Zero is no limit.
	MaxNumNodes int
	// JoinWait is how long such a one waits, until Run returns
	// ErrWorkerNumExceedMaximum; meanwhile Err says so. Zero is for ever.
	JoinWait time.Duration
	// Gather makes the very first plan wait for so many replicas, at most for
	// GatherWait (zero means 30 s), so that nothing is assigned twice over while
	// they come up. Later ones pass straight through. Zero is no barrier.
	Gather     int
	GatherWait time.Duration

	// Zone, Labels, Capacity, MaxTasks and Strength are used by placement; see rota.Worker.
	Zone     string
	Labels   map[string]string
	Capacity map[string]float64
	MaxTasks int
	Strength float64
	// Placement has the options of placement.
	Placement placement.Options

	// Exit is called, with worker.ExitFenced (75), when a task runs on though its
	// lease has ended: another replica may be running it by now. Nil means os.Exit,
	// after a line on standard error. One that returns has Run return
	// worker.ErrOutlived at once; what is to become of the task and the process is then
	// the service's own affair.
	Exit func(code int)

	// Logger logs what happens. Nil logs nothing.
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
