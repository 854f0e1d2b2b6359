package server

import (
	"net/http"
	"time"

	"github.com/rota-project/rota/internal/tracing"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// seconds are the options of how long calls take: native buckets, and a few classic ones.
func seconds(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: []float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

// requests is what is counted of what comes over HTTP. No label has a path, of which
// callers could make any number.
type requests struct {
	flying prometheus.Gauge
	took   *prometheus.HistogramVec
}

// timed counts and times what a handler answers.
func (q requests) timed(next http.Handler) http.Handler {
	return promhttp.InstrumentHandlerInFlight(q.flying, promhttp.InstrumentHandlerDuration(q.took, next))
}

// measure registers what the node counts beside its scheduler: calls over gRPC, requests
// over HTTP, and the messages of programs that pass through.
func (s *Server) measure(to prometheus.Registerer) {
	calls := seconds("", "")
	s.calls = grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(grpcprom.WithHistogramOpts(&calls)))
	s.requests = requests{
		flying: prometheus.NewGauge(prometheus.GaugeOpts{Name: "rota_http_requests_in_flight", Help: "Requests over HTTP in flight, watches too."}),
		took:   prometheus.NewHistogramVec(seconds("rota_http_request_seconds", "Duration of HTTP requests, by method and status."), []string{"method", "code"}),
	}
	gauge := func(name, help string, of func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, of)
	}
	count := func(name, help string, of func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(of()) })
	}
	to.MustRegister(s.calls, s.requests.flying, s.requests.took,
		gauge("rota_program_links", "Connections that carry messages of programs.", func() float64 { return float64(s.relay.Stats().Links) }),
		count("rota_program_frames_total", "Forwarded frames of programs' messages; a frame holds one message, part of one, or several.", func() uint64 { return s.relay.Stats().Frames }),
		count("rota_program_bytes_total", "Forwarded bytes of programs' messages.", func() uint64 { return s.relay.Stats().Bytes }),
		count("rota_spans_lost_total", "Spans that were dropped because the queue was full or the collector did not accept them.", func() uint64 { return tracing.Lost(s.cfg.TracerProvider) }))
}
