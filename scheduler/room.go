package scheduler

import (
	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// enter enters a grant that is about to be written into the account of its worker's
// capacity, and reports whether it may be written now, and whether moves that it waits
// for are to be looked at again. It waits while the worker still
// runs what is to leave it, so that at no time more is granted there than there is room
// for, and where a job was faster, until the next plan has looked for another place.
// What the plan put there for all that (a worker that has less than it runs) is granted.
func (l *leader) enter(h ownership.Held) (ok, again bool) {
	var capacity map[string]float64
	besides := false // it runs elsewhere until it runs here
	v := l.s.view
	v.Read(func() {
		if s := v.Sessions[h.Worker]; s != nil {
			capacity = s.Placeable(v.Nodes[h.Worker]).Capacity
		}
		t, ok := v.Tasks.Get(h.Instance.Task)
		besides = ok && t.Mode == rota.Available && len(v.Holders(h.Instance)) > 0
	})
	account := l.s.capacity
	ok, news := account.Grant(h.Instance, h.Worker, capacity, false)
	switch {
	case ok:
		return true, false
	case news:
		l.soon()
		return false, false
	case !besides: // else two that change places would wait for each other
		wait := false
		for _, i := range l.ledger.Aboard(h.Worker) {
			if i != h.Instance && l.ledger.Aim(i) != h.Worker && account.Takes(i, h.Worker) && !account.Hangs(i, h.Worker) {
				again = l.ledger.Hurry(i) || again
				wait = true
			}
		}
		if wait {
			return false, again
		}
	}
	ok, _ = account.Grant(h.Instance, h.Worker, capacity, true)
	return ok, false
}
