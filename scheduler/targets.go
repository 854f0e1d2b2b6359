package scheduler

import (
	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/blame"
	"github.com/rota-project/rota/scheduler/internal/record"
)

// setTask takes a task in.
func (l *leader) setTask(t *record.Task) {
	l.instances += replicas(t)
	if _, ok := l.suspects.docket.Of(t.ID); ok { // a digest of all that it runs takes time
		l.suspects.docket.Declared(blame.Task{ID: t.ID, Spec: record.Spec(t)})
	}
	l.tellPlanner(t)
}

// tellPlanner tells the planner of a task, and the ledger of a changed spec. One that
// is withheld is nowhere.
func (l *leader) tellPlanner(t *record.Task) {
	task := t.Task()
	if s, ok := l.suspects.docket.Of(t.ID); ok && s.Withheld() {
		l.planner.RemoveTask(t.ID)
		for n := range replicas(t) {
			l.aim(rota.Instance{Task: t.ID, Index: n}, ownership.Target{Reason: withheldReason})
		}
		return
	} else if ok {
		task = onTrial(task, s)
	}
	if err := l.planner.SetTask(task); err != nil {
		l.s.log.Error("task cannot be placed", "task", t.ID, "error", err)
		return
	}
	for n := range replicas(t) {
		i := rota.Instance{Task: t.ID, Index: n}
		worker, ok := l.planner.Where(i)
		if !ok {
			// Its worker may be away: should that return, it is given what is declared now.
			worker = l.ledger.Aim(i)
		}
		if worker != "" {
			l.aim(i, target(t, worker, ""))
		}
	}
}

// drop has the instances that are declared no longer be nowhere. The planner
// says so of those that it finds on living workers only; one whose worker is
// away must not be given back to it when it returns.
func (l *leader) drop(was, is *record.Task) {
	if was == nil {
		return
	}
	from := 0
	if is != nil {
		from = replicas(is)
	}
	for n := from; n < replicas(was); n++ {
		l.aim(rota.Instance{Task: was.ID, Index: n}, ownership.Target{Reason: placement.Text(rota.Undeclared)})
	}
}

// aim says where an instance should be, to the ledger and to the account of capacity.
func (l *leader) aim(i rota.Instance, t ownership.Target) {
	l.ledger.Target(i, t)
	l.s.capacity.Aim(i, t.Worker)
}

// replicas is how many instances t has; nil has none.
func replicas(t *record.Task) int {
	if t == nil {
		return 0
	}
	return max(t.Replicas, 1)
}

func target(t *record.Task, worker, reason string) ownership.Target {
	return ownership.Target{
		Worker: worker, Mode: t.Mode, Priority: t.Priority, Spec: record.Spec(t), Reason: reason,
	}
}
