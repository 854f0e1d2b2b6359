package server_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/program/flow"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// measured is what a node's metric says, summed over its labels but those given.
func measured(t *testing.T, s *server.Server, name string, labels map[string]string) (sum float64) {
	t.Helper()
	families, err := s.Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue metrics
				}
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				sum += m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				sum += float64(m.GetHistogram().GetSampleCount())
			default:
				sum += m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// TestCallsAreCounted: calls over gRPC and over HTTP, requests over HTTP by method and
// status with no path in a label, and the messages of programs that pass through.
func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	st := memory.New()
	t.Cleanup(st.Close)
	g, h := listen(t), listen(t)
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "s1"}, GRPC: g, HTTP: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+g.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := rotav1.NewTasksClient(conn).GetTask(t.Context(), &rotav1.GetTaskRequest{Id: "nobody"}); err == nil {
		t.Fatal("there is no such task")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+h.Addr().String()+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body) // the status is what counts
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	for i := range 5 {
		ask(http.MethodGet, "/v1/tasks/no"+strconv.Itoa(i), http.StatusNotFound)
	}
	ask(http.MethodGet, "/", http.StatusOK)
	ask("BREW", "/healthz", http.StatusMethodNotAllowed)
	for _, c := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"grpc_server_handled_total", map[string]string{"grpc_method": "GetTask", "grpc_code": "NotFound"}, 6},
		{"grpc_server_handling_seconds", map[string]string{"grpc_method": "GetTask"}, 6},
		{"rota_http_request_seconds", map[string]string{"method": "get", "code": "404"}, 5},
		{"rota_http_request_seconds", map[string]string{"method": "get", "code": "200"}, 1},
		{"rota_http_request_seconds", map[string]string{"method": "unknown", "code": "405"}, 1},
		{"rota_http_requests_in_flight", nil, 0},
	} {
		settles(t, c.name, func() bool { return measured(t, s, c.name, c.labels) == c.want }) // it is counted when the answer is out
	}

	dial := func() *link.Node {
		k, err := new(net.Dialer).DialContext(t.Context(), "tcp", g.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n, ended := link.NewNode(link.NodeConfig{}), make(chan struct{})
		go func() {
			defer close(ended)
			_ = n.Serve(t.Context(), k) // until the test cuts it
		}()
		t.Cleanup(func() {
			_ = k.Close()
			<-ended
		})
		return n
	}
	one, other := dial(), dial()
	in := link.NewInbox()
	other.Bind(flow.Addr{2}, in, nil).Open(flow.Addr{1}, 0, 64<<10)
	lane := one.Bind(flow.Addr{1}, link.NewInbox(), nil).Open(flow.Addr{2}, 0, 0)
	const messages, size = 20, 1000
	for i := range uint64(messages) {
		if err := lane.Send(t.Context(), i, append(binary.BigEndian.AppendUint64(nil, i), make([]byte, size-8)...)); err != nil {
			t.Fatal(err)
		}
	}
	batch := make([]link.Record, messages)
	for got := 0; got < messages; {
		n, err := in.Read(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	settles(t, "frames", func() bool { return measured(t, s, "rota_program_bytes_total", nil) >= messages*size })
	if n := measured(t, s, "rota_program_frames_total", nil); n < 1 || n > 10*messages {
		t.Errorf("%v frames of %d messages", n, messages)
	}
	if n := measured(t, s, "rota_program_links", nil); n != 2 {
		t.Errorf("%v links", n)
	}
}

// settles waits until something is so.
func settles(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after a minute", what)
		}
	}
}
