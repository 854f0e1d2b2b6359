package jobs

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job/schedule"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/test/filled"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// lone is a scheduler without workers: what is declared waits.
type lone struct {
	*Control
	t     *testing.T
	sched *scheduler.Scheduler
	store store.Store
}

func newLone(t *testing.T, st store.Store, name string) *lone {
	t.Helper()
	sched, err := scheduler.New(scheduler.Config{Store: st, Name: name, GRPC: name, Lease: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{t: t, sched: sched, store: st}
	l.Control = New(Config{Node: kind.Node{Store: st, View: sched.View(), Capacity: sched.Capacity(), Scheduler: name}})
	sched.Start()
	if err := sched.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lone) stop() {
	l.Close()
	_ = l.sched.Stop(context.Background())
}

func (l *lone) apply(d *rotav1.JobScheduleDefinition) *rotav1.ApplyJobSchedulesResponse {
	l.t.Helper()
	if d.GetJob() == nil {
		d.Job = &rotav1.JobDefinition{Argv: []string{"x"}}
	}
	out, err := l.ApplyJobSchedules(l.t.Context(), &rotav1.ApplyJobSchedulesRequest{Schedules: []*rotav1.JobScheduleDefinition{d}})
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *lone) show(name string) *rotav1.JobSchedule {
	l.t.Helper()
	m, err := l.GetJobSchedule(l.t.Context(), &rotav1.GetJobScheduleRequest{Name: name})
	if err != nil {
		l.t.Fatal(err)
	}
	return m
}

// counted holds a schedule to its counts.
func (l *lone) counted(name string, fired, skipped, missed int64) {
	l.t.Helper()
	if m := l.show(name); m.GetFired() != fired || m.GetSkipped() != skipped || m.GetMissed() != missed {
		l.t.Errorf("%s: fired %d, skipped %d, missed %d; want %d, %d, %d", name, m.GetFired(), m.GetSkipped(), m.GetMissed(), fired, skipped, missed)
	}
}

func bubble(t *testing.T, f func(t *testing.T, st *memory.Store, l *lone)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		defer st.Close()
		l := newLone(t, st, "s")
		defer l.stop()
		time.Sleep(5*time.Second + time.Millisecond) // it leads, and no time of a schedule is now
		f(t, st, l)
	})
}

// TestScheduleOverlap: what becomes of a time at which the job of the last one has not ended.
func TestScheduleOverlap(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memory.Store, l *lone) {
		for _, overlap := range []string{"", schedule.Allow, schedule.Replace} {
			l.apply(&rotav1.JobScheduleDefinition{Name: "o" + overlap, Cron: "* * * * *", Overlap: overlap})
		}
		time.Sleep(5 * time.Minute)
		l.counted("o", 1, 4, 0)
		l.counted("oallow", 5, 0, 0)
		l.counted("oreplace", 5, 0, 0)
		states := map[string]map[string]int{}
		list, err := l.ListJobs(t.Context(), &rotav1.ListJobsRequest{})
		for _, j := range list.GetJobs() {
			if states[j.GetSchedule()] == nil {
				states[j.GetSchedule()] = map[string]int{}
			}
			states[j.GetSchedule()][j.GetState()]++
		}
		want := map[string]map[string]int{"o": {"queued": 1}, "oallow": {"queued": 5}, "oreplace": {"queued": 1, "stopped": 4}}
		if err != nil || !reflect.DeepEqual(states, want) {
			t.Errorf("%v %v, want %v", err, states, want)
		}
		m := l.show("o")
		due := m.GetLastDue().AsTime().Add(-4 * time.Minute)
		if m.GetLastJob() != schedule.ID("o", due) || m.GetLastJobState() != "queued" || !m.GetNext().AsTime().After(time.Now()) {
			t.Errorf("%v", m)
		}
		time.Sleep(200 * time.Minute) // what nobody can place does not fill the store
		l.counted("oallow", schedule.MaxWaiting, 205-schedule.MaxWaiting, 0)
	})
}

// TestScheduleCatchUp: while nobody leads nothing runs; then the last time that is not too
// long ago.
func TestScheduleCatchUp(t *testing.T) {
	bubble(t, func(t *testing.T, st *memory.Store, l *lone) {
		l.apply(&rotav1.JobScheduleDefinition{Name: "late", Cron: "*/10 * * * *", CatchUpMs: 300_000, Overlap: schedule.Allow})
		l.apply(&rotav1.JobScheduleDefinition{Name: "later", Cron: "*/10 * * * *", Overlap: schedule.Allow})
		l.stop()
		time.Sleep(33 * time.Minute)
		l2 := newLone(t, st, "s2")
		defer l2.stop()
		time.Sleep(10 * time.Second)
		l2.counted("late", 1, 0, 2)
		l2.counted("later", 0, 0, 3)
		time.Sleep(10 * time.Minute)
		l2.counted("late", 2, 0, 2)
		l2.counted("later", 1, 0, 3)
	})
}

// TestScheduleNeverAgain: a time that is over is not fired again, by a clock that was set back
// or by a leader that does not know of it; a schedule that was deleted is not either.
func TestScheduleNeverAgain(t *testing.T) {
	bubble(t, func(t *testing.T, st *memory.Store, l *lone) {
		l.apply(&rotav1.JobScheduleDefinition{Name: "set-back", Cron: "* * * * *", Overlap: schedule.Allow})
		write := func(state *storepb.JobScheduleState) {
			state.Version, state.Name = record.Version, "set-back"
			value, err := record.Encode(state)
			if err == nil {
				_, _, err = st.Txn(t.Context(), nil, []store.Op{{Key: store.JobScheduleStateKey("set-back"), Value: value}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		write(&storepb.JobScheduleState{LastUnixUs: micros(time.Now().Add(time.Hour).Truncate(time.Minute)), Fired: 60})
		time.Sleep(59 * time.Minute)
		l.counted("set-back", 60, 0, 0)
		time.Sleep(2*time.Minute + time.Second)
		l.counted("set-back", 61, 0, 0)

		// The write of a firing that goes by an older state is refused, as that of another leader.
		l.mu.Lock()
		p := l.p.schedules["set-back"]
		b := &batch{c: l.Control, now: p.next(), changed: map[string]*change{}, jobs: map[string]int{}}
		b.due("set-back", p)
		l.mu.Unlock()
		u, err := b.unit(b.order[0])
		if err != nil {
			t.Fatal(err)
		}
		if ok, _, err := st.Txn(t.Context(), u.Conds, u.Ops); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if ok, _, err := st.Txn(t.Context(), u.Conds, u.Ops); err != nil || ok {
			t.Fatal("written twice", ok, err)
		}
		time.Sleep(time.Minute)
		l.counted("set-back", 62, 0, 0)

		if _, err := l.DeleteJobSchedule(t.Context(), &rotav1.DeleteJobScheduleRequest{Name: "set-back"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		list, err := l.ListJobs(t.Context(), &rotav1.ListJobsRequest{})
		if err != nil || list.GetTotal() != 2 {
			t.Error(err, list.GetTotal())
		}
		if _, err := l.GetJobSchedule(t.Context(), &rotav1.GetJobScheduleRequest{Name: "set-back"}); status.Code(err) != codes.NotFound {
			t.Error(err)
		}
		if kv, ok, _, err := st.Get(t.Context(), store.JobScheduleStateKey("set-back")); ok || err != nil {
			t.Error("its state is left", kv, err)
		}
	})
}

// TestScheduleSteering: pauses, changes, and what is run at once.
func TestScheduleSteering(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memory.Store, l *lone) {
		def := &rotav1.JobScheduleDefinition{Name: "p", Cron: "* * * * *", Overlap: schedule.Allow}
		if out := l.apply(def); out.GetCreated() != 1 {
			t.Error(out)
		}
		time.Sleep(time.Minute)
		l.counted("p", 1, 0, 0)
		for range 2 {
			if m, err := l.PauseJobSchedule(t.Context(), &rotav1.PauseJobScheduleRequest{Name: "p"}); err != nil || !m.GetDefinition().GetPaused() || m.GetNext() != nil {
				t.Error(err, m)
			}
		}
		if out := l.apply(def); out.GetUnchanged() != 1 { // a file that says nothing of a pause leaves it
			t.Error(out)
		}
		time.Sleep(10 * time.Minute)
		l.counted("p", 1, 0, 0)
		j, err := l.RunJobSchedule(t.Context(), &rotav1.RunJobScheduleRequest{Name: "p"})
		if err != nil || j.GetSchedule() != "p" || l.show("p").GetLastJob() != j.GetId() {
			t.Error(err, j)
		}
		if again, err := l.RunJobSchedule(t.Context(), &rotav1.RunJobScheduleRequest{Name: "p", Id: j.GetId()}); err != nil || again.GetId() != j.GetId() {
			t.Error(err, again)
		}
		if _, err := l.ResumeJobSchedule(t.Context(), &rotav1.ResumeJobScheduleRequest{Name: "p"}); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		l.counted("p", 2, 0, 0)
		def.Cron = "@every 1h"
		if out := l.apply(def); out.GetChanged() != 1 {
			t.Error(out)
		}
		time.Sleep(time.Hour)
		l.counted("p", 3, 0, 0)
		for _, err := range []error{
			errOf(l.PauseJobSchedule(t.Context(), &rotav1.PauseJobScheduleRequest{Name: "nobody"})),
			errOf(l.RunJobSchedule(t.Context(), &rotav1.RunJobScheduleRequest{Name: "nobody"})),
			errOf(l.DeleteJobSchedule(t.Context(), &rotav1.DeleteJobScheduleRequest{Name: "nobody"})),
		} {
			if status.Code(err) != codes.NotFound {
				t.Error(err)
			}
		}
	})
}

// TestLateSchedule: a schedule whose declaration had an unknown outcome, and was not there
// when somebody asked, does not come into being.
func TestLateSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		first := true
		st := faulty.New(under, func(c faulty.Call) (f faulty.Fault) {
			if c.Kind == faulty.Txn && c.Key == store.JobScheduleKey("s") && first {
				first, f.Late = false, 2*time.Second
			}
			return f
		})
		l := newLone(t, st, "s1")
		defer func() {
			l.stop()
			st.Close()
			under.Close()
		}()
		_, err := l.ApplyJobSchedules(t.Context(), &rotav1.ApplyJobSchedulesRequest{Schedules: []*rotav1.JobScheduleDefinition{
			{Name: "s", Cron: "@yearly", Job: &rotav1.JobDefinition{Argv: []string{"x"}}},
		}})
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("%v, want an unknown outcome", err)
		}
		if err := errOf(l.DeleteJobSchedule(t.Context(), &rotav1.DeleteJobScheduleRequest{Name: "s"})); status.Code(err) != codes.NotFound {
			t.Fatalf("%v, want that it is not there", err)
		}
		time.Sleep(5 * time.Second)
		if err := errOf(l.GetJobSchedule(t.Context(), &rotav1.GetJobScheduleRequest{Name: "s"})); status.Code(err) != codes.NotFound {
			t.Errorf("%v, want that it is still not there", err)
		}
	})
}

func errOf[M any](_ M, err error) error { return err }

// TestWrongSchedules: one that is wrong changes nothing.
func TestWrongSchedules(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memory.Store, l *lone) {
		good := &rotav1.JobScheduleDefinition{Name: "good", Cron: "@daily", Job: &rotav1.JobDefinition{Argv: []string{"x"}}}
		for _, bad := range []*rotav1.JobScheduleDefinition{
			{},
			{Name: "a", Cron: "@never", Job: good.GetJob()},
			{Name: "a", Cron: "@daily"},
			good,
			{Name: "a", Cron: "@daily", Job: &rotav1.JobDefinition{Argv: []string{"x"}, Require: []string{"a in"}}},
			{Name: "a", Cron: "@daily", CatchUpMs: -1, Job: good.GetJob()},
		} {
			_, err := l.ApplyJobSchedules(t.Context(), &rotav1.ApplyJobSchedulesRequest{Schedules: []*rotav1.JobScheduleDefinition{good, bad}})
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v: %v", bad, err)
			}
		}
		for _, n := range []int{0, maxApplied + 1} {
			if _, err := l.ApplyJobSchedules(t.Context(), &rotav1.ApplyJobSchedulesRequest{Schedules: make([]*rotav1.JobScheduleDefinition, n)}); status.Code(err) != codes.InvalidArgument {
				t.Error(n, err)
			}
		}
		if _, err := l.ApplyJobSchedules(t.Context(), &rotav1.ApplyJobSchedulesRequest{Schedules: []*rotav1.JobScheduleDefinition{good}, DryRun: true}); err != nil {
			t.Error(err)
		}
		if list, err := l.ListJobSchedules(t.Context(), nil); err != nil || len(list.GetSchedules()) > 0 {
			t.Error(err, list)
		}
	})
}

// TestEveryFieldOfASchedule follows every field into the store and back.
func TestEveryFieldOfASchedule(t *testing.T) {
	t.Parallel()
	var s schedule.Schedule
	n := 0
	filled.Fill(reflect.ValueOf(&s).Elem(), &n)
	value, err := record.Encode(scheduleToStore(s))
	if err != nil {
		t.Fatal(err)
	}
	var m storepb.JobSchedule
	if err := record.Decode(value, &m); err != nil || !reflect.DeepEqual(scheduleFromStore(&m), s) {
		t.Errorf("%v\n got %+v\nwant %+v", err, scheduleFromStore(&m), s)
	}
}
