package jobs

import (
	"context"
	"fmt"
	"strings"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/events"
)

// maxLast is the most of an output that an event has, in bytes.
const maxLast = 512

// tell tells what became of a job, once it is in the store.
func (c *Control) tell(id string, ch *change) {
	if e, ok := eventOf(id, ch); ok && c.cfg.Events.Wants(e.Kind) {
		c.cfg.Events.Record(e)
	}
}

// eventOf is what is told of a change; ok is false if that is nothing.
func eventOf(id string, ch *change) (e events.Event, ok bool) {
	if ch.old == nil || ch.next == nil {
		return e, false // who declared or deleted it is told of where the API answers
	}
	was, is := ch.old.job, ch.next.job
	if was.State == is.State && was.Generation() == is.Generation() || is.State == job.Queued && was.State.Done() {
		return e, false // who asks for another attempt is told of where the API answers
	}
	a, some := is.Current()
	ended := some && a.State.Done()
	state := is.State
	if state == job.Queued && ended {
		state = a.State // the attempt's; there is to be another
	}
	e = events.Event{Kind: "job." + string(state), Text: is.Reason, Subject: events.Subject{Job: id, Worker: is.Worker(), Generation: is.Generation()}}
	if ended {
		if e.Text = a.Result.Error; a.Result.Signal != "" {
			e.Text = "signal " + a.Result.Signal
		}
		if code := a.Result.ExitCode; code >= 0 && a.Result.Signal == "" && state != job.Lost {
			e.Exit = &code
		}
		for _, u := range ch.asked {
			if u.last != "" && e.Text == "" && e.Exit != nil {
				e.Text = fmt.Sprintf("exit status %d", *e.Exit) // as of tasks, before what it wrote
			}
			e.Text = text.WithLast(e.Text, u.last, maxErrorText)
		}
		if is.State == job.Queued {
			e.Text = strings.TrimPrefix(e.Text+"; it is to run again", "; ")
		}
	}
	return e, true
}

// tellAsked tells what a caller asked for.
func (c *Control) tellAsked(ctx context.Context, kind, id, say string) {
	c.cfg.Events.Record(events.Event{Kind: kind, Subject: events.Subject{Job: id}, Text: say, Who: auth.From(ctx).Name})
}
