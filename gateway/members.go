package gateway

import (
	"maps"
	"slices"
	"sync"
)

// Members is where a gateway learns of a cluster's workers: a scheduler
// implements it, MemoryMembers does for tests and programs of one process. All
// methods may be called at any time from any goroutine.
type Members interface {
	// Members are the workers as they are now. The slice is not changed later.
	Members() []Member
	// Owner is who holds the grant of a task, if anybody does.
	Owner(task string) (Owner, bool)
	// Changed returns a channel that is closed when Members may answer otherwise
	// than at the time of this call.
	Changed() <-chan struct{}
}

// Member is one worker of a cluster.
type Member struct {
	// Name is stable over restarts; Incarnation is not: another one is another
	// process, whose counts and health begin anew.
	Name, Incarnation string
	// URL is where it answers calls.
	URL string
	// Weight is its part of the calls; 0 means 1.
	Weight int
	// MaxInFlight is the most calls at once, 0 for no limit.
	MaxInFlight int
	// Functions are those that it offers, each with the packages that it needs.
	Functions map[string][]string
	State     MemberState
}

// MemberState says whether a member may be called.
type MemberState uint8

// States of a member.
const (
	Ready    MemberState = iota
	Draining             // finishes what it has, gets nothing new
	Dead                 // gets nothing; its calls are expected to fail
)

func (s MemberState) String() string {
	return [...]string{"ready", "draining", "dead"}[min(s, Dead)]
}

// Owner is the holder of a task's grant.
type Owner struct {
	// Worker is the Name of a member.
	Worker string
	// Generation is the fencing token of the grant.
	Generation uint64
}

// MemoryMembers is a Members that is told what is so. The zero value has none.
type MemoryMembers struct {
	mu      sync.Mutex
	members []Member
	owners  map[string]Owner
	changed chan struct{}
}

// Set replaces the members.
func (m *MemoryMembers) Set(members ...Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = slices.Clone(members)
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// SetOwner says who owns a task.
func (m *MemoryMembers) SetOwner(task string, o Owner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := maps.Clone(m.owners)
	if next == nil {
		next = map[string]Owner{}
	}
	next[task] = o
	m.owners = next
}

// Members implements Members.
func (m *MemoryMembers) Members() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members
}

// Owner implements Members.
func (m *MemoryMembers) Owner(task string) (Owner, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.owners[task]
	return o, ok
}

// Changed implements Members.
func (m *MemoryMembers) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}
