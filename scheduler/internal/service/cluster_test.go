package service_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestStatusAndWorkers(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		ctx := b.Context()
		b.apply("a", "b", "c", "d")
		b.worker("w1", false)
		b.worker("w2", false)
		b.worker("w3", true)
		b.put(store.Op{Key: store.NodeKey("gone"), Value: b.value(&storepb.Node{Version: 1, Name: "gone", LostUnixMs: 1})},
			store.Op{Key: store.LeaderKey, Lease: b.lease(), Value: b.value(&storepb.Leader{Version: 1, Name: "s1"})},
			store.Op{Key: store.SchedulerKey("s1"), Value: b.value(&storepb.Scheduler{Version: 1, Name: "s1", Grpc: "g"})},
			store.Op{Key: store.SourceKey("list"), Value: b.value(&storepb.Source{Version: 1, Tasks: 3, Error: "e"})})
		b.grant("w1", "a", 1, false, ownership.Running)
		b.grant("w2", "a", 2, false, ownership.Running) // takes over
		b.grant("w1", "b", 1, false, ownership.Running)
		b.grant("w2", "c", 1, true, ownership.Stopping)
		s, err := b.svc.GetStatus(ctx, &rotav1.GetStatusRequest{})
		if err != nil {
			b.Fatal(err)
		}
		if s.GetLeader() != "s1" || s.GetEpoch() == 0 || len(s.GetSchedulers()) != 1 || !s.GetSchedulers()[0].GetLeader() || !s.GetBarrier() ||
			s.GetWorkers().GetReady() != 2 || s.GetWorkers().GetDraining() != 1 || s.GetWorkers().GetLost() != 1 ||
			s.GetTasks().GetDeclared() != 4 || s.GetTasks().GetRunning() != 2 || s.GetTasks().GetWaiting() != 2 ||
			s.GetImbalance() != 1 || s.GetVersion() != "v1" || s.GetSources()[0].GetError() != "e" {
			b.Errorf("status %v", s)
		}
		if d, _ := b.svc.GetTask(ctx, &rotav1.GetTaskRequest{Id: "a"}); d.GetInstances()[0].GetWorker() != "w2" || d.GetInstances()[0].GetGeneration() != 2 {
			b.Errorf("owner %v", d)
		}
		l, err := b.svc.ListWorkers(ctx, &rotav1.ListWorkersRequest{})
		var got []string
		for _, w := range l.GetWorkers() {
			got = append(got, fmt.Sprint(w.GetName(), w.GetState(), w.GetInstances()))
		}
		if err != nil || fmt.Sprint(got) != "[gonelost0 w1ready2 w2ready2 w3draining0]" {
			b.Error(got, err)
		}
		for _, f := range []func(context.Context, *rotav1.WorkerRequest) (*rotav1.Worker, error){b.svc.CordonWorker, b.svc.DrainWorker, b.svc.UndrainWorker, b.svc.ForgetWorker} {
			_, err := f(ctx, &rotav1.WorkerRequest{Name: "x"})
			b.wants(err, codes.NotFound, `"x"`, "")
		}
		_, err = b.svc.GetWorker(ctx, &rotav1.GetWorkerRequest{Name: "x"})
		b.wants(err, codes.NotFound, `"x"`, "")
		if s.GetTasks().GetFailing() != 0 {
			b.Errorf("%d tasks fail", s.GetTasks().GetFailing())
		}
		b.grant("w1", "d", 1, false, ownership.Backoff)
		b.grant("w1", "c", 2, true, ownership.Backoff) // it is taken away
		if s, err = b.svc.GetStatus(ctx, &rotav1.GetStatusRequest{}); err != nil || s.GetTasks().GetFailing() != 1 || s.GetTasks().GetWaiting() != 2 {
			b.Errorf("status %v, %v", s, err)
		}
		for _, step := range []struct {
			f    func(context.Context, *rotav1.WorkerRequest) (*rotav1.Worker, error)
			want string
		}{
			{b.svc.UndrainWorker, "ready"},
			{b.svc.CordonWorker, "cordoned"},
			{b.svc.DrainWorker, "draining"},
			{b.svc.UndrainWorker, "ready"},
			{b.svc.UndrainWorker, "ready"},
		} {
			if w, err := step.f(ctx, &rotav1.WorkerRequest{Name: "w1"}); err != nil || w.GetState() != step.want {
				b.Errorf("%v, %v, want %s", w, err, step.want)
			}
		}
		b.v.Read(func() {
			if b.v.Nodes["w1"] != nil {
				b.Error("nothing is left to remember, and it is")
			}
		})
		_, err = b.svc.GetStoppable(ctx, &rotav1.GetStoppableRequest{})
		b.wants(err, codes.InvalidArgument, "", "names")
		_, err = b.svc.GetStoppable(ctx, &rotav1.GetStoppableRequest{Names: []string{"w1", "x"}})
		b.wants(err, codes.NotFound, `"x"`, "")
		stoppable := func(want bool, why string) {
			b.Helper()
			s, err := b.svc.GetStoppable(ctx, &rotav1.GetStoppableRequest{Names: []string{"w1"}})
			if err != nil || s.GetStoppable() != want || !strings.Contains(strings.Join(s.GetReasons(), "; "), why) {
				b.Errorf("%v, %v, want %v because %q", s, err, want, why)
			}
		}
		b.put(store.Op{Key: store.LeaderKey, Delete: true})
		stoppable(false, "no scheduler leads")
		b.put(store.Op{Key: store.LeaderKey, Lease: b.lease(), Value: b.value(&storepb.Leader{Version: 1, Name: "s1"})})
		stoppable(true, "")
		b.age = time.Minute
		stoppable(false, "last answered 1m0s ago")
		b.age = 0
		if s, err := b.svc.GetStoppable(ctx, &rotav1.GetStoppableRequest{Names: []string{"w1", "w2"}}); err != nil || s.GetStoppable() || len(s.GetReasons()) == 0 {
			b.Error(s, err)
		}
		_, err = b.svc.NotifySchedule(ctx, &rotav1.NotifyScheduleRequest{Reason: strings.Repeat("x", 1000)})
		b.wants(err, codes.InvalidArgument, "", "reason")
		if _, err := b.svc.NotifySchedule(ctx, &rotav1.NotifyScheduleRequest{Reason: "now"}); err != nil {
			b.Error(err)
		}
		if kv, ok, _, _ := b.st.Get(ctx, store.KickKey); !ok || string(kv.Value) != "now" {
			b.Errorf("kick %q", kv.Value)
		}
	})
}

func TestPlanAndWhy(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		ctx := b.Context()
		b.apply("a", "b", "c", "d")
		b.worker("w1", false)
		b.worker("new-1", false)
		for n, id := range []string{"a", "b", "c", "d"} {
			b.grant([]string{"w1", "new-1"}[n%2], id, 1, false, ownership.Running)
		}
		moves := func(r *rotav1.GetPlanRequest) int {
			b.Helper()
			p, err := b.svc.GetPlan(ctx, r)
			if err != nil {
				b.Fatal(err)
			}
			return len(p.GetMoves())
		}
		for range 2 { // asking changes nothing
			if n := moves(&rotav1.GetPlanRequest{}); n != 0 {
				b.Errorf("%d moves as it is", n)
			}
			if n := moves(&rotav1.GetPlanRequest{Without: []string{"w1"}}); n != 2 {
				b.Errorf("%d moves without w1", n)
			}
			if n := moves(&rotav1.GetPlanRequest{With: 2}); n != 2 {
				b.Errorf("%d moves with two more", n)
			}
			if n := moves(&rotav1.GetPlanRequest{Tasks: defs("e", "f", "g")}); n != 3 {
				b.Errorf("%d moves with more tasks", n)
			}
		}
		_, err := b.svc.GetPlan(ctx, &rotav1.GetPlanRequest{Without: []string{"x"}})
		b.wants(err, codes.NotFound, `"x"`, "")
		_, err = b.svc.GetPlan(ctx, &rotav1.GetPlanRequest{With: -1})
		b.wants(err, codes.InvalidArgument, "-1", "with")
		_, err = b.svc.GetPlan(ctx, &rotav1.GetPlanRequest{Tasks: defs("")})
		b.wants(err, codes.InvalidArgument, "", "tasks[0].id")

		w, err := b.svc.Why(ctx, &rotav1.WhyRequest{Id: "a"})
		if err != nil || len(w.GetInstances()) != 1 || w.GetInstances()[0].GetInstance().GetWorker() != "w1" ||
			!strings.Contains(strings.Join(w.GetInstances()[0].GetReasons(), "\n"), "it had to") || len(w.GetInstances()[0].GetWorkers()) != 2 || !w.GetInstances()[0].GetWorkers()[0].GetChosen() {
			b.Error(w, err)
		}
		_, err = b.svc.Why(ctx, &rotav1.WhyRequest{Id: "x"})
		b.wants(err, codes.NotFound, `"x"`, "")
	})
}

// TestOnePicture: in the middle of a move, and beside jobs, what is planned and why is
// what the leader has planned, and reasons have codes and numbers.
func TestOnePicture(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		ctx := b.Context()
		for _, name := range []string{"w1", "w2", "w3"} {
			b.put(store.Op{Key: store.SessionKey(name), Value: b.value(&storepb.Session{
				Version: 1, Name: name, AnyKind: true, Capacity: map[string]float64{"cpus": 2},
			})})
		}
		cpus := func(id string, n float64) *rotav1.TaskDefinition {
			return &rotav1.TaskDefinition{Id: id, Resources: map[string]float64{"cpus": n}}
		}
		if _, err := b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{cpus("a", 2), cpus("b", 2), cpus("c", 1), cpus("d", 7)}}); err != nil {
			b.Fatal(err)
		}
		b.moving("w1", "a", "w2", 1, true, ownership.Stopping)
		b.taken.Of("job").Take("job", "w3", map[string]float64{"cpus": 1})
		plan, err := b.svc.GetPlan(ctx, &rotav1.GetPlanRequest{})
		if err != nil {
			b.Fatal(err)
		}
		var got []string
		for _, m := range plan.GetMoves() {
			got = append(got, m.GetTask()+" "+m.GetFrom()+">"+m.GetTo()+" "+m.GetCode())
		}
		for _, w := range plan.GetWaiting() {
			got = append(got, w.GetTask()+" "+w.GetCode()+" "+w.GetReason())
		}
		for asIf, want := range map[*rotav1.GetPlanRequest]string{
			{}:                        "[d true] 1 of 1",
			{Without: []string{"w2"}}: "[b false d true] 1 of 2",
			{Tasks: []*rotav1.TaskDefinition{cpus("e", 9)}}: "[e false d true] 1 of 2",
		} {
			p, err := b.svc.GetPlan(ctx, asIf)
			if err != nil {
				b.Fatal(err)
			}
			var waits []string
			for _, w := range p.GetWaiting() {
				waits = append(waits, fmt.Sprint(w.GetTask(), " ", w.GetAlready()))
			}
			if got := fmt.Sprint(waits, " ", p.GetSummary().GetWaitingAlready(), " of ", p.GetSummary().GetWaiting()); got != want {
				b.Errorf("plan as if %v: %s wait already, want %s", asIf, got, want)
			}
		}
		want := "[b >w1 unplaced c >w3 unplaced d no-place 3 workers: 3 are too small (needs 7 cpus, the most on one worker is 2)]"
		slices.Sort(got)
		if fmt.Sprint(got) != want {
			b.Errorf("got  %v\nwant %v", got, want)
		}
		for id, want := range map[string]string{
			"a": "came there because it had to; moves to w2, and starts there when w1 has stopped it",
			"b": "on no worker; the next pass places it on w1",
			"d": "on no worker: 3 workers: 3 are too small (needs 7 cpus, the most on one worker is 2)",
		} {
			why, err := b.svc.Why(ctx, &rotav1.WhyRequest{Id: id})
			if err != nil {
				b.Fatal(err)
			}
			if got := strings.Join(why.GetInstances()[0].GetReasons(), "; "); got != want {
				b.Errorf("%s: %s", id, got)
			}
			w := why.GetInstances()[0].GetWorkers()
			if id != "d" {
				continue
			}
			if x := w[1]; len(w) != 3 || x.GetWorker() != "w3" || x.GetCode() != "lacks-resource" || x.GetName() != "cpus" ||
				x.GetNeed() != 7 || x.GetLeft() != 1 || x.GetHas() != 2 || x.GetFits() || x.GetReason() != "needs 7 cpus, it has 2" {
				b.Errorf("%v", w)
			}
			if f := w[1].GetFindings()[2]; f.GetRule() != "capacity" || f.GetName() != "cpus" || f.GetOutcome() != "stops" || f.GetValue() != "1 of 2 left" || f.GetLimit() != "7 needed" {
				b.Errorf("%v", f)
			}
		}
		few, err := b.svc.Why(ctx, &rotav1.WhyRequest{Id: "d", Workers: 2})
		if in := few.GetInstances()[0]; err != nil || len(in.GetWorkers()) != 2 || in.GetAllWorkers() != 3 || in.GetFittingWorkers() != 0 {
			b.Errorf("%v, %v", few, err)
		}
		for _, n := range []int64{-1, 2001} {
			if _, err := b.svc.Why(ctx, &rotav1.WhyRequest{Id: "d", Workers: n}); status.Code(err) != codes.InvalidArgument || convert.Field(err) != "workers" {
				b.Errorf("%d workers: %v", n, err)
			}
		}
		// The job ends: what is asked next is asked of that.
		b.taken.Of("job").Take("job", "", nil)
		why, err := b.svc.Why(ctx, &rotav1.WhyRequest{Id: "d"})
		if err != nil || why.GetInstances()[0].GetWorkers()[1].GetLeft() != 2 {
			b.Errorf("%v, %v", why, err)
		}
	})
}
