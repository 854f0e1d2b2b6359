package scheduler

import (
	"context"
	"time"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/table"
)

// removeOrphans deletes the tasks of programs that have ended without saying so:
// whose key went with the lease of their scheduler function, or belongs to a
// later run. whole is false if somebody wrote beside it.
func (l *leader) removeOrphans(ctx context.Context) (whole bool, err error) {
	var units []table.Unit
	v := l.s.view
	v.Read(func() {
		var del []string
		for t := range v.Tasks.All() {
			name, run, ok := record.ProgramOf(t.Source)
			if ok && (v.Programs[name] == nil || v.Programs[name].GetRun() != run) {
				del = append(del, t.ID)
			}
		}
		if len(del) > 0 {
			units, err = v.Tasks.Stage(nil, del)
		}
	})
	if err != nil || len(units) == 0 {
		l.orphans = false
		return true, err
	}
	for _, packed := range table.Pack(units, 1) {
		if ok, err := l.write(ctx, packed); err != nil || !ok {
			return false, err
		}
	}
	return true, nil // once more, in case there was more than fits
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
			l.s.log.Warn("program not kept", "program", p.GetName(), "error", err)
			continue
		}
		if _, _, err := l.txn(ctx, nil, []store.Op{{Key: store.EndedKey(p.GetName()), Value: value, Lease: lease}}); err != nil {
			return err
		}
	}
	return nil
}
