package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// eventsOf are events as somebody asks a scheduler for them, oldest first.
func eventsOf(t *testing.T, sc *scheduler.Scheduler, r *rotav1.ListEventsRequest) []*rotav1.Event {
	t.Helper()
	svc := sc.Service("")
	defer svc.Close()
	r.PageSize = 1000
	resp, err := svc.ListEvents(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(resp.GetEvents())
	return resp.GetEvents()
}

// lines are events in few words.
func lines(list []*rotav1.Event) string {
	var out []string
	for _, e := range list {
		s := e.GetSubject()
		line := strings.Join(strings.Fields(fmt.Sprint(e.GetKind(), " ", s.GetTask(), " ", s.GetWorker(), " ", e.GetWho())), " ")
		if e.GetFrom() != "" {
			line += " from " + e.GetFrom()
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// has fails unless the lines are among the events, in that order.
func has(t *testing.T, name string, list []*rotav1.Event, want ...string) {
	t.Helper()
	got := strings.Split(lines(list), "\n")
	at := 0
	for _, w := range want {
		for at < len(got) && got[at] != w {
			at++
		}
		if at == len(got) {
			t.Errorf("%s: no %q, in this order, in\n%s", name, w, strings.Join(got, "\n"))
			return
		}
		at++
	}
}

// TestEventsOfACluster: the life of a small cluster, as it is told: by task, by worker,
// by who asked, and as a watch has it.
func TestEventsOfACluster(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		sc := newScheduler(t, "s1", st, scheduler.Config{})
		o := newOwners(t)
		var fails atomic.Bool
		newOne := func(name string) *worker.Worker {
			w, err := worker.New(worker.Config{Name: name, Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
				return sc.Sessions().Dial(ctx), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.HandleTask("", func(ctx context.Context, a worker.Assigned) error {
				if a.Task.ID == "bad" && fails.Load() {
					return fmt.Errorf("feed: %w", exited(3))
				}
				return o.run(name)(ctx, a)
			}); err != nil {
				t.Fatal(err)
			}
			w.Start()
			t.Cleanup(func() { _ = w.Stop(context.Background()) })
			return w
		}
		newOne("w1")
		time.Sleep(10 * time.Second)
		svc := sc.Service("")
		t.Cleanup(svc.Close)
		alice := auth.With(t.Context(), auth.Identity{Kind: auth.ByToken, Name: "alice", Role: auth.Operator})
		fails.Store(true)
		if _, err := svc.ApplyTasks(alice, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "good"}, {Id: "bad", Payload: "hush"}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		fails.Store(false)
		time.Sleep(time.Minute)
		if _, err := svc.ApplyTasks(alice, &rotav1.ApplyTasksRequest{DryRun: true, Tasks: []*rotav1.TaskDefinition{{Id: "dry"}}}); err != nil {
			t.Fatal(err)
		}
		w2 := newOne("w2")
		time.Sleep(time.Minute)
		if _, err := svc.DrainWorker(alice, &rotav1.WorkerRequest{Name: "w1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := svc.UndrainWorker(alice, &rotav1.WorkerRequest{Name: "w1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if err := w2.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := svc.DeleteTasks(alice, &rotav1.DeleteTasksRequest{Ids: []string{"good"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)

		all := eventsOf(t, sc, &rotav1.ListEventsRequest{})
		has(t, "all", all, "worker.joined w1", "task.declared good alice", "worker.joined w2", "worker.draining w1 alice",
			"worker.uncordoned w1 alice", "worker.leaving w2", "worker.left w2", "task.gone good alice")
		for n, e := range all {
			// Repetitions are told together, with the time of the first of them.
			late := e.GetCount() <= 1 && n > 0 && e.GetTime().AsTime().Before(all[n-1].GetTime().AsTime().Add(-time.Second))
			if late || n > 0 && e.GetId() <= all[n-1].GetId() {
				t.Errorf("%v comes after %v", e, all[n-1])
			}
			if strings.Contains(fmt.Sprint(e), "hush") || e.GetScheduler() != "s1" || e.GetSubject().GetTask() == "dry" {
				t.Errorf("%v", e)
			}
		}
		bad := eventsOf(t, sc, &rotav1.ListEventsRequest{Task: "bad"})
		has(t, "bad", bad, "task.declared bad alice", "pass", "task.granted bad w1", "task.failed bad w1", "task.restarted bad w1",
			"task.moved bad w2 from w1", "task.started bad w2", "task.moved bad w1 from w2", "task.started bad w1")
		failures := 0
		for _, e := range bad {
			switch e.GetKind() {
			case "task.failed":
				failures += int(e.GetCount())
				if e.GetText() != "feed: exit status 3" || e.ExitCode == nil || e.GetExitCode() != 3 {
					t.Errorf("%v", e)
				}
				continue
			case "pass":
				if len(e.GetMoves()) != 1 || e.GetMoves()[0].GetTask() != "bad" || e.GetMoves()[0].GetReason() == "" {
					t.Errorf("a pass with others' moves: %v", e)
				}
			}
			if e.ExitCode != nil {
				t.Errorf("an exit status of %v", e)
			}
		}
		if failures < 4 {
			t.Errorf("%d failures in\n%s", failures, lines(bad))
		}
		has(t, "w2", eventsOf(t, sc, &rotav1.ListEventsRequest{Worker: "w2"}), "worker.joined w2", "task.moved bad w2 from w1", "worker.leaving w2", "worker.left w2")
		why, err := svc.Why(t.Context(), &rotav1.WhyRequest{Id: "bad"})
		if err != nil {
			t.Fatal(err)
		}
		moves := why.GetInstances()[0].GetMoves()
		if len(moves) < 3 || moves[0].GetFrom() != "w2" || moves[0].GetTo() != "w1" || moves[0].GetReason() == "" || moves[0].GetGeneration() == 0 ||
			moves[len(moves)-1].GetFrom() != "" || moves[len(moves)-1].GetTo() != "w1" {
			t.Errorf("last moves: %v", moves)
		}
	})
}

// exited is an error about a process, as *exec.ExitError is one.
type exited int

func (e exited) Error() string { return fmt.Sprintf("exit status %d", int(e)) }
func (e exited) ExitCode() int { return int(e) }

// TestEventsOutliveLeaders: what was told stays, each scheduler lists the same, and the
// next leader tells nothing anew.
func TestEventsOutliveLeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		o := newOwners(t)
		list := tasks(6)
		config := scheduler.Config{Sources: []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return list, nil })}}
		s1 := newScheduler(t, "s1", st, config)
		time.Sleep(time.Second)
		s2 := newScheduler(t, "s2", st, config)
		w := newWorker(t, "w1", o, worker.Config{}, s1, s2)
		newWorker(t, "w2", o, worker.Config{}, s1, s2)
		if !w.TryLeaveBarrier(time.Minute) {
			t.Fatal("not all tasks run")
		}
		time.Sleep(5 * time.Second)
		before := eventsOf(t, s1, &rotav1.ListEventsRequest{})
		has(t, "before", before, "leader.elected", "task.declared t0000", "task.granted t0000 w1")
		if err := s1.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		after := eventsOf(t, s2, &rotav1.ListEventsRequest{})
		if lines(after[:len(before)]) != lines(before) {
			t.Errorf("the next leader tells\n%s\nafter\n%s", lines(after), lines(before))
		}
		has(t, "after", after[len(before):], "leader.resigned", "leader.elected")
		var declared int
		for _, e := range after {
			if e.GetKind() == "task.declared" || e.GetKind() == "task.started" {
				declared++
			}
		}
		if declared != 12 {
			t.Errorf("%d times declared or started, of 6 tasks:\n%s", declared, lines(after))
		}
	})
}

// TestEventsOfALostWorker: a worker that is cut off is lost, and fenced when it is back.
func TestEventsOfALostWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		o := newOwners(t)
		list := tasks(2)
		sc := newScheduler(t, "s1", st, scheduler.Config{
			Sources: []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return list, nil })},
		})
		var cut atomic.Bool
		first, end := context.WithCancel(t.Context()) // the first connection
		newWorker(t, "w1", o, worker.Config{Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			if cut.Load() {
				return nil, errors.New("cut off")
			}
			if first.Err() == nil {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				context.AfterFunc(first, cancel)
			}
			return sc.Sessions().Dial(ctx), nil
		}}, sc)
		time.Sleep(10 * time.Second)
		cut.Store(true)
		end()
		time.Sleep(30 * time.Second)
		cut.Store(false)
		time.Sleep(30 * time.Second)
		has(t, "w1", eventsOf(t, sc, &rotav1.ListEventsRequest{Worker: "w1", Kind: "worker"}), "worker.joined w1", "worker.lost w1", "worker.fenced w1", "worker.joined w1")
	})
}

// TestBulkIsBounded: whatever many tasks do at once, few events tell of it, and say what
// they leave out.
func TestBulkIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		o := newOwners(t)
		sc := newScheduler(t, "s1", st, scheduler.Config{})
		newWorker(t, "w1", o, worker.Config{}, sc)
		w2 := newWorker(t, "w2", o, worker.Config{}, sc)
		time.Sleep(10 * time.Second)
		svc := sc.Service("")
		t.Cleanup(svc.Close)
		const all = 3000
		req := &rotav1.ApplyTasksRequest{}
		for n := range all {
			req.Tasks = append(req.Tasks, &rotav1.TaskDefinition{Id: fmt.Sprintf("t%05d", n)})
		}
		if _, err := svc.ApplyTasks(auth.Inside(t.Context()), req); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := w2.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		list := eventsOf(t, sc, &rotav1.ListEventsRequest{})
		if len(list) > 800 {
			t.Errorf("%d events", len(list))
		}
		left := 0
		for _, e := range list {
			if e.GetKind() == "task.declared" && e.GetLeftOut() != 0 && e.GetLeftOut() != all-20 {
				t.Errorf("%v", e)
			}
			if len(e.GetMoves()) > 32 || e.GetKind() == "pass" && len(e.GetMoves())+int(e.GetLeftOut()) == 0 {
				t.Errorf("%v", e)
			}
			if e.GetKind() == "events.left-out" {
				left += int(e.GetLeftOut())
			}
		}
		if left < all {
			t.Errorf("%d left out", left)
		}
		kvs, _, err := st.Range(t.Context(), store.EventsPrefix)
		if err != nil {
			t.Fatal(err)
		}
		if len(kvs) > 100 {
			t.Errorf("%d pages", len(kvs))
		}
	})
}

// TestEventsRefuse: a question that cannot be meant names its field.
func TestEventsRefuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		sc := newScheduler(t, "s1", st, scheduler.Config{})
		svc := sc.Service("")
		t.Cleanup(svc.Close)
		long := strings.Repeat("x", 300)
		for field, r := range map[string]*rotav1.ListEventsRequest{
			"task": {Task: long}, "worker": {Worker: long}, "job": {Job: long}, "program": {Program: long},
			"kind": {Kind: "task.exploded"}, "since": {Since: "yesterday"}, "until": {Until: "2026-13-01T00:00:00Z"},
			"page_size": {PageSize: -1}, "page_token": {PageToken: "x"},
		} {
			_, err := svc.ListEvents(t.Context(), r)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), field) {
				t.Errorf("%s: %v", field, err)
			}
		}
		for _, r := range []*rotav1.ListEventsRequest{
			{PageSize: 1001}, {Since: "2026-01-02T00:00:00Z", Until: "2026-01-01T00:00:00Z"},
		} {
			if _, err := svc.ListEvents(t.Context(), r); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v: %v", r, err)
			}
		}
		if err := svc.WatchEvents(&rotav1.WatchEventsRequest{After: "x"}, nil); status.Code(err) != codes.InvalidArgument {
			t.Errorf("after: %v", err)
		}
		if err := svc.WatchEvents(&rotav1.WatchEventsRequest{Kind: "x"}, nil); status.Code(err) != codes.InvalidArgument {
			t.Errorf("kind: %v", err)
		}
		for _, limits := range []scheduler.EventLimits{{Keep: scheduler.MaxEvents + 1}, {Age: time.Second}, {Age: -1}} {
			if _, err := scheduler.New(scheduler.Config{Store: st, Events: limits}); err == nil || !strings.Contains(err.Error(), "events.") {
				t.Errorf("%+v: %v", limits, err)
			}
		}
	})
}
