package peer

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/etcd"
)

// Config says which cluster a replica is part of and what runs there. Etcd (or
// Store), Root and Generator are needed, and are the same in all replicas.
type Config struct {
	// Etcd is the etcd that the replicas share: endpoints, user and password, TLS.
	// Its Root is set by Root below.
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
	// MaxNumNodes is the most replicas; for one more, Run returns
	// ErrWorkerNumExceedMaximum. Zero is no limit.
	MaxNumNodes int
	// Gather makes the very first plan wait for so many replicas, at most for
	// GatherWait (zero means 30 s), so that nothing is assigned twice over while
	// they come up. Later ones pass straight through. Zero is no barrier.
	Gather     int
	GatherWait time.Duration

	// Zone, Labels, Capacity, MaxTasks and Strength are what placement goes by;
	// see rota.Worker.
	Zone     string
	Labels   map[string]string
	Capacity map[string]float64
	MaxTasks int
	Strength float64
	// Placement is how tasks are placed.
	Placement placement.Options

	// Logger gets what happens. Nil is silent.
	Logger *slog.Logger
}

func (c Config) normalize() (Config, error) {
	bad := func(field string, value any, want string) (Config, error) {
		return c, fmt.Errorf("peer: %w", &rota.FieldError{Field: field, Value: value, Want: want})
	}
	switch {
	case c.Store == nil && len(c.Etcd.Endpoints) == 0:
		return bad("endpoints", "", "the address of an etcd; it is missing")
	case c.Root == "" || strings.Contains(c.Root, "/"):
		return bad("root", c.Root, "a name without slashes that separates clusters on one etcd")
	case c.Generator == nil:
		return bad("generator", "", "a function that lists the tasks; it is missing")
	case c.MaxNumNodes < 0:
		return bad("max_num_nodes", c.MaxNumNodes, "zero or more")
	case c.Gather < 0:
		return bad("gather", c.Gather, "zero or more")
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

// ownIP is the first address of this host that others may know it by.
func ownIP() string {
	addresses, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}
