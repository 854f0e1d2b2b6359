package sessions

import (
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
)

// tell tells of what the workers whose sessions are here have said of their tasks, once it
// is in the store: so each change is told of once. s.mu is held, and the view stands still.
func (s *Server) tell(acks map[string][]table.Change[record.Ack]) {
	for worker, changes := range acks {
		if s.live[worker] == nil {
			continue
		}
		for _, c := range changes {
			kind := happened(c.Old, c.New)
			if kind == "" || !s.cfg.Events.Wants(kind) {
				continue
			}
			e := events.Event{Kind: kind, Subject: events.Of(c.New.Instance, worker, c.New.Generation)}
			if kind != events.TaskStarted && kind != events.TaskRestarted {
				e.Text = c.New.Error
			}
			if exit := c.New.Exit; exit.Known && kind == events.TaskFailed {
				code := int(exit.Status)
				e.Exit = &code
			}
			if t, ok := s.cfg.View.Tasks.Get(c.New.Instance.Task); ok {
				e.Subject.Program, _, _ = record.ProgramOf(t.Source)
			}
			s.cfg.Events.Record(e)
		}
	}
}

// happened is what a change of an acknowledgement is an event of; empty if of none.
func happened(was, is *record.Ack) string {
	if is == nil {
		return ""
	}
	if was == nil || was.Generation != is.Generation {
		was = &record.Ack{}
	}
	switch {
	case is.State == ownership.Running && is.Restarts > was.Restarts && was.State != ownership.Backoff:
		return events.TaskFailed // and called again since: what came between was not written
	case is.State == ownership.Backoff && (was.State != ownership.Backoff || is.Restarts != was.Restarts):
		return events.TaskFailed
	case is.State == was.State:
		return ""
	case is.State == ownership.Running && is.Restarts > 0:
		return events.TaskRestarted
	case is.State == ownership.Running:
		return events.TaskStarted
	case is.State == ownership.Stuck:
		return events.TaskStuck
	case is.State == ownership.Stopped:
		return events.TaskStopped
	}
	return ""
}

// fenced tells of a worker that goes on although its lease has ended: it is told to stop
// what it has.
func (c *session) fenced() {
	c.srv.cfg.Events.Record(events.Event{
		Kind: events.WorkerFenced, Subject: events.Subject{Worker: c.name}, Text: "its lease had ended; it stops its tasks and joins again",
	})
}
