package scheduler

import (
	"context"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// removeOrphans deletes the tasks of programs that have ended without saying so:
// whose key went with the lease of their scheduler function, or belongs to a
// later run. whole is false if somebody wrote beside it. Those on pages of a later
// version stay until they can be read.
func (l *leader) removeOrphans(ctx context.Context) (whole bool, err error) {
	var units []table.Unit
	left := 0
	v := l.s.view
	v.Read(func() {
		var del []string
		for t := range v.Tasks.All() {
			name, run, ok := record.ProgramOf(t.Source)
			switch {
			case !ok || v.Programs[name] != nil && v.Programs[name].GetRun() == run:
			case v.Tasks.NewerAt(t.ID):
				left++
			default:
				del = append(del, t.ID)
			}
		}
		if len(del) > 0 {
			units, err = v.Tasks.Stage(nil, del)
		}
	})
	if err != nil || len(units) == 0 {
		if l.orphans = false; left > 0 {
			l.s.log.Warn("tasks of ended programs are kept: a newer version of rota wrote them", "tasks", left)
		}
		return true, err
	}
	for r := range l.pages.Write(ctx, units) {
		if !r.OK {
			return false, r.Err
		}
	}
	return true, nil // once more, in case there was more than fits
}

// endStopped ends the submitted programs that somebody stopped and that run nowhere any
// more: their process was lost before it came to its end. No worker need begin them for
// that. What was kept of programs whose task is gone goes, too. whole is false if
// there is more to do.
func (l *leader) endStopped(ctx context.Context) (whole bool, err error) {
	one, cancel := context.WithTimeout(ctx, l.s.cfg.Lease)
	kvs, _, err := l.s.cfg.Store.Range(one, store.HistoriesPrefix)
	cancel()
	if err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		l.s.log.Warn("cannot look for stopped programs", "error", err)
		return false, nil
	}
	whole = true
	for _, kv := range kvs {
		name, named := store.NameIn(store.HistoriesPrefix, kv.Key)
		m := &storepb.ProgramHistory{}
		if err := record.Decode(kv.Value, m); err != nil || !named {
			continue // whoever is to go on with the program says so
		}
		var units []table.Unit
		v, over := l.s.view, false
		if v.Revision() < kv.Mod { // what it is of may have begun since
			whole = false
			continue
		}
		v.Read(func() {
			id := record.SubmittedID(name)
			t, waits := v.Tasks.Get(id)
			waits = waits && strings.HasPrefix(t.Kind, rota.ProgramSchedulerKind)
			if v.Programs[name] != nil || waits && m.GetStop() == "" || v.Tasks.NewerAt(id) {
				return
			}
			over = true
			if waits {
				units, err = v.Tasks.Stage(nil, []string{id})
			}
		})
		if err != nil {
			return false, err
		}
		if !over {
			continue
		}
		units = append(units, table.Unit{
			Conds: []store.Cond{{Key: kv.Key, By: store.ByMod, Revision: kv.Mod}, {Key: store.ProgramKey(name), By: store.ByCreate}},
			Ops:   []store.Op{{Key: kv.Key, Delete: true}},
		})
		r := l.pages.Together(ctx, units...)
		if r.Err != nil {
			return false, r.Err
		}
		whole = whole && r.OK
	}
	l.histories = !whole
	return whole, nil
}

// keepFor is how long what happened to a program can be read after its end.
const keepFor = time.Hour

// keepEnded writes down what programs were that have ended, each under a lease of
// its own. It is for people, and no reason to end a term: what cannot be written
// at once is let go.
func (l *leader) keepEnded(ctx context.Context) error {
	ended := l.ended
	l.ended = nil
	for _, p := range ended {
		value, err := record.Encode(p)
		if err != nil {
			return err
		}
		one, cancel := context.WithTimeout(ctx, l.s.cfg.Lease)
		lease, _, err := l.s.cfg.Store.Grant(one, keepFor)
		cancel()
		if err != nil {
			l.s.log.Warn("program not recorded", "program", p.GetName(), "error", err)
			continue
		}
		if _, _, err := l.txn(ctx, nil, []store.Op{{Key: store.EndedKey(p.GetName()), Value: value, Lease: lease}}); err != nil {
			return err
		}
	}
	return nil
}
