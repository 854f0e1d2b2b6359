package service_test

import (
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// TestLeases: how long a worker's lease lasts is asked of the store where its
// session is another scheduler's, of one worker as of all.
func TestLeases(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		lease, _, err := b.st.Grant(b.Context(), 10*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		b.put(store.Op{
			Key: store.SessionKey("w"), Lease: lease,
			Value: b.value(&storepb.Session{Version: 1, Name: "w", AnyKind: true, Lease: int64(lease)}),
		})
		time.Sleep(3 * time.Second)
		one, err := b.svc.GetWorker(b.Context(), &rotav1.GetWorkerRequest{Name: "w"})
		if err != nil || one.GetLeaseLeftMs() != 7000 {
			b.Errorf("asked for it: %d ms, %v", one.GetLeaseLeftMs(), err)
		}
		all, err := b.svc.ListWorkers(b.Context(), &rotav1.ListWorkersRequest{})
		if err != nil || len(all.GetWorkers()) != 1 || all.GetWorkers()[0].GetLeaseLeftMs() != 7000 {
			b.Errorf("asked for all: %v, %v", all, err)
		}
		w, err := b.svc.CordonWorker(b.Context(), &rotav1.WorkerRequest{Name: "w"})
		if err != nil || w.GetLeaseLeftMs() != 7000 {
			b.Errorf("cordoned: %d ms, %v", w.GetLeaseLeftMs(), err)
		}
		// What is remembered of a worker for its return outlives a drain.
		b.put(store.Op{Key: store.NodeKey("w"), Value: b.value(&storepb.Node{
			Version: 1, Name: "w", Cordoned: true, Last: &storepb.Session{Name: "w", RestartGraceMs: 1000},
		})})
		if _, err := b.svc.UndrainWorker(b.Context(), &rotav1.WorkerRequest{Name: "w"}); err != nil {
			b.Fatal(err)
		}
		b.v.Read(func() {
			if n := b.v.Nodes["w"]; n.GetLast().GetRestartGraceMs() != 1000 || n.GetCordoned() {
				b.Errorf("after the end of a drain %v is remembered", n)
			}
		})
		if err := b.st.Revoke(b.Context(), lease); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		if w, err := b.svc.GetWorker(b.Context(), &rotav1.GetWorkerRequest{Name: "w"}); err != nil || w.GetState() != "lost" || w.GetLeaseLeftMs() != 0 {
			b.Errorf("when it is gone: %v, %v", w, err)
		}
	})
}
