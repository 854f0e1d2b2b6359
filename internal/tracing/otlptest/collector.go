// Package otlptest is a collector of spans for tests: a real server of OTLP, over gRPC and
// over HTTP, that keeps what it gets. Only tests use it.
package otlptest

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Span is one that has come.
type Span struct {
	Service, Name, Kind      string
	Trace, ID, Parent, State string
	Failed                   bool
	Began, Ended             time.Time
	Attributes               map[string]string
	Links                    []string // the ids of the spans
	Header                   map[string]string
}

// Collector keeps spans.
type Collector struct {
	collectorv1.UnimplementedTraceServiceServer
	GRPC, HTTP string // endpoints

	mu      sync.Mutex
	spans   []Span
	changed chan struct{}
}

// Start starts a collector that ends with the test.
func Start(tb testing.TB) *Collector {
	tb.Helper()
	c := &Collector{changed: make(chan struct{})}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(srv, c)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(ln)
	}()
	tb.Cleanup(func() { srv.Stop(); <-ended })
	web := httptest.NewServer(http.HandlerFunc(c.post))
	tb.Cleanup(web.Close)
	c.GRPC, c.HTTP = "http://"+ln.Addr().String(), web.URL
	return c
}

// Export implements collectorv1.TraceServiceServer.
func (c *Collector) Export(ctx context.Context, r *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	header := map[string]string{}
	md, _ := metadata.FromIncomingContext(ctx)
	for name, values := range md {
		header[name] = strings.Join(values, ",")
	}
	c.take(r, header)
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func (c *Collector) post(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var m collectorv1.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(b, &m) != nil {
		http.Error(w, "want POST /v1/traces", http.StatusBadRequest)
		return
	}
	header := map[string]string{}
	for name, values := range r.Header {
		header[strings.ToLower(name)] = strings.Join(values, ",")
	}
	c.take(&m, header)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *Collector) take(r *collectorv1.ExportTraceServiceRequest, header map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.GetResourceSpans() {
		service := attributes(rs.GetResource().GetAttributes())["service.name"]
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				one := Span{
					Service: service, Name: s.GetName(), Kind: strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")),
					Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					State: s.GetTraceState(), Failed: s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR,
					Began: time.Unix(0, int64(s.GetStartTimeUnixNano())), Ended: time.Unix(0, int64(s.GetEndTimeUnixNano())),
					Attributes: attributes(s.GetAttributes()), Header: header,
				}
				for _, l := range s.GetLinks() {
					one.Links = append(one.Links, hex.EncodeToString(l.GetSpanId()))
				}
				c.spans = append(c.spans, one)
			}
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func attributes(list []*commonv1.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonv1.AnyValue_StringValue:
			out[kv.GetKey()] = v.StringValue
		case *commonv1.AnyValue_IntValue:
			out[kv.GetKey()] = fmt.Sprint(v.IntValue)
		default:
			out[kv.GetKey()] = kv.GetValue().String()
		}
	}
	return out
}

// Spans are those that have come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Await waits until want is true of what has come, and returns that.
func (c *Collector) Await(tb testing.TB, what string, want func([]Span) bool) []Span {
	tb.Helper()
	timeout := time.NewTimer(2 * time.Minute)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		spans, changed := slices.Clone(c.spans), c.changed
		c.mu.Unlock()
		if want(spans) {
			return spans
		}
		select {
		case <-changed:
		case <-timeout.C:
			names := map[string]int{}
			for _, s := range spans {
				names[s.Service+": "+s.Name]++
			}
			tb.Fatalf("%s: it has not come; there are %v", what, names)
		case <-tb.Context().Done():
			tb.Fatalf("%s: the test ends", what)
		}
	}
}

// Find returns the first span of the service, or of all if that is empty, whose name begins
// like that, and false without one.
func Find(spans []Span, service, name string) (Span, bool) {
	for _, s := range spans {
		if (service == "" || s.Service == service) && strings.HasPrefix(s.Name, name) {
			return s, true
		}
	}
	return Span{}, false
}

// Path returns the services and names of a span and those above it, from the top.
func Path(spans []Span, s Span) string {
	byID := map[string]Span{}
	for _, one := range spans {
		byID[one.ID] = one
	}
	path := s.Service + ": " + s.Name
	seen := map[string]Span{}
	for {
		above, ok := byID[s.Parent]
		if _, again := seen[s.ID]; !ok || again || above.Trace != s.Trace {
			return path
		}
		seen[s.ID] = s
		s = above
		path = s.Service + ": " + s.Name + " > " + path
	}
}
