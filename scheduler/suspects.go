package scheduler

import (
	"errors"
	"fmt"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/blame"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// suspects are the leader's account of tasks that may be killing their workers. It is
// in the store, so that the next leader goes on with it. Whoever releases a task takes
// it out of there.
type suspects struct {
	docket  *blame.Docket
	birth   time.Time
	dirty   bool            // not written yet
	mod     int64           // the revision at which it was last written, by this leader or before
	saved   map[string]bool // the tasks that were in it then
	writing []string        // the tasks of what is being written
}

func newSuspects(after int, now time.Time) suspects {
	limits := blame.Default()
	limits.Deaths = max(after, 0)
	return suspects{docket: &blame.Docket{Limits: limits}, birth: now, saved: map[string]bool{}}
}

// clock is the docket's reading of a moment.
func (s *suspects) clock(now time.Time) blame.Time { return now.Sub(s.birth) }

// next is when the docket has something to do.
func (s *suspects) next() (time.Time, bool) {
	at, ok := s.docket.Next()
	return s.birth.Add(at), ok
}

// loadSuspects goes on with what the leader before knew; the view stands still.
func (l *leader) loadSuspects() {
	v, s := l.s.view, &l.suspects
	var list []blame.Suspect
	for id, m := range v.Suspects {
		s.saved[id] = true
		if _, ok := v.Tasks.Get(id); !ok {
			s.dirty = true
			continue
		}
		list = append(list, blame.Suspect{
			Task:  blame.Task{ID: id, Spec: m.GetSpec()},
			State: blame.State(m.GetState()), Deaths: int(m.GetDeaths()), Workers: m.GetWorkers(),
		})
	}
	s.mod = v.Mod(store.SuspectsKey)
	if fault := v.Fault(store.SuspectsKey); fault != nil && !errors.Is(fault, rota.ErrNewerVersion) {
		s.dirty = true
	}
	s.docket.Load(s.clock(time.Now()), list, living(v))
}

// living is how many workers live and do not leave; the view stands still.
func living(v *view.View) (n int) {
	for _, s := range v.Sessions {
		if !s.GetLeaving() {
			n++
		}
	}
	return n
}

// died takes in the death of a worker's process, before the ledger knows of it.
func (l *leader) died(gone *view.Session) {
	v, s := l.s.view, &l.suspects
	name := gone.GetName()
	var aboard []blame.Task
	alive := 0
	v.Read(func() {
		alive = living(v)
		for _, i := range l.ledger.Aboard(name) {
			if t, ok := v.Tasks.Get(i.Task); ok && !l.livesOn(t, i, name) {
				aboard = append(aboard, blame.Task{ID: t.ID, Spec: record.Spec(t)})
			}
		}
	})
	s.docket.Died(s.clock(time.Now()), name, gone.GetIncarnation(), aboard, alive)
}

// livesOn reports whether another instance of a task has been running for some time
// on a worker that lives: so it is not the task. The view stands still.
func (l *leader) livesOn(t *record.Task, i rota.Instance, died string) bool {
	v := l.s.view
	for n := range replicas(t) {
		other := rota.Instance{Task: t.ID, Index: n}
		worker, g := v.Owner(other)
		if n == i.Index || g == nil || worker == died || v.Sessions[worker] == nil {
			continue
		}
		a, ok := v.Ack(worker, other)
		if ok && a.Generation == g.Generation && a.State == ownership.Running && time.Since(time.UnixMilli(a.Since)) > blame.Default().MinTrial {
			return true
		}
	}
	return false
}

// weigh carries out what has changed in the standing of tasks.
func (l *leader) weigh(now time.Time) {
	s, v := &l.suspects, l.s.view
	s.docket.Tick(s.clock(now))
	changed := s.docket.Changes()
	if len(changed) == 0 {
		return
	}
	s.dirty = true
	l.soon()
	v.Read(func() {
		for _, id := range changed {
			if t, ok := v.Tasks.Get(id); ok {
				l.tellPlanner(t)
			}
		}
	})
	for _, id := range changed {
		l.tellSuspect(id)
	}
	for n, id := range changed {
		if n == maxTold {
			l.s.log.Warn("and more tasks are suspected, or no longer", "tasks", len(changed)-n)
			break
		}
		if x, ok := s.docket.Of(id); ok {
			l.s.log.Warn("task suspected of killing its workers", "task", id, "state", x.State, "deaths", x.Deaths, "workers", x.Workers)
		} else {
			l.s.log.Info("task no longer suspected", "task", id)
		}
	}
}

// maxTold is of how many suspects the log tells at once.
const maxTold = 20

// released notes which tasks somebody has released. An account that was deleted
// releases all; one that cannot be read releases none, and is written again, unless it
// is of a later version: that stays until there is something to write.
func (l *leader) released() {
	s, v := &l.suspects, l.s.view
	var gone []string
	at := v.Revision()
	v.Read(func() {
		mod := v.Mod(store.SuspectsKey)
		switch {
		case mod != 0 && mod <= s.mod:
			return // our own
		case mod == 0 && (s.mod == 0 || at < s.mod):
			return // known, or our own is still to come
		}
		if !errors.Is(v.Fault(store.SuspectsKey), rota.ErrNewerVersion) {
			s.dirty = true
		}
		for id := range s.saved {
			if v.Suspects[id] == nil {
				gone = append(gone, id)
				delete(s.saved, id)
			}
		}
		s.mod = mod
	})
	for _, id := range gone {
		s.docket.Release(s.clock(time.Now()), id)
	}
}

// suspectsOp writes the account, if it has changed: else its value is nil. It is to be
// written only if nobody has since suspects.mod.
func (l *leader) suspectsOp() (store.Op, error) {
	s := &l.suspects
	if !s.dirty {
		return store.Op{}, nil
	}
	m := &storepb.Suspects{Version: record.Version}
	now := time.Now()
	s.writing = nil
	all := s.docket.Suspects()
	names := maxAccount/max(len(all), 1) - maxBare // bytes of names that each may have
	for _, x := range all {
		since := now.Add(x.Changed - s.clock(now))
		m.Suspects = append(m.Suspects, &storepb.Suspect{
			Task: x.ID, Spec: x.Spec, State: string(x.State), SinceUnixMs: since.UnixMilli(), Deaths: int64(x.Deaths),
			Workers: latest(x.Workers, names),
		})
		s.writing = append(s.writing, x.ID)
	}
	value, err := record.Encode(m)
	return store.Op{Key: store.SuspectsKey, Value: value}, err
}

const (
	// maxAccount is the most bytes of the account: what else is kept goes into the
	// same transaction.
	maxAccount = store.MaxTxnBytes / 2
	// maxBare is what a suspect takes at most beside the names of workers.
	maxBare = rota.MaxIDLen + 64
)

// latest are the last of names that take no more than so many bytes.
func latest(names []string, most int) []string {
	from := len(names)
	for from > 0 && len(names[from-1])+4 <= most {
		from--
		most -= len(names[from]) + 4
	}
	return names[from:]
}

// written notes that what suspectsOp answered last is in the store.
func (s *suspects) written(rev int64) {
	s.dirty, s.mod = false, rev
	clear(s.saved)
	for _, id := range s.writing {
		s.saved[id] = true
	}
}

// withheldReason is why a suspect has to stop.
const withheldReason = "workers died while running it"

// onTrial is how a suspect is placed: on a worker without another of its lot.
func onTrial(t rota.Task, s blame.Suspect) rota.Task {
	t.Group, t.Key = fmt.Sprintf("rota.suspects.%d", s.Lot), ""
	if n := len(t.Rules.Affinity); n < rota.MaxRules {
		t.Rules.Affinity = append(t.Rules.Affinity[:n:n], rota.Affinity{Group: t.Group, Anti: true, Required: true})
	}
	return t
}
