package server_test

import (
	"context"
	"net"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	jobschedulerv1 "github.com/rota-project/rota/internal/compat/jobscheduler/v1"
	"github.com/rota-project/rota/internal/test/ports"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// oldWorker is as much of an old worker as it takes to be there.
func oldWorker(t *testing.T) (addr string, stop func()) {
	t.Helper()
	l, srv := listen(t), grpc.NewServer()
	jobschedulerv1.RegisterWorkerServer(srv, jobschedulerv1.UnimplementedWorkerServer{})
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return l.Addr().String(), srv.Stop
}

// TestOldWorkersOutliveTheirScheduler wants old workers to be listed by every
// scheduler, to be there when the one that they registered with starts again
// (they never register anew), and to go when they are gone.
func TestOldWorkersOutliveTheirScheduler(t *testing.T) {
	t.Parallel()
	st := memory.New()
	defer st.Close()
	start := func(name string, at net.Listener) (*server.Server, *grpc.ClientConn) {
		t.Helper()
		s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st, Name: name}, GRPC: at, HTTP: listen(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient("passthrough:///"+at.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return s, conn
	}
	listed := func(conn *grpc.ClientConn, want string) {
		t.Helper()
		for {
			resp, err := rotav1.NewWorkersClient(conn).ListWorkers(t.Context(), &rotav1.ListWorkersRequest{})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, w := range resp.GetWorkers() {
				got = w.GetHost()
				if w.GetLabels()["protocol"] != "jobscheduler" || w.GetState() != "ready" {
					t.Fatalf("listed as %v", w)
				}
				if one, err := rotav1.NewWorkersClient(conn).GetWorker(t.Context(), &rotav1.GetWorkerRequest{Name: w.GetName()}); err == nil && one.GetHost() != got {
					t.Fatalf("got as %v", one)
				}
			}
			if got == want {
				return
			}
			select {
			case <-t.Context().Done():
				t.Fatalf("listed %q, want %q", got, want)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	at := ports.Listen(t)
	a, conn := start("a", at)
	b, other := start("b", listen(t))
	worker, stop := oldWorker(t)
	if _, err := jobschedulerv1.NewSchedulerClient(conn).RegisterWorker(t.Context(), &jobschedulerv1.RegisterReq{Address: worker}); err != nil {
		t.Fatal(err)
	}
	listed(conn, worker)
	listed(other, worker)
	if err := a.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	listed(other, worker)
	again, err := net.Listen("tcp", at.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, conn = start("a", again)
	listed(conn, worker)
	// The worker goes while its scheduler is away for good.
	if err := a.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	stop()
	listed(other, "")
	if err := b.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}
