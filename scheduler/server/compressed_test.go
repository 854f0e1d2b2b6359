package server_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // what a client may use
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/scheduler/server"
)

// TestStrangersDoNotCompress: a few bytes of somebody without credentials are not
// unpacked to many, by any method that anybody may call, and those who go on are
// closed. Who is known may compress, and is held to the same limits when unpacked.
func TestStrangersDoNotCompress(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	creds := c.source(t, pki.Request{}).Credentials("")
	for _, m := range c.Methods() {
		if !server.Policy()[m].Public {
			continue
		}
		for _, size := range []int{0, 4<<20 - 100, 5 << 20} {
			big := &healthv1.HealthCheckRequest{Service: strings.Repeat("\x00", size)}
			conn := c.dial(t, creds)
			last, refused := error(nil), 0
			for range 200 {
				last = conn.Invoke(t.Context(), m, big, &healthv1.HealthCheckResponse{}, grpc.UseCompressor("gzip"))
				if status.Code(last) != codes.Unimplemented {
					break
				}
				refused++
			}
			if refused == 0 || status.Code(last) != codes.Unavailable {
				t.Errorf("%s, %d bytes: refused %d times, then %v", m, size, refused, last)
			}
		}
		if err := c.dial(t, creds).Invoke(t.Context(), m, &healthv1.HealthCheckRequest{}, &healthv1.HealthCheckResponse{}); err != nil && status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", m, err)
		}
	}
	token := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.secrets[auth.Operator].Reveal())
	known := rotav1.NewTasksClient(c.dial(t, creds))
	if _, err := known.GetTask(token, &rotav1.GetTaskRequest{Id: "nobody"}, grpc.UseCompressor("gzip")); status.Code(err) != codes.NotFound {
		t.Errorf("somebody who is known: %v", err)
	}
	if _, err := known.GetTask(token, &rotav1.GetTaskRequest{Id: strings.Repeat("\x00", 5<<20)}, grpc.UseCompressor("gzip")); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("more than a message may be, when unpacked: %v", err)
	}
	many := &rotav1.DeleteTasksRequest{Ids: make([]string, 100_001)}
	if _, err := known.DeleteTasks(token, many, grpc.UseCompressor("gzip")); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "ids") {
		t.Errorf("more than a list may have, when unpacked: %v", err)
	}
}
