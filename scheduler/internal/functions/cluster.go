// Package functions shows a scheduler's picture of the cluster to a gateway: its
// workers with the functions that they offer, and who owns which task.
//
// Package server calls it. It only reads the view, and decides nothing.
package functions

import (
	"sort"
	"sync"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/gateway"
	"github.com/rota-project/rota/internal/offer"
	"github.com/rota-project/rota/scheduler/internal/view"
)

// Members is a gateway.Members of a view. Close it when the gateway has ended.
type Members struct {
	view *view.View
	sub  *view.Subscription

	mu      sync.Mutex
	members []gateway.Member
	changed chan struct{}
}

// New follows the view.
func New(v *view.View) *Members {
	m := &Members{view: v, changed: make(chan struct{})}
	m.sub = v.Subscribe(m.look, func(d *view.Delta) {
		if len(d.Sessions) > 0 || len(d.Nodes) > 0 {
			m.look()
		}
	})
	return m
}

// Close stops following.
func (m *Members) Close() { m.sub.Close() }

// look takes the members from the view while it stands still.
func (m *Members) look() {
	var list []gateway.Member
	for name, s := range m.view.Sessions {
		url, fns, ok := offer.FromLabels(s.GetLabels())
		if !ok {
			continue
		}
		state := gateway.Ready
		if n := m.view.Nodes[name]; n.GetDraining() {
			state = gateway.Draining
		}
		list = append(list, gateway.Member{Name: name, Incarnation: s.GetIncarnation(), URL: url, Functions: fns, State: state})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = list
	close(m.changed)
	m.changed = make(chan struct{})
}

// Members implements gateway.Members.
func (m *Members) Members() []gateway.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members
}

// Changed implements gateway.Members.
func (m *Members) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Owner implements gateway.Members: of several holders of a task (during an
// overlapping hand-over) the one of the highest generation.
func (m *Members) Owner(task string) (o gateway.Owner, ok bool) {
	i := rota.Instance{Task: task}
	m.view.Read(func() {
		for _, w := range m.view.Holders(i) {
			if g, has := m.view.Grant(w, i); has && (!ok || uint64(g.Generation) > o.Generation) {
				o, ok = gateway.Owner{Worker: w, Generation: uint64(g.Generation)}, true
			}
		}
	})
	return o, ok
}
