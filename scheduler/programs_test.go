package scheduler_test

import (
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestEndedPrograms: what happened to a program can be read for an hour after its
// end, and no longer.
func TestEndedPrograms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		sc := newScheduler(t, "s1", st, scheduler.Config{})
		api := sc.Service("")
		t.Cleanup(api.Close)
		get := func() (*rotav1.Program, error) {
			return api.GetProgram(t.Context(), &rotav1.GetProgramRequest{Name: "a"})
		}
		begin := func(run string) store.LeaseID {
			lease, _, err := st.Grant(t.Context(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			value, err := record.Encode(&storepb.Program{
				Version: record.Version, Name: "a", Run: run, Phase: "running",
				Events: []*storepb.ProgramEvent{{Kind: "registered", Text: run}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: store.ProgramKey("a"), Value: value, Lease: lease}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			return lease
		}
		if p, err := get(); status.Code(err) != codes.NotFound {
			t.Errorf("before there is any: %v %v", p, err)
		}
		for _, run := range []string{"r1", "r2"} {
			lease := begin(run)
			if p, err := get(); err != nil || p.GetPhase() != "running" || p.GetRun() != run {
				t.Errorf("while it runs: %v %v", p, err)
			}
			if err := st.Revoke(t.Context(), lease); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if p, err := get(); err != nil || p.GetPhase() != "ended" || p.GetRun() != run || len(p.GetEvents()) != 1 || p.GetEvents()[0].GetText() != run {
				t.Errorf("after its end: %v %v", p, err)
			}
			time.Sleep(50 * time.Minute)
		}
		if l, err := api.ListPrograms(t.Context(), &rotav1.ListProgramsRequest{}); err != nil || len(l.GetPrograms()) != 0 {
			t.Errorf("listed: %v %v", l, err)
		}
		if _, err := get(); err != nil {
			t.Errorf("50 minutes after its end: %v", err)
		}
		time.Sleep(11 * time.Minute)
		if p, err := get(); status.Code(err) != codes.NotFound {
			t.Errorf("an hour after its end: %v %v", p, err)
		}
	})
}
