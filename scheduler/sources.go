package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/store/table"
)

// sourceList is what a source gave.
type sourceList struct {
	source *source.Source
	tasks  []rota.Task
	err    error
	// refused is set by the leader if the list could not be taken: it is wanted
	// again even if it does not change.
	refused *atomic.Bool
}

// read asks a source every so often, and when it is kicked, until the term ends.
func (l *leader) read(ctx context.Context, src *source.Source, kick <-chan struct{}) {
	if src.Reset != nil {
		src.Reset()
	}
	every := src.Every
	if every == 0 {
		every = l.s.cfg.Interval
	}
	var refused atomic.Bool
	for first := true; ctx.Err() == nil; first = false {
		if refused.Swap(false) && src.Reset != nil {
			src.Reset()
		}
		// A reading that ignores its context is left behind, and its answer with it.
		answer := make(chan sourceList, 1)
		one, cancel := context.WithTimeout(ctx, l.s.cfg.Timeout)
		go func() { answer <- readOnce(one, src) }()
		var list sourceList
		select {
		case list = <-answer:
		case <-one.Done():
			select {
			case list = <-answer:
			default:
				list = sourceList{source: src, err: fmt.Errorf("no answer within %s", l.s.cfg.Timeout), refused: &refused}
				if ctx.Err() == nil {
					l.hand(ctx, list)
					// One reading at a time.
					select {
					case list = <-answer:
					case <-ctx.Done():
					}
				}
			}
		}
		cancel()
		if first || !errors.Is(list.err, source.ErrUnchanged) {
			list.refused = &refused
			l.hand(ctx, list)
		}
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-kick:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (l *leader) hand(ctx context.Context, list sourceList) {
	select {
	case l.lists <- list:
	case <-ctx.Done():
	}
}

func readOnce(ctx context.Context, src *source.Source) (list sourceList) {
	list.source = src
	defer func() {
		if p := recover(); p != nil {
			list.err = fmt.Errorf("panic: %v", p)
		}
	}()
	list.tasks, list.err = src.Read(ctx)
	return list
}

// reconcile makes a source's list the declared one. A list that is wrong in any
// place changes nothing. An error ends the term.
func (l *leader) reconcile(ctx context.Context, list sourceList) error {
	err := list.err
	if errors.Is(err, source.ErrUnchanged) {
		return nil
	}
	if err == nil {
		err = l.declare(ctx, list.source.Name, list.tasks)
	}
	if errors.Is(err, errDeposed) || ctx.Err() != nil {
		return err
	}
	if err != nil && list.refused != nil {
		list.refused.Store(true)
	}
	return l.tellSource(ctx, list.source.Name, len(list.tasks), err)
}

// declare writes the difference between a source's tasks and those in the store.
func (l *leader) declare(ctx context.Context, name string, tasks []rota.Task) error {
	want := make(map[string]bool, len(tasks))
	set := make([]record.Task, 0, len(tasks))
	for _, t := range tasks {
		if err := placement.CheckTask(t); err != nil {
			return fmt.Errorf("task %q: %w", t.ID, err)
		}
		if want[t.ID] {
			return fmt.Errorf("task %q: %w", t.ID, &rota.FieldError{Field: "id", Value: t.ID, Want: "each once; it is there twice"})
		}
		want[t.ID] = true
		set = append(set, record.NewTask(t, name))
	}
	for {
		var units []table.Unit
		var err error
		v := l.s.view
		v.Read(func() {
			var del []string
			for t := range v.Tasks.All() {
				switch {
				case t.Source == name && !want[t.ID]:
					del = append(del, t.ID)
				case t.Source != name && want[t.ID]:
					by := t.Source
					if by == "" {
						by = "the API"
					}
					err = fmt.Errorf("task %q: %w", t.ID,
						&rota.FieldError{Field: "id", Value: t.ID, Want: "an id that " + by + " has not declared"})
					return
				}
			}
			units, err = v.Tasks.Stage(set, del)
		})
		if err != nil || len(units) == 0 {
			return err
		}
		for _, packed := range table.Pack(units, 1) {
			ok, err := l.write(ctx, packed)
			if err != nil {
				return err
			}
			if !ok {
				// Somebody declares beside us: look again when the view has it.
				sleep(ctx, 5*time.Millisecond)
				break
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// tellSource writes down how a source does, if that is news.
func (l *leader) tellSource(ctx context.Context, name string, n int, problem error) error {
	m := &storepb.Source{Version: record.Version, Name: name, Tasks: int64(n)}
	var same bool
	v := l.s.view
	v.Read(func() {
		old := v.Sources[name]
		if problem != nil {
			m.Error, m.Tasks = address.Text(problem.Error()), old.GetTasks()
		}
		same = old != nil && old.GetTasks() == m.GetTasks() && old.GetError() == m.GetError()
	})
	if same {
		return nil
	}
	if problem != nil {
		l.s.log.Error("source not taken, its last list stays", "source", name, "error", address.Error(problem))
	}
	value, err := record.Encode(m)
	if err != nil {
		return err
	}
	for {
		ok, _, err := l.txn(ctx, nil, []store.Op{{Key: store.SourceKey(name), Value: value}})
		if ok || err != nil {
			return err
		}
	}
}
