package scheduler

import (
	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store/record"
)

// setTask tells the planner of a task, and the ledger of a changed spec.
func (l *leader) setTask(t *record.Task) {
	l.instances += replicas(t)
	if err := l.planner.SetTask(t.Task()); err != nil {
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
			l.ledger.Target(i, target(t, worker, ""))
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
		l.ledger.Target(rota.Instance{Task: was.ID, Index: n}, ownership.Target{Reason: "no task declares it"})
	}
}

func replicas(t *record.Task) int { return max(t.Replicas, 1) }

func target(t *record.Task, worker, reason string) ownership.Target {
	return ownership.Target{
		Worker: worker, Mode: t.Mode, Priority: t.Priority, Spec: record.Spec(t), Reason: reason,
	}
}
