package gateway_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/rota-project/rota/gateway"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	theirTrace  = "0af7651916cd43dd8448eb211c80319c"
	theirSpan   = "b7ad6b7169203331"
	theirParent = "00-" + theirTrace + "-" + theirSpan + "-01"
)

// seen makes a configuration whose spans are recorded.
func seen(cfg gateway.Config) (gateway.Config, *tracetest.SpanRecorder) {
	rec := tracetest.NewSpanRecorder()
	cfg.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))
	return cfg, rec
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes() {
		out[string(a.Key)] = a.Value.String()
	}
	return out
}

// TestSpansOfACall: a call that is tried twice has a span within its caller's trace, and
// one below it for each attempt, which the worker is told of. It is so however it came.
func TestSpansOfACall(t *testing.T) {
	t.Parallel()
	for way, startWay := range ways {
		heads := make(chan http.Header, 4)
		take := func(r *bufio.Reader) bool {
			req, err := http.ReadRequest(r)
			if err == nil {
				heads <- req.Header
			}
			return err == nil
		}
		breaks := script(t, func(_ int, _ net.Conn, r *bufio.Reader) { take(r) })
		answers := script(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for take(r) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		cfg, rec := seen(simple(breaks, answers))
		cfg.TraceCallers = true
		_, addr := startWay(t, cfg)
		send(t, "GET", addr, "/run/f?password=1", nil, false, "Traceparent", theirParent, "Tracestate", "a=1", "Baggage", "k=v")
		eventually(t, way+": its spans end", func() bool { return len(rec.Ended()) == 3 })
		var call sdktrace.ReadOnlySpan
		tries := map[string]sdktrace.ReadOnlySpan{}
		for _, s := range rec.Ended() {
			if s.SpanKind() == trace.SpanKindServer {
				call = s
			} else {
				tries[s.SpanContext().SpanID().String()] = s
			}
		}
		at := attributesOf(call)
		if call.Parent().SpanID().String() != theirSpan || call.SpanContext().TraceID().String() != theirTrace || call.Name() != "GET /run/{function}" ||
			at["http.response.status_code"] != "200" || at["rota.function"] != "f" || at["url.path"] != "/run/f" {
			t.Errorf("%s: the call: %v %s %v", way, call.Parent(), call.Name(), at)
		}
		for n := range 2 {
			h := <-heads
			parent := h.Get("Traceparent")
			if len(parent) != 55 || parent[3:35] != theirTrace || h.Get("Tracestate") != "a=1" || h.Get("Baggage") != "k=v" {
				t.Fatalf("%s: attempt %d got %v", way, n+1, h)
			}
			s := tries[parent[36:52]]
			if s == nil || s.Parent().SpanID() != call.SpanContext().SpanID() {
				t.Fatalf("%s: attempt %d belongs to %s, and there are %v", way, n+1, parent, tries)
			}
			at := attributesOf(s)
			if n == 0 && (at["error.type"] != "worker-broke" || at["rota.verdict"] != "tried again") ||
				n == 1 && (at["http.response.status_code"] != "200" || at["http.request.resend_count"] != "1" || at["rota.worker"] != answers) {
				t.Errorf("%s: attempt %d: %v", way, n+1, at)
			}
		}
	}
}

// TestStrangersDoNotRecord: the flag of a caller that nobody knows does not count for a
// sampler that follows parents; a trusted proxy's does. The trace goes on all the same.
func TestStrangersDoNotRecord(t *testing.T) {
	t.Parallel()
	traces := make(chan string, 1)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { traces <- r.Header.Get("Traceparent") })
	for name, trust := range map[string]func(*gateway.Config){
		"": func(*gateway.Config) {}, "configured": func(c *gateway.Config) { c.TraceCallers = true },
		"a trusted proxy": func(c *gateway.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} },
	} {
		cfg, rec := seen(simple(up))
		trust(&cfg)
		_, addr := start(t, cfg)
		send(t, "GET", addr, "/run/f", nil, false, "Traceparent", theirParent)
		want, flags := 0, "-00"
		if name != "" {
			want, flags = 2, "-01"
		}
		if got := <-traces; got[:36] != theirParent[:36] || got[36:52] == theirSpan || !strings.HasSuffix(got, flags) {
			t.Errorf("%q: the worker got %q", name, got)
		}
		eventually(t, "the spans end", func() bool { return len(rec.Ended()) == want })
	}
}

// TestHostileTraces: what is no trace context begins none, and goes no further.
func TestHostileTraces(t *testing.T) {
	t.Parallel()
	heads := make(chan http.Header, 1)
	up := backend(t, func(_ http.ResponseWriter, r *http.Request) { heads <- r.Header })
	cfg, rec := seen(simple(up))
	cfg.TraceCallers = true
	_, addr := start(t, cfg)
	for n, fields := range [][]string{
		{"Traceparent", "00-1-2-01"},
		{"Traceparent", strings.Repeat("0", 8<<10)},
		{"Traceparent", theirParent, "Traceparent", theirParent},
		{"Traceparent", "ff" + theirParent[2:], "Tracestate", "a=1"},
		{"Tracestate", "a=1"},
		{"Traceparent", "00-" + strings.Repeat("0", 32) + "-" + theirSpan + "-01"},
	} {
		send(t, "GET", addr, "/run/f", nil, false, fields...)
		h := <-heads
		got := h.Values("Traceparent")
		if len(got) != 1 || len(got[0]) != 55 || strings.Contains(got[0], theirTrace) || len(h.Values("Tracestate")) > 0 {
			t.Errorf("%.60q: the worker got %.200v", fields, h)
		}
		eventually(t, "the spans end", func() bool { return len(rec.Ended()) == 2*(n+1) })
	}
	for _, state := range []string{strings.Repeat("a", 2<<10), "a=1,a=1", strings.Repeat("k=v,", 100)} {
		send(t, "GET", addr, "/run/f", nil, false, "Traceparent", theirParent, "Tracestate", state)
		if h := <-heads; len(h.Values("Tracestate")) > 0 || h.Get("Traceparent")[3:35] != theirTrace {
			t.Errorf("%.60q: the worker got %.200v", state, h)
		}
	}
}

// TestSpanOfAHedge: each of two workers that are asked at once is told of its own attempt.
func TestSpanOfAHedge(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	slow := false
	parents := make(chan string, 4)
	wait := make(chan struct{})
	worker := func(w http.ResponseWriter, r *http.Request) {
		hedges := r.URL.RawQuery == "slow" // others may be late
		mu.Lock()
		first := slow && hedges
		slow = slow && !hedges
		mu.Unlock()
		if hedges {
			parents <- r.Header.Get("Traceparent")
		}
		if first {
			select {
			case <-wait:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "ok")
	}
	cfg, rec := seen(simple(backend(t, worker), backend(t, worker)))
	cfg.Defaults.Hedge = true
	_, addr := start(t, cfg)
	for range 150 {
		get(t, addr, "/run/f")
	}
	mu.Lock()
	slow = true
	mu.Unlock()
	get(t, addr, "/run/f?slow")
	close(wait)
	one, two := <-parents, <-parents
	if one == two || one[:36] != two[:36] {
		t.Errorf("%s and %s", one, two)
	}
	eventually(t, "both attempts end", func() bool {
		found := 0
		for _, s := range rec.Ended() {
			if id := s.SpanContext().SpanID().String(); s.SpanKind() == trace.SpanKindClient && (id == one[36:52] || id == two[36:52]) {
				found++
			}
		}
		return found == 2
	})
}

// TestWithoutAProvider: a gateway that makes no spans passes trace contexts on as they are.
func TestWithoutAProvider(t *testing.T) {
	t.Parallel()
	heads := make(chan http.Header, 1)
	_, addr := start(t, simple(backend(t, func(_ http.ResponseWriter, r *http.Request) { heads <- r.Header })))
	send(t, "GET", addr, "/run/f", nil, false, "Traceparent", theirParent, "Tracestate", "a=1")
	if h := <-heads; h.Get("Traceparent") != theirParent || h.Get("Tracestate") != "a=1" {
		t.Errorf("the worker got %v", h)
	}
	get(t, addr, "/run/f")
	if h := <-heads; h.Get("Traceparent") != "" {
		t.Errorf("the worker got %v", h)
	}
}

// TestExemplars: a scraper that asks for OpenMetrics is told the trace of a call beside the
// times of its function, and no other is.
func TestExemplars(t *testing.T) {
	t.Parallel()
	cfg, rec := seen(simple(named(t, "w")))
	cfg.TraceCallers, cfg.Functions = true, map[string]gateway.Function{"f": {}}
	_, addr := start(t, cfg)
	send(t, "GET", addr, "/run/f", nil, false, "Traceparent", theirParent)
	eventually(t, "the spans end", func() bool { return len(rec.Ended()) == 2 })
	example := `# {trace_id="` + theirTrace + `"}`
	_, text := send(t, "GET", addr, "/metrics", nil, false, "Accept", "application/openmetrics-text;version=1.0.0")
	if n := strings.Count(text, example); n != 1 || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("%d exemplars in %s", n, text)
	}
	if _, text := get(t, addr, "/metrics"); strings.Contains(text, theirTrace) || !strings.Contains(text, "rota_gateway_call_seconds_bucket") {
		t.Errorf("without being asked: %s", text)
	}
}
