package jobs

import (
	"context"
	"strings"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/scheduler/internal/events"
)

// tell tells what became of a job, once it is in the store.
func (c *Control) tell(id string, ch *change) {
	if ch.old == nil || ch.next == nil {
		return // who declared or deleted it is told of where the API answers
	}
	was, is := ch.old.job, ch.next.job
	if was.State == is.State && was.Generation() == is.Generation() || is.State == job.Queued && was.State.Done() {
		return // who asks for another attempt is told of where the API answers
	}
	a, ok := is.Current()
	ended := ok && a.State.Done()
	state := is.State
	if state == job.Queued && ended {
		state = a.State // the attempt's; there is to be another
	}
	kind := "job." + string(state)
	if !c.cfg.Events.Wants(kind) {
		return
	}
	e := events.Event{Kind: kind, Text: is.Reason, Subject: events.Subject{Job: id, Worker: is.Worker(), Generation: is.Generation()}}
	if ended {
		if e.Text = a.Result.Error; a.Result.Signal != "" {
			e.Text = "signal " + a.Result.Signal
		}
		if code := a.Result.ExitCode; code >= 0 && a.Result.Signal == "" && state != job.Lost {
			e.Exit = &code
		}
		if is.State == job.Queued {
			e.Text = strings.TrimPrefix(e.Text+"; it is to run again", "; ")
		}
	}
	c.cfg.Events.Record(e)
}

// tellAsked tells what a caller asked for.
func (c *Control) tellAsked(ctx context.Context, kind, id, say string) {
	c.cfg.Events.Record(events.Event{Kind: kind, Subject: events.Subject{Job: id}, Text: say, Who: auth.From(ctx).Name})
}
