package scheduler_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"

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

// TestOrphansOfLaterVersions: tasks of an ended program that stand on a page of a later
// version stay until it can be read. The others go, and the leader stays.
func TestOrphansOfLaterVersions(t *testing.T) {
	t.Parallel()
	for _, root := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			st := memory.New()
			t.Cleanup(func() { st.Close() })
			put := func(ops ...store.Op) {
				t.Helper()
				if _, _, err := st.Txn(t.Context(), nil, ops); err != nil {
					t.Fatal(err)
				}
			}
			var set []record.Task
			for n := range 500 {
				set = append(set, record.NewTask(rota.Task{ID: fmt.Sprintf("t%03d", n), Payload: make([]byte, 300)}, record.ProgramSource("a", "r1")))
			}
			tasks := record.NewTasks()
			w := commit.Writer{Txn: st.Txn, Done: func(units []table.Unit, rev int64) { tasks.Apply(table.Events(units, rev)) }}
			for units, err := tasks.Stage(set, nil); len(units) > 0 || err != nil; units, err = tasks.Stage(set, nil) {
				for r := range w.Write(t.Context(), units) {
					if !r.OK {
						t.Fatal(r.Err)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			lease, _, err := st.Grant(t.Context(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			program := &storepb.Program{Version: record.Version, Name: "a", Run: "r1"}
			value, err := record.Encode(program)
			if err != nil {
				t.Fatal(err)
			}
			put(store.Op{Key: store.ProgramKey("a"), Value: value, Lease: lease})
			sc := newScheduler(t, "s1", st, scheduler.Config{})
			declared := func() (n int) {
				time.Sleep(5 * time.Second)
				synctest.Wait()
				sc.View().Read(func() { n = sc.View().Tasks.Len() })
				return n
			}
			if n := declared(); n != len(set) {
				t.Fatalf("%d declared", n)
			}
			leader, _, _, err := st.Get(t.Context(), store.LeaderKey)
			if err != nil {
				t.Fatal(err)
			}
			pages, _, err := st.Range(t.Context(), store.TasksPrefix)
			if err != nil || len(pages) < 3 {
				t.Fatal(len(pages), err)
			}
			page := pages[1]
			if root {
				page = pages[0]
			}
			program.Version = record.PageVersion + 1
			if value, err = record.Encode(program); err != nil {
				t.Fatal(err)
			}
			put(store.Op{Key: page.Key, Value: value})
			if n := declared(); n != len(set) {
				t.Fatalf("%d declared beside the page", n)
			}
			if err := st.Revoke(t.Context(), lease); err != nil {
				t.Fatal(err)
			}
			if n := declared(); n == 0 || n > len(set)/2 {
				t.Errorf("%d of %d are left", n, len(set))
			}
			if now, _, _, err := st.Get(t.Context(), store.LeaderKey); err != nil || now.Create != leader.Create {
				t.Errorf("another term: %v, %v, %v", leader, now, err)
			}
			put(store.Op{Key: page.Key, Value: page.Value})
			if n := declared(); n != 0 {
				t.Errorf("%d are left in the end", n)
			}
		})
	}
}

// TestStoppedProgramsEnd: a submitted program that was told to stop, and whose process
// was lost, is over though no worker may begin it again: at once, and also when the
// leader then is another. One that was not stopped waits; what was kept of one whose
// task is gone goes.
func TestStoppedProgramsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stop   string
		task   bool // the one of its scheduler function is declared
		begins bool // its process is lost while there is a leader
		stays  bool
	}{
		"stopped":                    {"enough", true, true, false},
		"stopped before the leader":  {"enough", true, false, false},
		"not stopped":                {"", true, true, true},
		"deleted":                    {"", false, true, false},
		"deleted before the leader":  {"", false, false, false},
		"stopped and then deleted":   {"enough", false, true, false},
		"not stopped nor run by now": {"", true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				t.Cleanup(func() { st.Close() })
				put := func(key string, m record.Versioned, lease store.LeaseID) {
					value, err := record.Encode(m)
					if err != nil {
						t.Fatal(err)
					}
					if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: key, Value: value, Lease: lease}}); err != nil {
						t.Fatal(err)
					}
				}
				put(store.HistoryKey("a"), &storepb.ProgramHistory{Version: record.Version, Stop: c.stop}, 0)
				put(store.HistoryKey("runs"), &storepb.ProgramHistory{Version: record.Version, Stop: "enough"}, 0)
				long, _, err := st.Grant(t.Context(), time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				put(store.ProgramKey("runs"), &storepb.Program{Version: record.Version, Name: "runs", Run: "r", Stop: "enough"}, long)
				if c.begins {
					lease, _, err := st.Grant(t.Context(), 30*time.Second)
					if err != nil {
						t.Fatal(err)
					}
					put(store.ProgramKey("a"), &storepb.Program{Version: record.Version, Name: "a", Run: "r", Stop: c.stop}, lease)
				}
				declared := []record.Task{record.NewTask(rota.Task{ID: "program/runs", Kind: rota.ProgramSchedulerKind + "x"}, "")}
				if c.task {
					declared = append(declared, record.NewTask(rota.Task{ID: "program/a", Kind: rota.ProgramSchedulerKind + "x"}, ""))
				}
				units, err := record.NewTasks().Stage(declared, nil)
				if err != nil {
					t.Fatal(err)
				}
				if r := (commit.Writer{Txn: st.Txn}).Together(t.Context(), units...); !r.OK {
					t.Fatal(r.Err)
				}
				api := newScheduler(t, "s1", st, scheduler.Config{}).Service("")
				t.Cleanup(api.Close)
				ctx := auth.Inside(t.Context())
				time.Sleep(time.Minute)
				for id, stays := range map[string]bool{"a": c.stays, "runs": true} {
					_, kept, _, err := st.Get(ctx, store.HistoryKey(id))
					if err != nil {
						t.Fatal(err)
					}
					_, err = api.GetTask(ctx, &rotav1.GetTaskRequest{Id: "program/" + id})
					if stays != (err == nil) || stays != kept {
						t.Errorf("%s: its task: %v; its history is kept: %v", id, err, kept)
					}
				}
			})
		})
	}
}
