package tracing_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/rota-project/rota/internal/tracing"

	"go.opentelemetry.io/otel/trace"
)

const (
	id   = "0af7651916cd43dd8448eb211c80319c"
	span = "b7ad6b7169203331"
)

// TestParse: what strangers send is a trace context within limits, or none.
func TestParse(t *testing.T) {
	t.Parallel()
	for parent, want := range map[string]string{
		"00-" + id + "-" + span + "-01":                             "00-" + id + "-" + span + "-01",
		"00-" + id + "-" + span + "-00":                             "00-" + id + "-" + span + "-00",
		"00-" + id + "-" + span + "-ff":                             "00-" + id + "-" + span + "-01",
		"00-" + id + "-" + span + "-02":                             "00-" + id + "-" + span + "-00",
		"cc-" + id + "-" + span + "-01":                             "00-" + id + "-" + span + "-01",
		"cc-" + id + "-" + span + "-01-more":                        "00-" + id + "-" + span + "-01",
		"cc-" + id + "-" + span + "-01.more":                        "",
		"cc-" + id + "-" + span + "-01-" + strings.Repeat("x", 999): "",
		"00-" + id + "-" + span + "-01-more":                        "",
		"ff-" + id + "-" + span + "-01":                             "",
		"0G-" + id + "-" + span + "-01":                             "",
		"00-" + id + "-" + span + "-0G":                             "",
		"00-" + strings.ToUpper(id) + "-" + span + "-01":            "",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01":        "",
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":          "",
		"00_" + id + "_" + span + "_01":                             "",
		"00-1-2-01":                                                 "",
		"":                                                          "",
		strings.Repeat("0", 1<<20):                                  "",
		"00-" + id + "-" + span + "-0\x00":                          "",
	} {
		sc, ok := tracing.Parse(parent, "")
		if got := tracing.Parent(sc); got != want || ok != (want != "") || ok && !sc.IsRemote() {
			t.Errorf("%.80q: %q, %v; want %q", parent, got, ok, want)
		}
	}
}

// TestParseState: a state that is too long or malformed is left out, and its parent is not.
func TestParseState(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{
		"a=1,b=2": "a=1,b=2", "": "", "a": "", "a=1,a=2": "", "A=1": "", "a=" + strings.Repeat("1", 600): "",
		strings.Repeat("a=1,", 200): "", "a=\x00": "",
	} {
		sc, ok := tracing.Parse("00-"+id+"-"+span+"-01", state)
		if got := sc.TraceState().String(); got != want || !ok {
			t.Errorf("%.40q: %q, %v; want %q", state, got, ok, want)
		}
	}
}

// TestDoubted: the word of a caller that nobody knows does not count, also for a sampler
// that follows parents.
func TestDoubted(t *testing.T) {
	t.Parallel()
	sc, _ := tracing.Parse("00-"+id+"-"+span+"-01", "")
	ctx := tracing.Doubted(t.Context(), sc)
	if at := trace.SpanContextFromContext(ctx); at.IsSampled() || at.TraceID().String() != id || !tracing.Undecided(ctx) {
		t.Errorf("doubted: %v, %v", at, tracing.Undecided(ctx))
	}
	ctx = tracing.Believed(t.Context(), sc)
	if at := trace.SpanContextFromContext(ctx); !at.IsSampled() || tracing.Undecided(ctx) {
		t.Errorf("believed: %v, %v", at, tracing.Undecided(ctx))
	}
}

// TestHeaders: a request has one trace context or none, and what is written can be read.
func TestHeaders(t *testing.T) {
	t.Parallel()
	h := http.Header{"Traceparent": {"00-" + id + "-" + span + "-01"}, "Tracestate": {"a=1", "b=2"}}
	sc, ok := tracing.FromHeader(h)
	if !ok || sc.TraceState().String() != "a=1,b=2" {
		t.Fatalf("%v, %v", sc, ok)
	}
	out := http.Header{"Traceparent": {"theirs"}, "Tracestate": {"theirs"}}
	tracing.Inject(context.Background(), out)
	if out.Get("Traceparent") != "theirs" {
		t.Errorf("without a span it was changed: %v", out)
	}
	tracing.Inject(trace.ContextWithSpanContext(t.Context(), sc), out)
	if again, ok := tracing.FromHeader(out); !ok || !again.Equal(sc) {
		t.Errorf("%v: %v", out, again)
	}
	h.Add("Traceparent", h.Get("Traceparent"))
	if _, ok := tracing.FromHeader(h); ok {
		t.Error("two are taken for one")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("00-"+id+"-"+span+"-01", "a=1")
	f.Fuzz(func(t *testing.T, parent, state string) {
		sc, ok := tracing.Parse(parent, state)
		if ok != sc.IsValid() || len(sc.TraceState().String()) > 512 {
			t.Fatalf("%q, %q: %v", parent, state, sc)
		}
		if ok {
			if again, ok := tracing.Parse(tracing.Parent(sc), sc.TraceState().String()); !ok || !again.Equal(sc) {
				t.Fatalf("%q, %q: %v, then %v", parent, state, sc, again)
			}
		}
	})
}
