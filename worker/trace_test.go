package worker

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// TestSpanOfACall: a function finds the span of its call in the request's context, within
// the trace that the gateway has told of; others cannot have theirs recorded.
func TestSpanOfACall(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	rec := tracetest.NewSpanRecorder()
	mux := http.NewServeMux()
	var in trace.SpanContext
	mux.HandleFunc("/run/f", func(w http.ResponseWriter, r *http.Request) {
		in = trace.SpanContextFromContext(r.Context())
		w.(http.Flusher).Flush()
		if _, ok := w.(http.Hijacker); !ok && in.IsSampled() {
			t.Error("it cannot be hijacked")
		}
	})
	mux.HandleFunc("/run/bad", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/run/wrong", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })
	h := traced(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec)), mux)
	call := func(path string, via bool) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, http.NoBody)
		r.Header.Set("Traceparent", parent)
		if via {
			r.Header.Set("Via", "1.1 rota")
		}
		defer func() { _ = recover() }()
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	call("/run/f", true)
	ended := rec.Ended()
	if len(ended) != 1 || ended[0].SpanContext().SpanID() != in.SpanID() || ended[0].Parent().SpanID().String() != "b7ad6b7169203331" ||
		ended[0].Name() != "POST /run/f" || ended[0].SpanKind() != trace.SpanKindServer {
		t.Errorf("%v, and the function has %v", ended, in)
	}
	call("/run/f", false)
	if n := len(rec.Ended()); n != 1 || in.TraceID().String() != parent[3:35] || in.IsSampled() {
		t.Errorf("%d spans, and the function has %v", n, in)
	}
	call("/run/bad", true)
	call("/run/wrong", true)
	ended = rec.Ended()
	if len(ended) != 3 || ended[1].Status().Code != codes.Error || ended[2].Status().Code != codes.Error {
		t.Errorf("%v", ended)
	}
}
