package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// TestHealth: the status and the line of each answer.
func TestHealth(t *testing.T) {
	t.Parallel()
	for status, want := range map[healthpb.HealthCheckResponse_ServingStatus]int{
		healthpb.HealthCheckResponse_SERVING: ExitDone, healthpb.HealthCheckResponse_NOT_SERVING: ExitFailed, healthpb.HealthCheckResponse_UNKNOWN: ExitFailed,
	} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h := health.NewServer()
		h.SetServingStatus("", status)
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, h)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.Serve(l)
		}()
		code, out, errs := runRota(t, map[string]string{"ROTA_SERVER": l.Addr().String()}, "", "health")
		s.Stop()
		<-ended
		if code != want || (want == ExitDone) != strings.HasSuffix(out, "serves\n") || (want == ExitDone) == strings.Contains(errs, "does not serve") {
			t.Errorf("%s: status %d, %q, %q", status, code, out, errs)
		}
	}
	for text, ready := range map[string]bool{"ready: 3 instances run here\n": true, "worker is new\x1b[31m": false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("it asks %s", r.URL)
			}
			if !ready {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = w.Write([]byte(text))
		}))
		code, out, errs := runRota(t, nil, "", "health", "--worker", s.Listener.Addr().String())
		s.Close()
		if (code == ExitDone) != ready || code == ExitUsage || ready && !strings.Contains(out, "ready: 3 instances") || !ready && !strings.Contains(errs, "is not ready: worker is new") || strings.Contains(errs, "\x1b") {
			t.Errorf("%q: status %d, %q, %q", text, code, out, errs)
		}
	}
	for args, want := range map[string]int{
		"--worker 127.0.0.1:1": ExitFailed, "--worker http://x": ExitUsage, "--worker a/b": ExitUsage, "x": ExitUsage, "--server 127.0.0.1:1": ExitFailed,
	} {
		if code, _, errs := runRota(t, nil, "", append([]string{"health"}, strings.Fields(args)...)...); code != want || errs == "" {
			t.Errorf("%s: status %d, %q", args, code, errs)
		}
	}
}
