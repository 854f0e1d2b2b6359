package scheduler

import (
	"fmt"
	"strings"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/blame"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/view"
)

// What the leader tells of, for people. It records what it learns from the store, and
// so each change once. A leader that takes office tells only of what became of workers
// meanwhile.

// maxMoving is of how many moves under way the leader knows where they are from.
const maxMoving = 1024

// tellTask tells of a task that a source or a program declared, changed or removed. Who
// uses the API is told of where the API answers.
func (l *leader) tellTask(c table.Change[record.Task]) {
	kind, source := events.TaskChanged, c.Last().Source
	switch {
	case c.New == nil:
		kind = events.TaskGone
	case c.Old == nil:
		kind = events.TaskDeclared
	}
	if source == "" || !l.s.events.Wants(kind) {
		return
	}
	about, from := events.Subject{Task: c.Key}, "source "+source
	if name, _, ok := record.ProgramOf(source); ok {
		about.Program, from = name, "program "+name
	}
	l.s.events.Record(events.Event{Kind: kind, Subject: about, Text: "by " + from})
}

// tellGrants tells of what was granted; the view stands still.
func (l *leader) tellGrants(worker string, changes []table.Change[record.Grant]) {
	for _, c := range changes {
		if c.New == nil || c.New.Revoked || c.Old != nil && c.Old.Generation == c.New.Generation {
			continue
		}
		kind, from := events.TaskGranted, l.moving[c.New.Instance]
		if from != "" {
			kind = events.TaskMoved
			delete(l.moving, c.New.Instance)
		}
		if !l.s.events.Wants(kind) {
			continue
		}
		l.s.events.Record(events.Event{
			Kind: kind, Subject: l.s.about(c.New.Instance, worker, c.New.Generation), Text: c.New.Reason, From: from,
		})
	}
}

// about is an instance as events name it; the view stands still.
func (s *Scheduler) about(i rota.Instance, worker string, g rota.Generation) events.Subject {
	out := events.Of(i, worker, g)
	if t, ok := s.view.Tasks.Get(i.Task); ok {
		out.Program, _, _ = record.ProgramOf(t.Source)
	}
	return out
}

// tellGone tells of a worker whose session has ended.
func (l *leader) tellGone(name string, was *view.Session, left bool) {
	e := events.Event{Kind: events.WorkerLost, Subject: events.Subject{Worker: name}, Text: "its lease ended without notice"}
	switch {
	case left:
		e.Kind, e.Text = events.WorkerLeft, "in order"
	case was.GetLeaving():
		e.Kind, e.Text = events.WorkerLeft, "in order, to come back"
	case was.GetDied():
		e.Text = "its process died"
	}
	if grace := time.Duration(was.GetRestartGraceMs()) * time.Millisecond; grace > 0 && !left {
		e.Text += fmt.Sprintf("; its tasks wait for it for %v", grace)
	}
	l.s.events.Record(e)
}

// tellPass tells of a pass that moves something.
func (l *leader) tellPass(plan rota.Plan, began time.Time) {
	for _, m := range plan.Moves {
		if m.From != "" && m.To != "" && len(l.moving) < maxMoving {
			l.moving[m.Instance] = m.From
		}
	}
	if !l.s.events.Wants(events.Pass) {
		return
	}
	s := plan.Summary
	words := []string{text.Count(len(plan.Moves), "move", "moves")}
	for _, part := range []struct {
		n   int
		say string
	}{{s.Forced, "forced"}, {s.Chosen, "for balance"}, {s.Placed, "placed"}, {s.Stopped, "stopped"}, {s.Waiting, "wait"}} {
		if part.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", part.n, part.say))
		}
	}
	words = append(words, fmt.Sprintf("imbalance %.2f to %.2f", s.ImbalanceBefore, s.ImbalanceAfter), fmt.Sprintf("took %v", time.Since(began).Round(time.Microsecond)))
	n := min(len(plan.Moves), events.MaxMoves)
	l.s.events.Record(events.Event{
		Kind: events.Pass, Text: strings.Join(words, ", "), Moves: append([]rota.Move(nil), plan.Moves[:n]...), LeftOut: len(plan.Moves) - n,
	})
}

// tellSuspect tells what has changed in the standing of a task.
func (l *leader) tellSuspect(id string) {
	e := events.Event{Kind: events.TaskCleared, Subject: events.Subject{Task: id}, Text: "no longer suspected of killing its workers"}
	if x, ok := l.suspects.docket.Of(id); ok {
		e.Kind = events.TaskSuspected
		if x.State == blame.Held {
			e.Kind = events.TaskHeld
		}
		e.Text = fmt.Sprintf("%s: %s died while running it (%s)", x.State, text.Count(x.Deaths, "worker", "workers"), strings.Join(latest(x.Workers, rota.MaxIDLen), ", "))
	}
	if l.s.events.Wants(e.Kind) {
		l.s.events.Record(e)
	}
}
