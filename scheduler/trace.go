package scheduler

import (
	"context"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/ownership"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// maxFollowed is of how many instances of a pass it is followed whether they run.
const maxFollowed = 10_000

// passes makes the spans of the leader's passes that move something: from the first event
// that a pass answers, over its plan and its writes, until the instances that it has placed
// run. One pass is followed at a time, until the next.
type passes struct {
	tracer trace.Tracer // nil if no spans are made
	event  time.Time    // the first that no pass has answered; zero if there is none
	open   *openPass
}

// openPass is a pass that is followed.
type openPass struct {
	ctx   context.Context // has its span
	span  trace.Span
	since time.Time                // the end of its last part
	waits map[rota.Instance]string // on which worker what is to run that does not yet
	trace string                   // its trace context, for the grants of those
}

func newPasses(p trace.TracerProvider) passes {
	if p == nil {
		return passes{}
	}
	return passes{tracer: tracing.Tracer(p)}
}

// noteEvent notes that something happened which asks for a pass.
func (p *passes) noteEvent() {
	if p.tracer != nil && p.event.IsZero() {
		p.event = time.Now()
	}
}

// planned begins to follow a pass that began then.
func (p *passes) planned(plan rota.Plan, began time.Time) {
	if p.tracer == nil {
		return
	}
	event := p.event
	p.event = time.Time{}
	if len(plan.Moves) == 0 {
		return
	}
	p.end()
	if event.IsZero() || event.After(began) {
		event = began // by the interval
	}
	o := &openPass{waits: map[rota.Instance]string{}}
	o.ctx, o.span = p.tracer.Start(context.Background(), "pass", trace.WithTimestamp(event), trace.WithAttributes( //nolint:spancheck // end ends it
		attribute.Int("rota.moves", len(plan.Moves)), attribute.Int("rota.waiting", len(plan.Waiting)), attribute.Int("rota.forced", plan.Summary.Forced),
	))
	if !o.span.IsRecording() {
		return
	}
	p.open, o.since, o.trace = o, event, tracing.Binary(o.ctx)
	p.part("event", began)
	p.part("plan", time.Now())
	for _, m := range plan.Moves {
		if m.To != "" && len(o.waits) < maxFollowed {
			o.waits[m.Instance] = m.To
		}
	}
}

// of is the trace context of a grant, which is that of the pass if the pass is what gave
// it; empty if not.
func (p *passes) of(i rota.Instance, worker string) string {
	if p.open == nil || p.open.waits[i] != worker {
		return ""
	}
	return p.open.trace
}

// part makes the span of a part of the pass, from the end of the one before.
func (p *passes) part(name string, until time.Time) {
	o := p.open
	_, span := p.tracer.Start(o.ctx, name, trace.WithTimestamp(o.since))
	span.End(trace.WithTimestamp(until))
	o.since = until
}

// wrote notes that some of the pass is in the store.
func (p *passes) wrote() {
	if p.open == nil {
		return
	}
	p.part("commit", time.Now())
	if len(p.open.waits) == 0 {
		p.end()
	}
}

// acknowledged notes what a worker says of an instance.
func (p *passes) acknowledged(worker string, i rota.Instance, s ownership.State) {
	o := p.open
	if o == nil || s != ownership.Running || o.waits[i] != worker {
		return
	}
	if delete(o.waits, i); len(o.waits) == 0 {
		p.part("acknowledge", time.Now())
		p.end()
	}
}

// end ends the pass that is followed, whether all of it has come about or not.
func (p *passes) end() {
	if p.open == nil {
		return
	}
	p.open.span.SetAttributes(attribute.Int("rota.unacknowledged", len(p.open.waits)))
	p.open.span.End()
	p.open = nil
}
