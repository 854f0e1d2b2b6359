package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/address"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"

	"google.golang.org/protobuf/proto"
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
		answer := make(chan sourceList, 1)
		one, cancel := context.WithTimeout(ctx, l.s.cfg.Timeout)
		go func() { answer <- readOnce(one, src) }()
		list, late := sourceList{}, false
		select {
		case list = <-answer:
		case <-one.Done():
			select {
			case list = <-answer:
			default:
				late = true
			}
		}
		cancel()
		if late {
			// One reading at a time, and what it comes to is of the past by then.
			l.hand(ctx, sourceList{source: src, err: fmt.Errorf("no answer within %s", l.s.cfg.Timeout), refused: &refused})
			select {
			case <-answer:
			case <-ctx.Done():
			}
			refused.Store(true)
		} else if first || !errors.Is(list.err, source.ErrUnchanged) {
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
	name := list.source.Name
	if err == nil {
		err = l.declare(ctx, name, list.tasks)
	}
	if errors.Is(err, errDeposed) || ctx.Err() != nil {
		return err
	}
	held := (*heldError)(nil)
	if errors.As(err, &held) {
		l.hold(list, held)
		return l.tellSource(ctx, name, 0, held, nil)
	}
	if err == nil {
		delete(l.held, name)
	} else if h := l.held[name]; h != nil {
		h.failing = true
	}
	if err != nil && list.refused != nil {
		list.refused.Store(true)
	}
	return l.tellSource(ctx, name, len(list.tasks), nil, err)
}

// declare writes the difference between a source's tasks and those in the store. A
// list that is to be held is a *heldError.
func (l *leader) declare(ctx context.Context, name string, tasks []rota.Task) error {
	want := make(map[string]bool, len(tasks))
	set := make([]record.Task, 0, len(tasks))
	for _, t := range tasks {
		if err := placement.CheckTask(t); err != nil {
			return fmt.Errorf("task %q: %w", t.ID, err)
		}
		if want[t.ID] {
			return fmt.Errorf("task %q: %w", t.ID, &rota.FieldError{Field: "id", Value: t.ID, Want: "a unique id; it occurs twice"})
		}
		want[t.ID] = true
		set = append(set, record.NewTask(t, name))
	}
	for begun := false; ; begun = true {
		var units []table.Unit
		var err error
		v := l.s.view
		v.Read(func() {
			var del []string
			have := 0
			for t := range v.Tasks.All() {
				if t.Source == name {
					have++
				}
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
			if !begun {
				if err = l.holds(name, tasks, len(del), have); err != nil {
					return
				}
			}
			units, err = v.Tasks.Stage(set, del)
		})
		if err != nil || len(units) == 0 {
			return err
		}
		for r := range l.pages.Write(ctx, units) {
			if r.Err != nil {
				return r.Err
			}
			if !r.OK {
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

// tellSource writes down how a source does, if that is news: the number of tasks of
// its list, or that the list is held, or what the problem is.
func (l *leader) tellSource(ctx context.Context, name string, n int, held *heldError, problem error) error {
	for {
		m := &storepb.Source{Version: record.Version, Name: name, Tasks: int64(n)}
		var same, known bool
		key := store.SourceKey(name)
		cond := store.Cond{Key: key, By: store.ByMod}
		v := l.s.view
		v.Read(func() {
			old := v.Sources[name]
			if cond.Revision = v.Mod(key); old == nil {
				old = &storepb.Source{}
			}
			if problem != nil || held != nil { // the last list stays
				m.Tasks, m.Held, m.HeldRemoves, m.HeldOf = old.GetTasks(), old.GetHeld(), old.GetHeldRemoves(), old.GetHeldOf()
				m.HeldSinceUnixMs, m.HeldWaitMs, m.Confirmed = old.GetHeldSinceUnixMs(), old.GetHeldWaitMs(), old.GetConfirmed()
			}
			if problem != nil {
				m.Error = address.Text(problem.Error())
			}
			if known = held != nil && old.GetHeld() == held.digest; held != nil {
				held.describe(m, known, l.s.cfg.HoldFor)
			}
			same = v.Sources[name] != nil && proto.Equal(old, m)
		})
		if same {
			return nil
		}
		value, err := record.Encode(m)
		if err != nil {
			return err
		}
		ok, _, err := l.txn(ctx, []store.Cond{cond}, []store.Op{{Key: key, Value: value}})
		if err != nil {
			return err
		}
		if ok {
			l.logSource(m, known, held, problem)
			return nil
		}
		sleep(ctx, 5*time.Millisecond) // somebody confirms: the view has it soon
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (l *leader) logSource(m *storepb.Source, known bool, held *heldError, problem error) {
	about := "source " + m.GetName()
	switch {
	case problem != nil:
		l.s.events.Record(events.Event{Kind: events.SourceFailed, Text: about + ": " + m.GetError()})
		l.s.log.Error("source not read; its last list stays in effect", "source", m.GetName(), "error", address.Error(problem))
	case held == nil:
		l.s.events.Record(events.Event{Kind: events.SourceTaken, Text: about + ": " + text.Count(m.GetTasks(), "task", "tasks")})
	case !known:
		l.s.events.Record(events.Event{
			Kind: events.SourceHeld, Text: fmt.Sprintf("%s: its list would remove %d of %d tasks", about, m.GetHeldRemoves(), m.GetHeldOf()),
		})
		l.s.log.Warn("list held; rota schedule confirm accepts it", "source", m.GetName(), "removes", m.GetHeldRemoves(), "of", m.GetHeldOf(),
			"taken_after", max(l.s.cfg.HoldFor, 0))
	}
}
