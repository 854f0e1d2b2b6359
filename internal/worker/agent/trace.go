package agent

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/job/runner"
	"github.com/rota-project/rota/internal/tracing"
)

// trace begins the span of a run, within the trace that the scheduler has told of, and
// returns what the command is told of it. Without a trace there is none.
func (a *Agent) trace(k key, parent string, argv []string) string {
	asked, ok := tracing.Parse(parent, "")
	if !ok {
		return ""
	}
	if a.cfg.TracerProvider == nil {
		return tracing.Parent(asked)
	}
	_, span := tracing.Tracer(a.cfg.TracerProvider).Start(tracing.Believed(context.Background(), asked), "job run", trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("rota.job", k.id)))
	if span.IsRecording() && len(argv) > 0 {
		span.SetAttributes(semconv.ProcessCommand(argv[0])) // arguments may hold secrets
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.spans[k] == nil { // one that is asked for again runs already
		a.spans[k] = span
	}
	return tracing.Parent(span.SpanContext())
}

// traced notes in the span of a run what has become of it. a.mu is held.
func (a *Agent) traced(k key, st runner.Status) {
	span := a.spans[k]
	if span == nil {
		return
	}
	if st.State == job.Running {
		span.AddEvent("started", trace.WithTimestamp(st.Result.Started))
		return
	}
	delete(a.spans, k)
	span.SetAttributes(attribute.String("rota.state", string(st.State)))
	if st.Result.Signal == "" && st.Result.ExitCode >= 0 && st.State != job.Lost {
		span.SetAttributes(semconv.ProcessExitCode(st.Result.ExitCode))
	}
	if st.State != job.Succeeded {
		span.SetStatus(codes.Error, valid(st.Result.Error))
	}
	span.End()
}

// retrace ends the span of a run that has ended before it was ordered once more.
func (a *Agent) retrace(k key) {
	if a.cfg.TracerProvider == nil {
		return
	}
	st, ok := a.runner.Status(k.id, k.generation) // which is not called with a.mu held
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok && st.State.Done() {
		a.traced(k, st)
	}
}

// untraced ends the span of a run that was not begun.
func (a *Agent) untraced(k key, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if span := a.spans[k]; span != nil {
		delete(a.spans, k)
		span.SetStatus(codes.Error, valid(err.Error()))
		span.End()
	}
}
