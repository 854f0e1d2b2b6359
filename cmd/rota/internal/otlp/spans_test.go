package otlp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/test/memo"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/internal/tracing/otlptest"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func process(log io.Writer) Process {
	return Process{Role: "worker", Name: "w1", Log: slog.New(slog.NewTextHandler(log, nil))}
}

func part(f float64) *float64 { return &f }

// TestDelivers: spans reach a collector over each protocol, with the headers of the file,
// as soon as the process ends.
func TestDelivers(t *testing.T) {
	t.Parallel()
	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("# for the collector\nX-Key: secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{GRPC, HTTP} {
		c := otlptest.Start(t)
		endpoint := c.GRPC
		if protocol == HTTP {
			endpoint = c.HTTP + "/v1/traces"
		}
		var log memo.Buffer
		s, err := Open(t.Context(), Config{Endpoint: endpoint, Protocol: protocol, HeadersFile: headers}, process(&log))
		if err != nil {
			t.Fatal(err)
		}
		_, span := tracing.Tracer(s.Provider()).Start(t.Context(), "work")
		span.End()
		s.Close()
		got := c.Spans()
		if len(got) != 1 || got[0].Service != "rota-worker" || got[0].Name != "work" || got[0].Header["x-key"] != "secret" {
			t.Errorf("%s: %+v", protocol, got)
		}
		if s.Lost() != 0 || tracing.Lost(s.Provider()) != 0 || strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "WARN") {
			t.Errorf("%s: %d lost, the log has %s", protocol, s.Lost(), &log)
		}
	}
}

// TestIllCollectors: whatever a collector does, spans are made and ended at once, what it
// does not take is counted and told once, and the end waits for it no longer than it may.
func TestIllCollectors(t *testing.T) {
	t.Parallel()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := "http://" + ln.Addr().String()
	_ = ln.Close()
	serve := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		return s.URL
	}
	hang, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepted by the kernel, and by nobody else
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hang.Close() })
	refuses := serve(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret <garbage>", http.StatusBadRequest) })
	garbage := serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(bytes.Repeat([]byte{0xff}, 100))
	})
	for name, c := range map[string]Config{
		"away, gRPC":    {Endpoint: away},
		"away, HTTP":    {Endpoint: away, Protocol: HTTP},
		"hangs, gRPC":   {Endpoint: "http://" + hang.Addr().String()},
		"hangs, HTTP":   {Endpoint: "http://" + hang.Addr().String(), Protocol: HTTP},
		"refuses, HTTP": {Endpoint: refuses, Protocol: HTTP},
		"garbage, gRPC": {Endpoint: garbage},
		"garbage, HTTP": {Endpoint: garbage, Protocol: HTTP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log memo.Buffer
			s, err := Open(t.Context(), c, process(&log))
			if err != nil {
				t.Fatal(err)
			}
			tracer := tracing.Tracer(s.Provider())
			const made = 3 * queued
			for range made {
				_, span := tracer.Start(context.Background(), "work")
				span.End()
			}
			if waiting := s.sent.pending.Load(); waiting > queued {
				t.Errorf("%d spans wait", waiting)
			}
			began := time.Now()
			s.Close()
			if took := time.Since(began); took > stopTimeout+30*time.Second {
				t.Errorf("the end took %v", took)
			}
			if lost := s.Lost() + uint64(s.sent.pending.Load()); lost == 0 || lost > made {
				t.Errorf("%d of %d are lost", lost, made)
			}
			if lost := tracing.Lost(s.Provider()); lost != s.Lost() {
				t.Errorf("houses count %d as lost, want %d", lost, s.Lost())
			}
			// One line of the trouble, and one at the end.
			if n := strings.Count(log.String(), "WARN"); n > 2 {
				t.Errorf("%d warnings: %.2000s", n, &log)
			}
		})
	}
}

// TestOff: without an endpoint nothing is opened, and nothing is made.
func TestOff(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"} {
		t.Setenv(name, "")
	}
	off := func(c Config) {
		t.Helper()
		s, err := Open(t.Context(), c, process(io.Discard))
		if s != nil || err != nil || s.Provider() != nil || s.Lost() != 0 {
			t.Errorf("%+v: %v, %v", c, s, err)
		}
		s.Close()
	}
	off(Config{})
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	off(Config{})
	t.Setenv("OTEL_SDK_DISABLED", "true")
	off(Config{Endpoint: "http://127.0.0.1:1"})
}

// TestVariables: the standard variables count where no option does.
func TestVariables(t *testing.T) {
	c := otlptest.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.HTTP)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", HTTP)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
	t.Setenv("OTEL_SERVICE_NAME", "mine")
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0")
	one := func(c Config) {
		s, err := Open(t.Context(), c, process(io.Discard))
		if err != nil {
			t.Fatal(err)
		}
		_, span := tracing.Tracer(s.Provider()).Start(t.Context(), "work")
		span.End()
		s.Close()
	}
	one(Config{})
	if got := c.Spans(); len(got) > 0 {
		t.Errorf("recorded although none is to be: %+v", got)
	}
	one(Config{Sample: part(1)})
	if got := c.Spans(); len(got) != 1 || got[0].Service != "mine" || got[0].Header["x-key"] != "secret" {
		t.Errorf("%+v", got)
	}
	for name, bad := range map[string]string{"OTEL_TRACES_SAMPLER_ARG": "2", "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon", "OTEL_TRACES_SAMPLER": "coin"} {
		before := os.Getenv(name)
		t.Setenv(name, bad)
		if s, err := Open(t.Context(), Config{}, process(io.Discard)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v, %v", name, bad, s, err)
		}
		t.Setenv(name, before)
	}
}

// TestEnviron: another process gets the same configuration by variables, and no secret.
func TestEnviron(t *testing.T) {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hush")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=hush")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://me:hush@a.example")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://b.example")
	t.Setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/etc/key")
	t.Setenv("OTEL_SERVICE_NAME", "a-scheduler")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte("X-Key: hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		Config
		here bool
		want map[string]string
	}{
		"variables": {Config{}, false, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://b.example", "OTEL_BSP_SCHEDULE_DELAY": "100"}},
		"variables, on this machine": {Config{}, true, map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "https://b.example", "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/etc/key",
		}},
		"options": {Config{Endpoint: "https://c.example", Protocol: HTTP, HeadersFile: file, Sample: part(0.25), Callers: true}, false, map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "https://b.example", "OTEL_BSP_SCHEDULE_DELAY": "100",
			"ROTA_OTLP_ENDPOINT": "https://c.example", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c.example",
			"ROTA_OTLP_PROTOCOL": HTTP, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": HTTP,
			"ROTA_TRACE_SAMPLE": "0.25", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25", "ROTA_TRACE_CALLERS": "true",
		}},
		"headers": {Config{Endpoint: "https://c.example", HeadersFile: file}, true, map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "https://b.example", "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/etc/key",
			"ROTA_OTLP_ENDPOINT": "https://c.example", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c.example", "ROTA_OTLP_HEADERS_FILE": file,
		}},
	} {
		if got := c.Environ(c.here); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v\nwant %v", name, got, c.want)
		}
	}
}

// TestCheck: what cannot be meant is refused under the option's name.
func TestCheck(t *testing.T) {
	t.Parallel()
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte("a: b"), 0o644); err != nil {
		t.Fatal(err)
	}
	for field, cases := range map[string][]Config{
		"otlp_endpoint": {
			{Endpoint: "localhost:4317"}, {Endpoint: "grpc://a:1"}, {Endpoint: "http://"}, {Endpoint: "http://u:p@a:1"}, {Endpoint: "http://a:1?token=x"},
		},
		"otlp_protocol": {{Protocol: "http/json"}},
		"trace_sample":  {{Sample: part(2)}, {Sample: part(-1)}, {Sample: part(math.NaN())}},
		"otlp_headers_file": {
			{HeadersFile: open},
			{HeadersFile: open, Endpoint: "http://127.0.0.1:1"},
			{HeadersFile: "/nowhere", Endpoint: "https://a:1"},
			{HeadersFile: open, Endpoint: "http://example.org:4317"},
		},
	} {
		for _, c := range cases {
			var fe *rota.FieldError
			if err := c.Check(); !errors.As(err, &fe) || fe.Field != field {
				t.Errorf("%+v: %v", c, err)
			}
		}
	}
	if err := (Config{Endpoint: "https://a.example:4317/x", Protocol: HTTP, Sample: part(0.01)}).Check(); err != nil {
		t.Error(err)
	}
}

// TestSampler: who has decided is followed, unless nobody knows who that is: then not even
// a trace id that was chosen for it helps.
func TestSampler(t *testing.T) {
	t.Parallel()
	yes, _ := tracing.Parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1")
	low, _ := tracing.Parse("00-00000000000000010000000000000001-b7ad6b7169203331-01", "")
	no := yes.WithTraceFlags(0)
	for name, c := range map[string]struct {
		ctx  context.Context
		part float64
		want bool
	}{
		"begins here, none":           {t.Context(), 0, false},
		"begins here, all":            {t.Context(), 1, true},
		"believed, yes":               {tracing.Believed(t.Context(), yes), 0, true},
		"believed, no":                {tracing.Believed(t.Context(), no), 1, false},
		"doubted, yes":                {tracing.Doubted(t.Context(), yes), 0, false},
		"doubted, no":                 {tracing.Doubted(t.Context(), no), 1, true},
		"doubted, with a low id":      {tracing.Doubted(t.Context(), low), 1e-9, false},
		"below one that was recorded": {trace.ContextWithSpanContext(tracing.Doubted(t.Context(), no), yes.WithRemote(false)), 0, true},
		"below one that was not":      {trace.ContextWithSpanContext(tracing.Doubted(t.Context(), yes), no.WithRemote(false)), 1, false},
	} {
		r := sampler{part: c.part}.ShouldSample(sdktrace.SamplingParameters{ParentContext: c.ctx, TraceID: trace.SpanContextFromContext(c.ctx).TraceID()})
		if (r.Decision == sdktrace.RecordAndSample) != c.want {
			t.Errorf("%s: %v", name, r.Decision)
		}
		if want := trace.SpanContextFromContext(c.ctx).TraceState().String(); r.Tracestate.String() != want {
			t.Errorf("%s: state %q, want %q", name, r.Tracestate.String(), want)
		}
	}
}

// TestVariablesAreNotQuoted: of variables that cannot be read the log says so once, and
// not what they hold.
func TestVariablesAreNotQuoted(t *testing.T) {
	c := otlptest.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.HTTP)
	for _, protocol := range []string{GRPC, HTTP} {
		for _, headers := range []string{"authorization: Bearer hush", "a=b,hush", "a\x01hush=b", "a=%zzhush"} {
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
			var log memo.Buffer
			s, err := Open(t.Context(), Config{Protocol: protocol}, process(&log))
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			if got := log.String(); strings.Contains(got, "hush") || !strings.Contains(got, `some of the variables OTEL_... cannot be read" problem=`) {
				t.Errorf("%s, %q: %s", protocol, headers, got)
			}
		}
	}
}
