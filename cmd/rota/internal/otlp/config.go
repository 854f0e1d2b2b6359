package otlp

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/secretfile"
)

// The protocols of OTLP that are spoken.
const (
	GRPC = "grpc"
	HTTP = "http/protobuf"
)

// Config says where spans are sent, and which. The zero value is what the standard
// variables OTEL_... say, and without those no tracing.
type Config struct {
	// Endpoint is the collector's URL, http:// or https://. Empty means that of
	// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT.
	Endpoint string
	// Protocol is GRPC or HTTP. Empty means that of OTEL_EXPORTER_OTLP_PROTOCOL, or GRPC.
	Protocol string
	// HeadersFile has headers for the collector, as secretfile.Headers reads them, that are
	// sent over TLS or to this machine only.
	HeadersFile string
	// Sample is the part of traces that begin here, or come from a caller whose word does
	// not count, that is recorded, 0 to 1. Nil means what OTEL_TRACES_SAMPLER says, or 1.
	Sample *float64
	// Callers believes callers who have decided that a trace is recorded.
	Callers bool
}

// Check is nil, or a *rota.FieldError that names the option.
func (c Config) Check() error {
	u, err := url.Parse(c.Endpoint)
	if c.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		return &rota.FieldError{Field: "otlp_endpoint", Value: c.Endpoint, Want: "http://host:port or https://host:port, without a user and a query"}
	}
	if c.Protocol != "" && c.Protocol != GRPC && c.Protocol != HTTP {
		return &rota.FieldError{Field: "otlp_protocol", Value: c.Protocol, Want: GRPC + " or " + HTTP}
	}
	if c.Sample != nil && !(*c.Sample >= 0 && *c.Sample <= 1) {
		return &rota.FieldError{Field: "trace_sample", Value: *c.Sample, Want: "a part of the whole, 0 to 1"}
	}
	if c.HeadersFile != "" {
		switch {
		case c.Endpoint == "":
			return &rota.FieldError{Field: "otlp_headers_file", Value: c.HeadersFile, Want: "otlp_endpoint too"}
		case u.Scheme != "https" && !auth.Loopback(u.Host):
			return &rota.FieldError{Field: "otlp_headers_file", Value: c.HeadersFile, Want: "an otlp_endpoint that begins with https://, or on this machine"}
		}
		if _, err := c.headers(); err != nil {
			return &rota.FieldError{Field: "otlp_headers_file", Value: c.HeadersFile, Want: err.Error()}
		}
	}
	return nil
}

// Args are the flags that give another process the same configuration. Headers are in a
// file, which it reads itself.
func (c Config) Args() []string {
	var out []string
	file := c.HeadersFile
	if abs, err := filepath.Abs(file); file != "" && err == nil {
		file = abs // that one may have another working directory
	}
	for _, f := range [][2]string{{"endpoint", c.Endpoint}, {"protocol", c.Protocol}, {"headers-file", file}} {
		if f[1] != "" {
			out = append(out, "--otlp-"+f[0]+"="+f[1])
		}
	}
	if c.Sample != nil {
		out = append(out, fmt.Sprintf("--trace-sample=%g", *c.Sample))
	}
	if c.Callers {
		out = append(out, "--trace-callers")
	}
	return out
}

// passedOn are the standard variables that a worker gets from its scheduler, but for the
// endpoints: what they say is no secret. Those of headers are, and those of the service's
// name and attributes are the scheduler's own.
var passedOn = []string{
	"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
	"OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
	"OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_SDK_DISABLED",
	"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
}

// passedOnHere are those that name files, good for processes of the same user on the
// same machine.
var passedOnHere = []string{
	"OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
	"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
	"OTEL_EXPORTER_OTLP_CLIENT_KEY", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
}

// Environ are the variables that give a process the same configuration, that of this
// process's own variables included. None has a secret: headers are only named by their
// file, and only to a process on this machine (here). Options are variables of the same
// names, which rota's own commands read, and so that others find them the standard ones.
func (c Config) Environ(here bool) map[string]string {
	out := map[string]string{}
	pass := func(names ...string) {
		for _, name := range names {
			if v := os.Getenv(name); v != "" {
				out[name] = v
			}
		}
	}
	pass(passedOn...)
	if here {
		pass(passedOnHere...)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if u, err := url.Parse(os.Getenv(name)); err == nil && u.User == nil && u.RawQuery == "" { // else it may have a password
			pass(name)
		}
	}
	set := func(value string, names ...string) {
		for _, name := range names {
			if value != "" {
				out[name] = value
			}
		}
	}
	set(c.Endpoint, "ROTA_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	set(c.Protocol, "ROTA_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if abs, err := filepath.Abs(c.HeadersFile); here && c.HeadersFile != "" && err == nil {
		set(abs, "ROTA_OTLP_HEADERS_FILE")
	}
	if c.Sample != nil {
		share := fmt.Sprintf("%g", *c.Sample)
		set(share, "ROTA_TRACE_SAMPLE", "OTEL_TRACES_SAMPLER_ARG")
		set("parentbased_traceidratio", "OTEL_TRACES_SAMPLER")
	}
	if c.Callers {
		set("true", "ROTA_TRACE_CALLERS")
	}
	return out
}

func (c Config) headers() (map[string]string, error) {
	if c.HeadersFile == "" {
		return nil, nil
	}
	b, err := secretfile.Read(c.HeadersFile)
	if err != nil {
		return nil, err
	}
	h, err := secretfile.Headers(c.HeadersFile, b)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(h))
	for name, values := range h {
		out[strings.ToLower(name)] = strings.Join(values, ",")
	}
	return out, nil
}

// env is the first of the variables that is set and not empty.
func env(names ...string) string {
	for _, name := range names {
		if s := os.Getenv(name); s != "" {
			return s
		}
	}
	return ""
}

// on says whether spans are sent anywhere.
func (c Config) on() bool {
	switch exporter := env("OTEL_TRACES_EXPORTER"); {
	case strings.EqualFold(env("OTEL_SDK_DISABLED"), "true"):
		return false
	case c.Endpoint != "":
		return true
	case exporter == "none":
		return false
	default:
		return exporter == "otlp" || env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	}
}

func (c Config) protocol() (string, error) {
	if c.Protocol != "" {
		return c.Protocol, nil
	}
	switch p := env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); p {
	case "", GRPC:
		return GRPC, nil
	case HTTP:
		return HTTP, nil
	default:
		return "", fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL: %q: want %s or %s", p, GRPC, HTTP)
	}
}

// ratio is the part of traces that is recorded.
func (c Config) ratio() (float64, error) {
	if c.Sample != nil {
		return *c.Sample, nil
	}
	switch name := strings.TrimPrefix(env("OTEL_TRACES_SAMPLER"), "parentbased_"); name {
	case "", "always_on":
		return 1, nil
	case "always_off":
		return 0, nil
	case "traceidratio":
		arg := env("OTEL_TRACES_SAMPLER_ARG")
		f, err := strconv.ParseFloat(arg, 64)
		if arg == "" {
			return 1, nil
		}
		if err != nil || !(f >= 0 && f <= 1) {
			return 0, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q: want a part of the whole, 0 to 1", arg)
		}
		return f, nil
	default:
		return 0, fmt.Errorf("OTEL_TRACES_SAMPLER: %q: want always_on, always_off or traceidratio, or these with parentbased_ before", name)
	}
}
