package worker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/worker"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// TestSpanOfAGrant: the first call of a function under a grant is within the trace of the
// pass that gave it, below the worker's span if it makes one; one after a failure is not.
func TestSpanOfAGrant(t *testing.T) {
	t.Parallel()
	const trc, pass1 = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, spans := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			rec := tracetest.NewSpanRecorder()
			c := worker.Config{}
			if spans {
				c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
			}
			var calls []trace.SpanContext
			start(t, f, c, map[string]worker.TaskFunc{"k": func(ctx context.Context, _ worker.Assigned) error {
				calls = append(calls, trace.SpanContextFromContext(ctx))
				if len(calls) == 1 {
					return errors.New("once")
				}
				<-ctx.Done()
				return nil
			}})
			g := grant("a", 7, rota.Exclusive, "")
			g.Traceparent = "00-" + trc + "-" + pass1 + "-01"
			f.grants(give(g))
			pass(time.Minute)
			f.grants(give(g)) // said once more, as to a worker that comes back
			pass(time.Minute)
			bad := grant("b", 8, rota.Exclusive, "")
			bad.Traceparent = "00-nonsense"
			f.grants(give(bad))
			f.wants("a", "running")
			f.wants("b", "running")
			if len(calls) != 3 || calls[0].TraceID().String() != trc || !calls[0].IsSampled() || calls[1].IsValid() || calls[2].IsValid() {
				t.Fatalf("calls within %v", calls)
			}
			ended := rec.Ended()
			if !spans {
				if calls[0].SpanID().String() != pass1 || len(ended) != 0 {
					t.Errorf("within %v, and %d spans", calls[0], len(ended))
				}
				return
			}
			if len(ended) != 1 || ended[0].Name() != "task start" || ended[0].Parent().SpanID().String() != pass1 || ended[0].SpanContext().SpanID() != calls[0].SpanID() {
				t.Errorf("within %v, and spans %v", calls[0], ended)
			}
		})
	}
}
