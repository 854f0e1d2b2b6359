package jobs

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/tracing"
)

// askedSpan begins the span of a job that somebody asks for, within the caller's trace. All
// other spans of the job are below it.
func (c *Control) askedSpan(ctx context.Context, id string) trace.Span {
	if c.cfg.TracerProvider == nil {
		return trace.SpanFromContext(context.Background())
	}
	within := context.Background()
	md, _ := metadata.FromIncomingContext(ctx)
	if caller, ok := tracing.FromMetadata(md); ok {
		if c.cfg.TraceCallers {
			within = tracing.Believed(within, caller)
		} else {
			within = tracing.Doubted(within, caller)
		}
	}
	_, span := tracing.Tracer(c.cfg.TracerProvider).Start(within, "job asked", trace.WithSpanKind(trace.SpanKindProducer), //nolint:spancheck // Declare ends it
		trace.WithAttributes(attribute.String("rota.job", id)))
	return span //nolint:spancheck // the same
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(otelcodes.Error, err.Error())
	}
	span.End()
}

// trace makes the spans of what has become of a job, once it is in the store: of its wait
// until it was placed, and from its exit until that was kept.
func (c *Control) trace(ch *change) {
	if c.cfg.TracerProvider == nil || ch.next == nil || ch.next.job.Trace == "" {
		return
	}
	is := ch.next.job
	was := is.Declared()
	if ch.old != nil { // or it was placed as soon as it was declared
		was = ch.old.job
	}
	asked, ok := tracing.Parse(is.Trace, "")
	if !ok || !asked.IsSampled() {
		return
	}
	a, ok := is.Current()
	if !ok {
		return
	}
	before, began := was.Current()
	if is.Generation() != was.Generation() {
		since := is.Created
		if began && before.Finished.After(since) {
			since = before.Finished
		}
		c.span("job placed", asked, a, since, a.Placed)
	}
	known := began && before.Generation == a.Generation && before.State.Done()
	if a.State.Done() && !known {
		c.span("job exit", asked, a, a.Result.Ended, a.Finished)
	}
}

// span makes a span of an attempt. The clocks of workers may be wrong: it has no negative
// length.
func (c *Control) span(name string, asked trace.SpanContext, a job.Attempt, from, to time.Time) {
	if from.IsZero() || from.After(to) {
		from = to
	}
	_, span := tracing.Tracer(c.cfg.TracerProvider).Start(tracing.Believed(context.Background(), asked), name, trace.WithTimestamp(from), trace.WithAttributes(
		attribute.String("rota.worker", a.Worker), attribute.Int("rota.attempt", a.Number), attribute.String("rota.state", string(a.State)),
	))
	if a.State.Done() {
		if a.Result.Signal == "" && a.Result.ExitCode >= 0 && a.State != job.Lost {
			span.SetAttributes(semconv.ProcessExitCode(a.Result.ExitCode))
		}
		if a.State != job.Succeeded {
			span.SetStatus(otelcodes.Error, a.Result.Error)
		}
	}
	span.End(trace.WithTimestamp(to))
}
