package server_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// TestServer: the API over gRPC and HTTP, health, and an end that does not wait
// for a watch.
func TestServer(t *testing.T) {
	t.Parallel()
	st := memory.New()
	defer st.Close()
	g, h := listen(t), listen(t)
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: "s1"}, GRPC: g, HTTP: h})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+g.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	health, err := healthv1.NewHealthClient(conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := health.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			break
		}
	}
	if _, err := rotav1.NewTasksClient(conn).ApplyTasks(t.Context(), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "a"}}}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.Addr().String()+"/v1/tasks", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), `"a"`) {
		t.Errorf("%s %s %v", res.Status, body, err)
	}
	watch, err := rotav1.NewTasksClient(conn).WatchTasks(t.Context(), &rotav1.WatchTasksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := watch.Recv(); err != nil || e.GetTask().GetId() != "a" {
		t.Errorf("%v, %v", e, err)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	for err == nil {
		_, err = watch.Recv()
	}
	select {
	case err := <-s.Failed():
		t.Errorf("it failed: %v", err)
	default:
	}
	if _, err := server.Start(server.Config{Scheduler: scheduler.Config{}, GRPC: g, HTTP: h}); err == nil || !strings.Contains(err.Error(), "store") {
		t.Errorf("without a store: %v", err)
	}
}
