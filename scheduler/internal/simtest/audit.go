package simtest

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
)

// audit reads the store beside everybody, without faults, and checks what is
// true at every revision of it.
type audit struct {
	c    *cluster
	view *view.View
	// desired are the tasks that were acknowledged; unsure are ids of which a change was
	// not, with the schedulers that may have it on its way. Both are the driver's, under c.mu.
	desired map[string]rota.Task
	unsure  map[string]map[*node]bool
	awaited awaited
	stop    context.CancelFunc
	done    chan struct{}
}

// doubt says that a scheduler may have a change of a task on its way. c.mu is held.
func (a *audit) doubt(id string, n *node) {
	if a.unsure[id] == nil {
		a.unsure[id] = map[*node]bool{}
	}
	a.unsure[id][n] = true
}

func newAudit(c *cluster) *audit {
	ctx, cancel := context.WithCancel(context.Background())
	a := &audit{
		c: c, view: view.New(c.store, slog.New(slog.DiscardHandler)), desired: map[string]rota.Task{}, unsure: map[string]map[*node]bool{},
		awaited: newAwaited(),
		stop:    cancel, done: make(chan struct{}),
	}
	a.view.Subscribe(nil, a.look)
	go func() {
		defer close(a.done)
		if err := a.view.Run(ctx); err != nil {
			c.history.fail("the store cannot be read: %v", err)
		}
	}()
	return a
}

func (a *audit) close() {
	a.stop()
	<-a.done
}

// look is told everything that changes, while the picture stands still.
func (a *audit) look(d *view.Delta) {
	v, h := a.view, a.c.history
	if d.Leader && v.Leader != nil {
		h.count(func(n *Counts) { n.Epochs++ })
		h.note("%s leads, epoch %d", v.Leader.Name, v.Leader.Epoch)
	}
	for _, s := range d.Sessions {
		switch {
		case s.New == nil:
			h.note("session %d of %s ends", s.Old.ID, s.Name)
			if !s.Old.GetLeaving() || a.view.Returns(s.Old) { // one that leaves while it is drained stays away
				a.awaited.gone(s.Name, s.Old)
			}
		case s.Old == nil:
			h.count(func(n *Counts) { n.Sessions++ })
			h.note("session %d of %s begins: %s", s.New.ID, s.Name, s.New.GetIncarnation())
			a.awaited.back(s.Name)
		}
	}
	for _, name := range d.Nodes {
		if v.Nodes[name].GetDraining() { // somebody wants it empty: nobody waits for it
			a.awaited.back(name)
		}
	}
	for _, t := range d.Tasks {
		a.awaited.changed(t.Key)
	}
	a.grants(d)
	for worker, changes := range d.Acks {
		for _, k := range changes {
			if k.New != nil {
				h.note("%s acknowledges %s generation %d %s", worker, k.New.Instance, k.New.Generation, k.New.State)
			}
		}
	}
	for _, t := range d.Tasks {
		if t.New != nil {
			continue
		}
		a.c.mu.Lock()
		_, declared := a.desired[t.Key]
		lost := declared && len(a.unsure[t.Key]) == 0
		a.c.mu.Unlock()
		if lost {
			h.fail("task %s was declared and is gone", t.Key)
		}
	}
}

// grants checks the changes of grants in the order in which they were given.
func (a *audit) grants(d *view.Delta) {
	v, h := a.view, a.c.history
	type change struct {
		worker string
		table.Change[record.Grant]
	}
	var list []change
	for worker, changes := range d.Grants {
		for _, g := range changes {
			if g.New == nil {
				h.note("grant of %s to %s generation %d is gone", g.Old.Instance, worker, g.Old.Generation)
				t, _ := v.Tasks.Get(g.Old.Instance.Task)
				a.awaited.released(worker, g.Old, t, a.c.lease)
				continue
			}
			list = append(list, change{worker, g})
		}
	}
	slices.SortFunc(list, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.New.Generation, b.New.Generation), a.New.Instance.Compare(b.New.Instance))
	})
	for _, g := range list {
		switch {
		case g.Old != nil && g.Old.Generation == g.New.Generation:
			h.note("grant of %s to %s generation %d is revoked", g.New.Instance, g.worker, g.New.Generation)
		default:
			h.note("grant of %s to %s generation %d session %d, revoked %v", g.New.Instance, g.worker, g.New.Generation, g.New.Session, g.New.Revoked)
			h.grant(g.New.Instance, g.worker, g.New.Generation)
			if g.Old != nil && g.Old.Session != g.New.Session {
				h.count(func(n *Counts) { n.Kept++ })
			}
			if from := a.awaited.lost(g.worker, g.New); from != "" && g.Old == nil && !h.garbage() {
				h.fail("%s is granted to %s because %s, while %s may still come back to it", g.New.Instance, g.worker, g.New.Reason, from)
			}
		}
		t, ok := v.Tasks.Get(g.New.Instance.Task)
		if ok && t.Mode == rota.Exclusive && a.wasExclusive(t.ID) && len(v.Holders(g.New.Instance)) > 1 {
			h.fail("%s is granted to %v at once", g.New.Instance, v.Holders(g.New.Instance))
		}
	}
}

// wasExclusive reports whether a task has been exclusive from its declaration on:
// ids say so, because the mode of the others may change.
func (a *audit) wasExclusive(id string) bool { return id[0] == 'e' || id[0] == 'l' }
