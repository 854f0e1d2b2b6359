package gatewaycli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/rota-project/rota/cmd/rota/internal/otlp"
	"github.com/rota-project/rota/gateway"
)

// traceFlags say which spans are sent, and where to: the options of the same names that
// the other roles have.
type traceFlags struct {
	conf   otlp.Config
	sample float64
}

func (f *traceFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.conf.Endpoint, "otlp-endpoint", "", "`URL` of a URL of the OTLP trace collector, such as http://localhost:4317; if unset, OTEL_EXPORTER_OTLP_ENDPOINT; if both are unset, tracing is off")
	fs.StringVar(&f.conf.Protocol, "otlp-protocol", "", "protocol of the collector: grpc or http/protobuf (default OTEL_EXPORTER_OTLP_PROTOCOL, or grpc)")
	fs.StringVar(&f.conf.HeadersFile, "otlp-headers-file", "", "`FILE` of HTTP headers for --otlp-endpoint, one \"Name: value\" per line; sent only over TLS or to this machine")
	fs.Float64Var(&f.sample, "trace-sample", 0, "share of traces to record, 0 to 1 (default OTEL_TRACES_SAMPLER, or 1)")
	fs.BoolVar(&f.conf.Callers, "trace-callers", false, "record a trace if the caller's traceparent asks for it, whatever --trace-sample says; trusted_proxies always may")
}

// open begins to send the spans of the gateway that cfg is for.
func (f *traceFlags) open(cmd *cobra.Command, cfg *gateway.Config) (*otlp.Spans, error) {
	if cmd.Flags().Changed("trace-sample") {
		f.conf.Sample = &f.sample
	}
	if err := f.conf.Check(); err != nil {
		return nil, &usageError{err}
	}
	name, _ := os.Hostname()
	spans, err := otlp.Open(cmd.Context(), f.conf, otlp.Process{Role: "gateway", Name: name, Log: cfg.Logger})
	if err != nil {
		return nil, &usageError{err}
	}
	cfg.TracerProvider, cfg.TraceCallers = spans.Provider(), f.conf.Callers
	return spans, nil
}
