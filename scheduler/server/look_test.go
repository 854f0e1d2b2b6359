package server_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/peer"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// window opens a window on a store and connects to it.
func window(t *testing.T, st *memory.Store) *grpc.ClientConn {
	t.Helper()
	w, err := server.Look(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := w.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), w.Close()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// replica is a cluster of one, with two tasks that run.
func replica(t *testing.T, st *memory.Store) {
	t.Helper()
	n, err := peer.New(peer.Config{
		Store: st, Root: "r", Name: "r1",
		Generator: func(context.Context) ([]rota.Task, error) { return []rota.Task{{ID: "a"}, {ID: "b"}}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() { _ = n.Stop(context.Background()) })
	if !n.TryLeaveBarrier(time.Minute) {
		t.Fatal("not all tasks run")
	}
}

func TestLook(t *testing.T) {
	t.Parallel()
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	replica(t, st)
	conn := window(t, st)
	s, err := rotav1.NewClusterClient(conn).GetStatus(t.Context(), &rotav1.GetStatusRequest{})
	if err != nil || s.GetLeader() != "r1" || s.GetTasks().GetRunning() != 2 || s.GetStale() {
		t.Errorf("status %v, %v", s, err)
	}
	why, err := rotav1.NewTasksClient(conn).Why(t.Context(), &rotav1.WhyRequest{Id: "a"})
	if err != nil || why.GetInstances()[0].GetInstance().GetWorker() != "r1" {
		t.Errorf("why %v, %v", why, err)
	}
}

// written are the revisions at which all keys were written last, but those of events:
// the replica tells of itself whenever it comes to it.
func written(t *testing.T, st store.Store) map[string]int64 {
	t.Helper()
	kvs, _, err := st.Range(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, kv := range kvs {
		if !store.IsEvent(kv.Key) {
			out[kv.Key] = kv.Mod
		}
	}
	return out
}

// TestReadsOnly calls every method there is: those that change something are refused,
// and nothing changes.
func TestReadsOnly(t *testing.T) {
	t.Parallel()
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	replica(t, st)
	conn := window(t, st)
	before := written(t, st)
	refused, answered := 0, 0
	for method, rule := range server.Policy() {
		if !strings.HasPrefix(method, "/rota.v1.") {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
		cancel()
		switch code := status.Code(err); {
		case rule.Writes || rule.Worker:
			refused++
			if code != codes.PermissionDenied || !strings.Contains(err.Error(), "only looked at") {
				t.Errorf("%s: %v", method, err)
			}
		case code == codes.PermissionDenied:
			t.Errorf("%s is refused: %v", method, err)
		default:
			answered++
		}
	}
	if refused < 10 || answered < 10 {
		t.Errorf("%d refused, %d answered: that cannot be all", refused, answered)
	}
	if after := written(t, st); !maps.Equal(before, after) {
		t.Errorf("the store went from %v to %v", before, after)
	}
	for _, m := range []string{"/rota.v1.Jobs/ListJobs", "/rota.v1.Nothing/Known"} {
		if err := conn.Invoke(t.Context(), m, &emptypb.Empty{}, &emptypb.Empty{}); err == nil {
			t.Errorf("%s is answered", m)
		}
	}
}

func TestNothing(t *testing.T) {
	t.Parallel()
	st := memory.New()
	t.Cleanup(func() { st.Close() })
	if _, err := server.Look(t.Context(), st); !errors.Is(err, server.ErrNoCluster) {
		t.Errorf("an empty store: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := server.Look(ctx, st); err == nil {
		t.Error("opened though asked to end")
	}
}
