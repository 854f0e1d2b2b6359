package gateway

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
	"github.com/rota-project/rota/internal/tracing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
)

// beginSpan begins the call's span, within the trace that the call came with. It takes the
// trace context off the request: what the worker gets is written anew.
func (x *exchange) beginSpan(t *target) {
	if x.g.tracer == nil {
		return
	}
	ctx := context.Background()
	if caller, ok := x.callersTrace(); ok {
		if x.call.st.cfg.TraceCallers || x.call.st.trusts(x.peer.Remote) {
			ctx = tracing.Believed(ctx, caller)
		} else {
			ctx = tracing.Doubted(ctx, caller)
		}
	}
	method, route := knownMethod(x.req.Method), "/run/{function}"
	switch {
	case len(t.task) > 0:
		route = "/t/{task}"
	case t.named == 0:
		route = "a route"
	}
	_, x.span = x.g.tracer.Start(ctx, method+" "+route, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(x.g.at(x.rec.Begun))) //nolint:spancheck // conclude ends it
	if !x.span.IsRecording() {
		return
	}
	scheme := "http"
	if x.peer.TLS {
		scheme = "https"
	}
	path, _, _ := strings.Cut(string(x.req.Target), "?") // a query may have secrets
	x.span.SetAttributes(
		semconv.HTTPRequestMethodKey.String(method), semconv.HTTPRoute(route), semconv.URLPath(outcome.Shown(path)), semconv.URLScheme(scheme),
		semconv.ServerAddress(outcome.Shown(string(x.req.Host))), semconv.ClientAddress(x.clientAddr().String()), attribute.String("rota.function", x.rec.Function),
	)
}

// callersTrace is the trace context that the call came with, which is dropped from its
// fields. Two of them are none, and one without the other is the parent's alone.
func (x *exchange) callersTrace() (trace.SpanContext, bool) {
	var parent, state string
	parents := 0
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		switch f.Kind {
		case wire.TraceParent:
			parent = string(f.Value)
			parents++
		case wire.TraceState:
			if state != "" {
				state += ","
			}
			state += string(f.Value)
		default:
			continue
		}
		f.Drop = true
	}
	if parents != 1 {
		return trace.SpanContext{}, false
	}
	return tracing.Parse(parent, state)
}

// knownMethod is the method, as long as it is one that everybody knows.
func knownMethod(m []byte) string {
	switch s := string(m); s {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY":
		return s
	}
	return "_OTHER"
}

// at is a time of the gateway's clock as others know it.
func (g *Gateway) at(now int64) time.Time { return g.base.Add(time.Duration(now)) }

// try begins an attempt, and its span.
func (x *exchange) try(w *upstream.Worker, now int64) {
	x.rec.Try(w.Name, now, x.g.base)
	if x.span == nil || !x.span.IsRecording() {
		return
	}
	t := x.rec.Last()
	_, t.Span = x.g.tracer.Start(trace.ContextWithSpan(context.Background(), x.span), knownMethod(x.req.Method), //nolint:spancheck // conclude ends it
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(x.g.at(t.Begun)))
	host, port, err := net.SplitHostPort(w.Host)
	if err != nil {
		host = w.Host
	}
	t.Span.SetAttributes(
		semconv.HTTPRequestMethodKey.String(knownMethod(x.req.Method)), semconv.ServerAddress(host), attribute.String("rota.worker", w.Name),
	)
	if n, err := strconv.Atoi(port); err == nil {
		t.Span.SetAttributes(semconv.ServerPort(n))
	}
	if x.rec.All > 1 {
		t.Span.SetAttributes(semconv.HTTPRequestResendCount(x.rec.All - 1))
	}
}

// endSpan ends the spans of the call and of its attempts.
func (x *exchange) endSpan() {
	if x.span == nil || !x.span.IsRecording() {
		return
	}
	r := &x.rec
	r.EndSpans(x.g.base)
	s := r.Status()
	if s != 0 {
		x.span.SetAttributes(semconv.HTTPResponseStatusCode(s))
	}
	x.span.SetAttributes(attribute.String("rota.request_id", x.requestID()))
	switch {
	case r.Failed():
		x.span.SetAttributes(semconv.ErrorTypeKey.String(r.End.String()))
		x.span.SetStatus(codes.Error, outcome.Line(r.Err))
	case s >= 500:
		x.span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(s)))
		x.span.SetStatus(codes.Error, "")
	}
	x.span.End(trace.WithTimestamp(x.g.at(r.Ended)))
}

// appendTrace appends the W3C trace context that the worker gets: that of the attempt's
// span or the call's, else one that begins here if that is asked for and the call has
// brought none.
func (x *exchange) appendTrace(b []byte, brought bool) []byte {
	const field = "traceparent: "
	switch {
	case x.span != nil:
		sc := x.span.SpanContext()
		if s := x.rec.Last().Span; s != nil {
			sc = s.SpanContext()
		}
		if !sc.IsValid() {
			return b
		}
		x.traceAt = len(b) + len(field)
		b = append(tracing.AppendParent(append(b, field...), sc), "\r\n"...)
		if state := sc.TraceState().String(); state != "" {
			b = append(append(append(b, "tracestate: "...), state...), "\r\n"...)
		}
	case !brought && x.call.st.cfg.Trace:
		b = append(x.rec.AppendTrace(append(b, field...), &x.call.rnd), "\r\n"...)
	}
	return b
}

// retraced is a request in which the attempt that is under way stands for the one it was
// written for.
func (x *exchange) retraced(request []byte) []byte {
	s := x.rec.Last().Span
	if s == nil {
		return request
	}
	request = append([]byte(nil), request...)
	tracing.AppendParent(request[:x.traceAt], s.SpanContext())
	return request
}

// traceID is that of the trace that the call belongs to, empty without one.
func (x *exchange) traceID() string {
	if x.span != nil && x.span.SpanContext().IsValid() {
		return x.span.SpanContext().TraceID().String()
	}
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.Kind == wire.TraceParent {
			_, rest, _ := strings.Cut(string(f.Value), "-")
			id, _, _ := strings.Cut(rest, "-")
			return outcome.Shown(id)
		}
	}
	if x.rec.Trace[0] == 0 {
		return ""
	}
	return string(x.rec.Trace[:])
}
