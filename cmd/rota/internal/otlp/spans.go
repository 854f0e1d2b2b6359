// Package otlp sends the spans of a process to a collector: it sets up the SDK of
// OpenTelemetry as the options and the standard variables OTEL_... say.
//
// The roles of the binary open it and hand its provider to what they run. It must never
// hold up who makes spans, whatever the collector does: what does not fit in its queue is
// dropped and counted.
package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/internal/version"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
)

const (
	// queued is the most spans that wait for the collector, or are on their way there.
	queued = 2048
	// batch is how many are sent at once.
	batch = 512
	// exportTimeout is how long the collector may take for them, tries included.
	exportTimeout = 10 * time.Second
	// stopTimeout is how long Close may take: what has not been sent by then is lost.
	stopTimeout = 3 * time.Second
)

// Process says whose spans they are.
type Process struct {
	Role string // scheduler, worker or gateway
	Name string // that of this one among them
	Log  *slog.Logger
}

// Spans sends spans. Nil is one that sends none.
type Spans struct {
	provider *sdktrace.TracerProvider
	sent     *sender
}

// Open begins to send spans as c says. It is nil without an error if tracing is off; then
// nothing is connected to and nothing runs. The collector need not be there.
func Open(ctx context.Context, c Config, p Process) (*Spans, error) {
	if !c.on() {
		return nil, nil //nolint:nilnil // documented
	}
	otel.SetLogger(logr.FromSlogHandler(unquoted{p.Log}))
	ratio, err := c.ratio()
	if err != nil {
		return nil, err
	}
	exporter, err := c.exporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	res, err := resource.New(ctx, resource.WithAttributes(
		semconv.ServiceName("rota-"+p.Role), semconv.ServiceInstanceID(p.Name), semconv.ServiceVersion(version.String()),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		p.Log.Warn("some of OTEL_RESOURCE_ATTRIBUTES cannot be read", "error", err)
	}
	// What the exporters cannot return they would write to the standard error.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { p.Log.Debug("tracing", "error", err) }))
	s := &sender{SpanExporter: exporter, log: p.Log}
	s.over, s.end = context.WithCancel(context.Background())
	q := queue{s, sdktrace.NewBatchSpanProcessor(s, sdktrace.WithMaxQueueSize(queued), sdktrace.WithMaxExportBatchSize(batch), sdktrace.WithExportTimeout(exportTimeout))}
	p.Log.Info("tracing is on", "endpoint", c.shown(), "sample", ratio)
	return &Spans{sdktrace.NewTracerProvider(
		sdktrace.WithResource(res), sdktrace.WithSampler(sampler{ratio}), sdktrace.WithSpanProcessor(q),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{
			AttributeValueLengthLimit: 512, AttributeCountLimit: 32, EventCountLimit: 32, LinkCountLimit: 8,
			AttributePerEventCountLimit: 8, AttributePerLinkCountLimit: 8,
		}),
	), s}, nil
}

// unquoted logs what the library cannot read of its variables, which it would write to the
// standard error with their values: those of headers are secrets.
type unquoted struct{ log *slog.Logger }

func (unquoted) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

func (u unquoted) Handle(ctx context.Context, r slog.Record) error {
	u.log.WarnContext(ctx, "some of the variables OTEL_... cannot be read", "problem", r.Message)
	return nil
}

func (u unquoted) WithAttrs([]slog.Attr) slog.Handler { return u }
func (u unquoted) WithGroup(string) slog.Handler      { return u }

func (c Config) shown() string {
	if c.Endpoint != "" {
		return c.Endpoint
	}
	return "as OTEL_EXPORTER_OTLP_ENDPOINT says"
}

func (c Config) exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	protocol, err := c.protocol()
	if err != nil {
		return nil, err
	}
	headers, err := c.headers()
	if err != nil {
		return nil, err
	}
	if protocol == HTTP {
		var opts []otlptracehttp.Option
		if c.Endpoint != "" {
			opts = append(opts, otlptracehttp.WithEndpointURL(c.Endpoint))
		}
		if headers != nil {
			opts = append(opts, otlptracehttp.WithHeaders(headers))
		}
		return otlptracehttp.New(ctx, opts...)
	}
	var opts []otlptracegrpc.Option
	if c.Endpoint != "" {
		opts = append(opts, otlptracegrpc.WithEndpointURL(c.Endpoint))
	}
	if headers != nil {
		opts = append(opts, otlptracegrpc.WithHeaders(headers))
	}
	return otlptracegrpc.New(ctx, opts...)
}

// Provider is what spans are made with, nil if none are sent.
func (s *Spans) Provider() trace.TracerProvider {
	if s == nil {
		return nil
	}
	return provider{s.provider, s}
}

// provider makes spans, and says to those who count how many were lost: tracing.Lost.
type provider struct {
	*sdktrace.TracerProvider
	spans *Spans
}

func (p provider) Lost() uint64 { return p.spans.Lost() }

// Lost is how many spans were dropped or not taken by the collector.
func (s *Spans) Lost() uint64 {
	if s == nil {
		return 0
	}
	return s.sent.lost.Load()
}

// Close sends what is left, within stopTimeout.
func (s *Spans) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.provider.Shutdown(ctx)
	s.sent.end()
	lost := s.sent.lost.Load() + uint64(max(s.sent.pending.Load(), 0))
	if lost > 0 {
		s.sent.log.Warn("some spans have not reached the collector", "lost", lost, "error", err)
	}
}

// sender sends spans, and tells how that goes.
type sender struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	over    context.Context // once nobody waits for the collector any more
	end     context.CancelFunc
	pending atomic.Int64 // spans in the queue and on their way
	lost    atomic.Uint64
	failing atomic.Bool // which was told
}

// ExportSpans implements sdktrace.SpanExporter. Its error has been told.
func (s *sender) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.over, cancel)()
	err := s.SpanExporter.ExportSpans(ctx, spans)
	s.pending.Add(-int64(len(spans)))
	if err != nil {
		s.lost.Add(uint64(len(spans)))
		s.trouble("spans are not taken by the collector", err)
	} else if s.failing.CompareAndSwap(true, false) {
		s.log.Info("spans are taken by the collector again", "lost", s.lost.Load())
	}
	return nil
}

// queue stands before the SDK's, which would drop what does not fit without a word.
type queue struct {
	to *sender
	sdktrace.SpanProcessor
}

// OnEnd implements sdktrace.SpanProcessor.
func (q queue) OnEnd(span sdktrace.ReadOnlySpan) {
	if !span.SpanContext().IsSampled() {
		return
	}
	if q.to.pending.Add(1) > queued {
		q.to.pending.Add(-1)
		q.to.lost.Add(1)
		q.to.trouble("spans are made faster than they are sent", nil)
		return
	}
	q.SpanProcessor.OnEnd(span)
}

// trouble is told once, until spans are taken again.
func (s *sender) trouble(what string, err error) {
	if s.failing.CompareAndSwap(false, true) {
		s.log.Warn(what+", and dropped", "error", err)
	}
}

// sampler follows who has decided before, and otherwise draws lots.
type sampler struct{ part float64 }

// ShouldSample implements sdktrace.Sampler. Lots are drawn here, not from the trace's id,
// which a caller may have chosen.
func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	yes := parent.IsSampled()
	if !parent.IsValid() || tracing.Undecided(p.ParentContext) {
		yes = s.part >= 1 || rand.Float64() < s.part
	}
	r := sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: parent.TraceState()}
	if yes {
		r.Decision = sdktrace.RecordAndSample
	}
	return r
}

// Description implements sdktrace.Sampler.
func (s sampler) Description() string { return fmt.Sprintf("rota{%g}", s.part) }
