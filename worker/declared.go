package worker

import (
	"sync"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// declared is what was last told of a task.
type declared struct {
	mu      sync.Mutex
	task    rota.Task
	changed chan struct{} // closed at the next change
}

// update takes over what can change under a grant, and reports whether anything did.
func (d *declared) update(to rota.Task) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := &d.task
	if t.Group == to.Group && t.Key == to.Key && t.Weight == to.Weight && t.Priority == to.Priority {
		return false
	}
	t.Group, t.Key, t.Weight, t.Priority = to.Group, to.Key, to.Weight, to.Priority
	close(d.changed)
	d.changed = make(chan struct{})
	return true
}

// Current is Task as it is declared now, and a channel that is closed at its next
// change. Another Kind, Payload or Mode ends the grant, and with it the context of
// the call, except that an available task may stay what it is under a later
// generation. Another Group, Key, Weight or Priority changes nothing of the grant: a
// function that goes by them looks again when the channel is closed, others need not.
func (a Assigned) Current() (t rota.Task, changed <-chan struct{}) {
	if a.declared == nil {
		return a.Task, nil // made by hand
	}
	a.declared.mu.Lock()
	defer a.declared.mu.Unlock()
	return a.declared.task, a.declared.changed
}

// update takes what is now declared of an instance under the grant that it has.
func (l *loop) update(i rota.Instance, gen rota.Generation, to rota.Task, now ownership.Time) {
	a, ok := l.orders[i]
	if ok && a.Generation() == gen && l.holder.Holds(i) && a.declared.update(to) {
		l.holder.Update(i, gen, to.Priority, now)
	}
}
