// Package tracing is what the houses share of OpenTelemetry: W3C trace contexts, read
// within limits and written, and how much is believed of them.
//
// Houses that make spans take a trace.TracerProvider through their Config, and none is
// the same as nil: then they make none and spend nothing. It must never use the global
// provider, and knows no SDK: the binary sets one up.
package tracing

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// The names of the two headers, and of the variable that processes get.
const (
	ParentHeader = "Traceparent"
	StateHeader  = "Tracestate"
	ParentEnv    = "TRACEPARENT"
)

// scope is what the spans of this module say that they come from.
const scope = "github.com/rota-project/rota"

const (
	parentLen = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	// maxParent is the most bytes of a traceparent that is looked at: later versions may
	// say more than this one.
	maxParent = 128
	// maxState is the most bytes of a tracestate that is kept, which is what W3C asks for.
	maxState = 512
)

// Tracer is p's. Without p it makes spans that record nothing.
func Tracer(p trace.TracerProvider) trace.Tracer {
	if p == nil {
		p = noop.NewTracerProvider()
	}
	return p.Tracer(scope)
}

// Parse reads a traceparent and the tracestate beside it. It is false of a traceparent
// that is malformed, which is then as good as none. A tracestate that is malformed or
// too long is left out.
func Parse(parent, state string) (trace.SpanContext, bool) {
	var none trace.SpanContext
	if len(parent) < parentLen || len(parent) > maxParent || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return none, false
	}
	version, flags := parent[:2], parent[53:55]
	if !isHex(version) || !isHex(flags) || version == "ff" {
		return none, false
	}
	if len(parent) > parentLen && (version == "00" || parent[parentLen] != '-') {
		return none, false
	}
	trc, err := trace.TraceIDFromHex(parent[3:35])
	if err != nil {
		return none, false
	}
	span, err := trace.SpanIDFromHex(parent[36:52])
	if err != nil {
		return none, false
	}
	c := trace.SpanContextConfig{TraceID: trc, SpanID: span, Remote: true}
	if strings.IndexByte("13579bdf", flags[1]) >= 0 {
		c.TraceFlags = trace.FlagsSampled
	}
	if state != "" && len(state) <= maxState {
		if s, err := trace.ParseTraceState(state); err == nil {
			c.TraceState = s
		}
	}
	return trace.NewSpanContext(c), true
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// AppendParent appends sc as a traceparent. sc must be valid.
func AppendParent(b []byte, sc trace.SpanContext) []byte {
	const digits = "0123456789abcdef"
	hex := func(bytes []byte) {
		for _, c := range bytes {
			b = append(b, digits[c>>4], digits[c&15])
		}
	}
	trc, span := sc.TraceID(), sc.SpanID()
	b = append(b, "00-"...)
	hex(trc[:])
	b = append(b, '-')
	hex(span[:])
	if sc.IsSampled() {
		return append(b, "-01"...)
	}
	return append(b, "-00"...)
}

// Parent is sc as a traceparent, empty if it is not valid.
func Parent(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return ""
	}
	return string(AppendParent(make([]byte, 0, parentLen), sc))
}

// Lost is how many spans a provider has dropped, or its collector has not taken, if it
// counts them by a method of that name; 0 of one that does not, and of nil.
func Lost(p trace.TracerProvider) uint64 {
	if p, ok := p.(interface{ Lost() uint64 }); ok {
		return p.Lost()
	}
	return 0
}

// binaryLen is the length of a trace context in its short form: the trace's id, the
// span's, and the flags.
const binaryLen = 16 + 8 + 1

// Binary is the trace context of ctx in its short form, if its trace is recorded; else it
// is empty. It has no tracestate.
func Binary(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() || !sc.IsSampled() {
		return ""
	}
	trc, span := sc.TraceID(), sc.SpanID()
	var b [binaryLen]byte
	copy(b[:], trc[:])
	copy(b[16:], span[:])
	b[24] = byte(trace.FlagsSampled)
	return string(b[:])
}

// fromBinary reads a trace context in its short form. It is false of what is none.
func fromBinary(b string) (trace.SpanContext, bool) {
	if len(b) != binaryLen {
		return trace.SpanContext{}, false
	}
	c := trace.SpanContextConfig{TraceFlags: trace.TraceFlags(b[24]) & trace.FlagsSampled, Remote: true}
	copy(c.TraceID[:], b)
	copy(c.SpanID[:], b[16:])
	sc := trace.NewSpanContext(c)
	return sc, sc.IsValid()
}

// BinaryParent is a trace context in its short form as a traceparent, empty if it is none.
func BinaryParent(b string) string {
	sc, _ := fromBinary(b)
	return Parent(sc)
}

// Within returns ctx within the trace of b, a context in its short form of somebody who is
// believed, and ctx as it is if b is none.
func Within(ctx context.Context, b string) context.Context {
	if sc, ok := fromBinary(b); ok {
		return Believed(ctx, sc)
	}
	return ctx
}

// ParentOf is the traceparent of ctx's span, empty without one.
func ParentOf(ctx context.Context) string { return Parent(trace.SpanContextFromContext(ctx)) }

// Without returns ctx in no trace.
func Without(ctx context.Context) context.Context {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, trace.SpanContext{})
}

type undecided struct{}

// Believed returns ctx within the caller's trace, which goes on as the caller has decided:
// recorded or not.
func Believed(ctx context.Context, caller trace.SpanContext) context.Context {
	return trace.ContextWithRemoteSpanContext(ctx, caller)
}

// Doubted returns ctx within the caller's trace, whose word does not count on whether it
// is recorded: for callers that nobody knows.
func Doubted(ctx context.Context, caller trace.SpanContext) context.Context {
	ctx = context.WithValue(ctx, undecided{}, true)
	return trace.ContextWithRemoteSpanContext(ctx, caller.WithTraceFlags(0))
}

// Undecided says whether the caller's word does not count, see Doubted.
func Undecided(ctx context.Context) bool {
	yes, _ := ctx.Value(undecided{}).(bool)
	return yes && trace.SpanContextFromContext(ctx).IsRemote()
}

// FromHeader is the trace context of a request. Two of them are none.
func FromHeader(h http.Header) (trace.SpanContext, bool) {
	parents := h.Values(ParentHeader)
	if len(parents) != 1 {
		return trace.SpanContext{}, false
	}
	return Parse(parents[0], strings.Join(h.Values(StateHeader), ","))
}

// Inject makes ctx's span the one that a request with these headers belongs to. Without a
// span they stay as they are.
func Inject(ctx context.Context, h http.Header) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return
	}
	h.Set(ParentHeader, Parent(sc))
	h.Del(StateHeader)
	if state := sc.TraceState().String(); state != "" {
		h.Set(StateHeader, state)
	}
}

// FromMetadata is the trace context of a call over gRPC. Two of them are none.
func FromMetadata(md map[string][]string) (trace.SpanContext, bool) {
	parents := md[strings.ToLower(ParentHeader)]
	if len(parents) != 1 {
		return trace.SpanContext{}, false
	}
	return Parse(parents[0], strings.Join(md[strings.ToLower(StateHeader)], ","))
}
