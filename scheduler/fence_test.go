package scheduler_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// TestFenceForgetsWhoLived: of who lived before a backup nothing is left, nor of what kinds
// of work workers took, whatever kinds there are; what was declared is.
func TestFenceForgetsWhoLived(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		defer st.Close()
		worker, _, err := st.Grant(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		program, _, err := st.Grant(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for key, lease := range map[string]store.LeaseID{
			store.SessionKey("w"): worker, store.JobWorkerKey("w"): worker, "somethingworkers/w": worker, store.SchedulerKey("s"): 0,
			store.WorkerGrants("w") + "0": 0, store.JobKey("j"): 0, store.ProgramKey("p"): program, store.NodeKey("w"): 0,
		} {
			if ok, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte("x"), Lease: lease}}); !ok || err != nil {
				t.Fatal(key, ok, err)
			}
		}
		if err := scheduler.Fence(t.Context(), st, time.Second); err != nil {
			t.Fatal(err)
		}
		left := map[string]bool{store.JobKey("j"): true, store.ProgramKey("p"): true, store.NodeKey("w"): true}
		kvs, _, err := st.Range(t.Context(), "")
		if err != nil || len(kvs) != len(left) {
			t.Errorf("%d keys are left: %v", len(kvs), err)
		}
		for _, kv := range kvs {
			if !left[kv.Key] {
				t.Errorf("%s is left", kv.Key)
			}
		}
	})
}
