package simtest

import (
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
)

// awaited judges what becomes of the instances of workers that were lost and may
// come back within their grace: none is given away as if nobody had it. Other
// reasons to move it are none of its business.
type awaited struct {
	workers map[string]absence
	freed   map[rota.Instance]absence // in which one
	touched map[string]time.Time      // when a task changed last
}

type absence struct {
	worker       string
	session      int64
	since, until time.Time
}

func newAwaited() awaited {
	return awaited{workers: map[string]absence{}, freed: map[rota.Instance]absence{}, touched: map[string]time.Time{}}
}

// slack is the rounding of what the store has of times.
const slack = 5 * time.Millisecond

// gone notes the end of a session.
func (a *awaited) gone(worker string, s *view.Session) {
	now := time.Now()
	if grace := time.Duration(s.GetRestartGraceMs()) * time.Millisecond; grace > 0 {
		a.workers[worker] = absence{worker, s.ID, now, now.Add(grace - slack)}
	}
}

func (a *awaited) back(worker string) { delete(a.workers, worker) }

func (a *awaited) changed(task string) { a.touched[task] = time.Now() }

// released notes that a grant of the session that ended is gone. Left out are
// tasks that changed lately, because a leader may learn of it late, those with
// instances that may have to make room for each other, and those of which two
// workers may have grants.
func (a *awaited) released(worker string, g *record.Grant, t *record.Task, lease time.Duration) {
	delete(a.freed, g.Instance)
	w := a.workers[worker]
	its := g.Session == w.session && !g.Revoked && time.Now().Before(w.until)
	simple := t != nil && t.Replicas == 1 && t.Mode == rota.Exclusive && a.touched[t.ID].Add(2*lease).Before(w.since)
	if its && simple {
		a.freed[g.Instance] = w
	}
}

// lost is the worker that should have kept the instance of a new grant.
func (a *awaited) lost(to string, g *record.Grant) string {
	w := a.freed[g.Instance]
	delete(a.freed, g.Instance)
	nobodys := g.Reason == placement.Text(rota.Unplaced) || g.Reason == placement.Text(rota.WorkerGone, w.worker)
	over := w != a.workers[w.worker] || !time.Now().Before(w.until)
	if over || w.worker == to || !nobodys || a.touched[g.Instance.Task].After(w.since) {
		return ""
	}
	return w.worker
}
