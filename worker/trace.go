package worker

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/rota-project/rota/internal/tracing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
)

// traced makes a span of each call, which is in the context that the function gets. A
// gateway has decided whether the call's trace is recorded; others' word does not count.
func traced(provider trace.TracerProvider, calls http.Handler) http.Handler {
	if provider == nil {
		return calls
	}
	tracer := tracing.Tracer(provider)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if caller, ok := tracing.FromHeader(r.Header); ok {
			if len(r.Header["Via"]) > 0 {
				ctx = tracing.Believed(ctx, caller)
			} else {
				ctx = tracing.Doubted(ctx, caller)
			}
		}
		ctx, span := tracer.Start(ctx, "call", trace.WithSpanKind(trace.SpanKindServer))
		r = r.WithContext(ctx)
		if !span.IsRecording() {
			calls.ServeHTTP(rw, r)
			return
		}
		answer := &answer{ResponseWriter: rw}
		returned := false
		defer func() {
			if r.Pattern != "" {
				span.SetName(r.Method + " " + r.Pattern)
				span.SetAttributes(semconv.HTTPRoute(r.Pattern))
			}
			span.SetAttributes(semconv.HTTPRequestMethodKey.String(r.Method), semconv.URLPath(r.URL.Path))
			status := answer.status
			switch {
			case !returned:
				span.SetAttributes(semconv.ErrorTypeKey.String("panic"))
				span.SetStatus(codes.Error, "the function panicked")
			case status == 0:
				status = http.StatusOK
			}
			if status != 0 {
				span.SetAttributes(semconv.HTTPResponseStatusCode(status))
			}
			if status >= 500 {
				span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}()
		calls.ServeHTTP(answer, r)
		returned = true
	})
}

// begin is what began an instance: the span of the pass that gave the grant, and when the
// worker got it. The zero value is nothing.
type begin struct {
	parent string
	at     time.Time
}

// began returns the context of an instance's function, within the trace of the pass that
// gave the grant. The worker's span of it lasts until the function is called: an instance
// may run for months. What is called again after a failure was begun by that, not by the pass.
func (w *Worker) began(ctx context.Context, a *Assigned) context.Context {
	parent, ok := tracing.Parse(a.begin.parent, "")
	if !ok {
		return ctx
	}
	ctx = tracing.Believed(ctx, parent)
	if w.cfg.TracerProvider == nil {
		return ctx
	}
	ctx, span := tracing.Tracer(w.cfg.TracerProvider).Start(ctx, "task start", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(a.begin.at),
		trace.WithAttributes(attribute.String("rota.task", a.ID()), attribute.Int("rota.index", a.Index), attribute.Int64("rota.generation", int64(a.Generation()))))
	span.End()
	return ctx
}

// answer notes the status of an answer.
type answer struct {
	http.ResponseWriter
	status int
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Flush implements http.Flusher, for functions that know no http.ResponseController.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Hijack implements http.Hijacker, for the same.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(a.ResponseWriter).Hijack()
}
