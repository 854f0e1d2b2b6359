package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/api/convert"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/service"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/faulty"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/store/record"
	"github.com/rota-project/rota/store/storepb"
	"github.com/rota-project/rota/view"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a service on a store, on a fake clock.
type bench struct {
	*testing.T
	st  *faulty.Store
	v   *view.View
	svc *service.Service

	mu   sync.Mutex
	next faulty.Fault // of the next transaction
}

func bubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t}
		under := memory.New()
		b.st = faulty.New(under, func(c faulty.Call) (f faulty.Fault) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if c.Kind == faulty.Txn {
				f, b.next = b.next, f
			}
			return f
		})
		b.v = view.New(b.st, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(context.Background())
		go func() { _ = b.v.Run(ctx) }()
		synctest.Wait()
		b.svc = service.New(service.Config{Store: b.st, View: b.v, Sources: []string{"list"}, Version: "v1"})
		defer func() {
			b.svc.Close()
			cancel()
			b.st.Close()
			under.Close()
		}()
		test(b)
	})
}

func (b *bench) put(ops ...store.Op) {
	b.Helper()
	if ok, _, err := b.st.Txn(context.Background(), nil, ops); err != nil || !ok {
		b.Fatal(ok, err)
	}
	synctest.Wait()
}

func (b *bench) value(m record.Versioned) []byte {
	out, err := record.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func (b *bench) worker(name string, leaving bool) {
	b.put(store.Op{Key: store.SessionKey(name), Value: b.value(&storepb.Session{Version: 1, Name: name, AnyKind: true, Leaving: leaving})})
}

// grant writes that a worker holds a task, and what it says of it.
func (b *bench) grant(worker, task string, gen int, revoked bool, state ownership.State) {
	b.Helper()
	i := rota.Instance{Task: task}
	b.v.Read(func() {
		g, a := b.v.Grants[worker], b.v.Acks[worker]
		if g == nil {
			g = record.NewGrants(worker)
		}
		if a == nil {
			a = record.NewAcks(worker)
		}
		units, err := g.Stage([]record.Grant{{Grant: ownership.Grant{
			Instance: i, Generation: rota.Generation(gen), Session: 1, Revoked: revoked, Reason: "it had to",
		}}}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if state != "" {
			u, err := a.Stage([]record.Ack{{Ack: ownership.Ack{Instance: i, Generation: rota.Generation(gen), State: state}, Since: 5, Load: -1}}, nil)
			if err != nil {
				b.Fatal(err)
			}
			units = append(units, u...)
		}
		for _, u := range units {
			if _, _, err := b.st.Txn(b.Context(), nil, u.Ops); err != nil {
				b.Fatal(err)
			}
		}
	})
	synctest.Wait()
}

// fromSource declares a task as a source does.
func (b *bench) fromSource(id, name string) {
	b.v.Read(func() {
		units, err := b.v.Tasks.Stage([]record.Task{record.NewTask(rota.Task{ID: id}, name)}, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, u := range units {
			if _, _, err := b.st.Txn(b.Context(), nil, u.Ops); err != nil {
				b.Fatal(err)
			}
		}
	})
	synctest.Wait()
}

func defs(ids ...string) (out []*rotav1.TaskDefinition) {
	for _, id := range ids {
		out = append(out, &rotav1.TaskDefinition{Id: id})
	}
	return out
}

func (b *bench) apply(ids ...string) *rotav1.ApplyTasksResponse {
	b.Helper()
	r, err := b.svc.ApplyTasks(b.Context(), &rotav1.ApplyTasksRequest{Tasks: defs(ids...)})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// wants fails unless err is of code, says text and names field.
func (b *bench) wants(err error, code codes.Code, text, field string) {
	b.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) || field != "" && convert.Field(err) != field {
		b.Errorf("error %v of field %q, want %s %q of field %q", err, convert.Field(err), code, text, field)
	}
}

func TestApplyAndDelete(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		ctx := b.Context()
		if r := b.apply("a", "b"); r.GetCreated() != 2 {
			b.Error(r)
		}
		r, err := b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "a"}, {Id: "b", Weight: 3}, {Id: "c"}}, DryRun: true})
		if err != nil || r.GetCreated() != 1 || r.GetChanged() != 1 || r.GetUnchanged() != 1 {
			b.Error(r, err)
		}
		if _, err := b.svc.GetTask(ctx, &rotav1.GetTaskRequest{Id: "c"}); status.Code(err) != codes.NotFound {
			b.Errorf("a dry run declares: %v", err)
		}
		for field, bad := range map[string]*rotav1.TaskDefinition{
			"tasks[1].id": {}, "tasks[1].weight": {Id: "x", Weight: -1}, "tasks[1].replicas": {Id: "x", Replicas: -1}, "tasks[1].mode": {Id: "x", Mode: "?"},
		} {
			_, err := b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "ok"}, bad}})
			b.wants(err, codes.InvalidArgument, "", field)
		}
		_, err = b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: defs("d", "d")})
		b.wants(err, codes.InvalidArgument, "", "tasks[1].id")

		b.fromSource("s", "list")
		b.fromSource("old", "not read any more")
		_, err = b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: defs("n", "s")})
		b.wants(err, codes.InvalidArgument, "source list", "tasks[1].id")
		_, err = b.svc.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"a", "s"}})
		b.wants(err, codes.FailedPrecondition, "source list", "")
		if r := b.apply("old"); r.GetChanged() != 1 {
			b.Errorf("left behind by a source: %v", r)
		}
		d, err := b.svc.GetTask(ctx, &rotav1.GetTaskRequest{Id: "old"})
		if err != nil || d.GetSource() != service.Declared {
			b.Error(d, err)
		}
		if d, _ := b.svc.GetTask(ctx, &rotav1.GetTaskRequest{Id: "s"}); d.GetSource() != "list" || len(d.GetInstances()) != 1 {
			b.Error(d)
		}

		_, err = b.svc.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{})
		b.wants(err, codes.InvalidArgument, "", "ids")
		_, err = b.svc.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"a", "never"}})
		b.wants(err, codes.NotFound, "never", "")
		del, err := b.svc.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"a", "b", "a"}})
		if err != nil || del.GetDeleted() != 2 {
			b.Error(del, err)
		}
		// An outcome that is not known is said to be so, and asking again does no harm.
		for n, f := range []faulty.Fault{{Refuse: true}, {Lose: true}} {
			id := fmt.Sprint("u", n)
			b.mu.Lock()
			b.next = f
			b.mu.Unlock()
			_, err = b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: defs(id)})
			b.wants(err, codes.Unavailable, "may be done or not", "")
			b.apply(id)
		}
	})
}

// TestManyWriters: nobody's tasks are lost.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		other := view.New(b.st, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = other.Run(ctx) }()
		synctest.Wait()
		svcs := []*service.Service{b.svc, service.New(service.Config{Store: b.st, View: other})}
		b.worker("w", false)
		var all sync.WaitGroup
		for n := range 20 {
			svc := svcs[n%2]
			all.Go(func() {
				for m := range 10 {
					if _, err := svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: defs(fmt.Sprintf("t%d-%d", n, m))}); err != nil {
						b.Error(err)
					}
				}
				f := svc.CordonWorker
				if n%3 == 0 {
					f = svc.DrainWorker
				}
				if _, err := f(ctx, &rotav1.WorkerRequest{Name: "w"}); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		b.v.Read(func() {
			if n := b.v.Tasks.Len(); n != 200 || !b.v.Nodes["w"].GetCordoned() || !b.v.Nodes["w"].GetDraining() {
				b.Errorf("%d tasks, %v", n, b.v.Nodes["w"])
			}
		})
		svcs[1].Close()
		cancel()
		<-ended
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		for n := range 25 {
			_, err := b.svc.ApplyTasks(b.Context(), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: fmt.Sprintf("t%02d", n), Group: fmt.Sprint(n % 2)}}})
			if err != nil {
				b.Fatal(err)
			}
		}
		b.apply("other")
		b.worker("w", false)
		b.grant("w", "t03", 7, false, ownership.Running)
		b.grant("w", "t04", 7, true, ownership.Running)
		b.grant("w", "t05", 7, false, "")
		count := func(r *rotav1.ListTasksRequest) (n int) {
			for {
				l, err := b.svc.ListTasks(b.Context(), r)
				if err != nil {
					b.Fatal(err)
				}
				n += len(l.GetTasks())
				if r.PageToken = l.GetNextPageToken(); r.GetPageToken() == "" {
					return n
				}
			}
		}
		for _, c := range []struct {
			r    *rotav1.ListTasksRequest
			want int
		}{
			{&rotav1.ListTasksRequest{}, 26},
			{&rotav1.ListTasksRequest{PageSize: 7}, 26},
			{&rotav1.ListTasksRequest{PageSize: 13}, 26},
			{&rotav1.ListTasksRequest{PageSize: 1, IdPrefix: "t1"}, 10},
			{&rotav1.ListTasksRequest{PageSize: 2, Group: "1"}, 12},
			{&rotav1.ListTasksRequest{Worker: "w"}, 3},
			{&rotav1.ListTasksRequest{State: "running"}, 1},
			{&rotav1.ListTasksRequest{State: "stopping"}, 1},
			{&rotav1.ListTasksRequest{State: "granted"}, 1},
			{&rotav1.ListTasksRequest{State: "waiting", PageSize: 3}, 23},
			{&rotav1.ListTasksRequest{IdPrefix: "zzz"}, 0},
		} {
			if n := count(c.r); n != c.want {
				b.Errorf("%v: %d tasks, want %d", c.r, n, c.want)
			}
		}
		for _, size := range []int64{-1, 10_001} {
			_, err := b.svc.ListTasks(b.Context(), &rotav1.ListTasksRequest{PageSize: size})
			b.wants(err, codes.InvalidArgument, fmt.Sprint(size), "page_size")
		}
	})
}

func TestStatusAndWorkers(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		ctx := b.Context()
		b.apply("a", "b", "c", "d")
		b.worker("w1", false)
		b.worker("w2", false)
		b.worker("w3", true)
		b.put(store.Op{Key: store.NodeKey("gone"), Value: b.value(&storepb.Node{Version: 1, Name: "gone", LostUnixMs: 1})},
			store.Op{Key: store.LeaderKey, Value: b.value(&storepb.Leader{Version: 1, Name: "s1"})},
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
		for _, f := range []func(context.Context, *rotav1.WorkerRequest) (*rotav1.Worker, error){b.svc.CordonWorker, b.svc.DrainWorker, b.svc.UndrainWorker} {
			_, err := f(ctx, &rotav1.WorkerRequest{Name: "x"})
			b.wants(err, codes.NotFound, `"x"`, "")
		}
		_, err = b.svc.GetWorker(ctx, &rotav1.GetWorkerRequest{Name: "x"})
		b.wants(err, codes.NotFound, `"x"`, "")
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
		if s, err := b.svc.GetStoppable(ctx, &rotav1.GetStoppableRequest{Names: []string{"w1"}}); err != nil || !s.GetStoppable() {
			b.Error(s, err)
		}
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
			!strings.Contains(strings.Join(w.GetInstances()[0].GetReasons(), "\n"), "it had to") || len(w.GetInstances()[0].GetWorkers()) != 1 {
			b.Error(w, err)
		}
		_, err = b.svc.Why(ctx, &rotav1.WhyRequest{Id: "x"})
		b.wants(err, codes.NotFound, `"x"`, "")
	})
}

// watcher is the receiving end of a watch, which reads when it is let.
type watcher[E any] struct {
	grpc.ServerStream
	ctx    context.Context
	events chan *E
}

func (w *watcher[E]) Context() context.Context { return w.ctx }
func (w *watcher[E]) Send(e *E) error {
	select {
	case w.events <- e:
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply("a", "b")
		ctx, cancel := context.WithCancel(b.Context())
		w := &watcher[rotav1.TaskEvent]{ctx: ctx, events: make(chan *rotav1.TaskEvent)}
		ended := make(chan error, 2)
		go func() { ended <- b.svc.WatchTasks(&rotav1.WatchTasksRequest{}, w) }()
		workers := &watcher[rotav1.WorkerEvent]{ctx: ctx, events: make(chan *rotav1.WorkerEvent, 100)}
		go func() { ended <- b.svc.WatchWorkers(&rotav1.WatchWorkersRequest{}, workers) }()
		read := func() (out string) {
			synctest.Wait()
			for {
				select {
				case e := <-w.events:
					out += fmt.Sprintf("%s %s", e.GetType(), e.GetTask().GetId())
					for _, i := range e.GetTask().GetInstances() {
						out += " " + i.GetState()
					}
					out += "; "
					synctest.Wait()
				default:
					return out
				}
			}
		}
		// Who does not read hears, at most, one thing that was on its way before.
		wants := func(want string) {
			b.Helper()
			got := read()
			if before, ok := strings.CutSuffix(got, want); !ok || strings.Count(before, ";") > 1 {
				b.Errorf("it hears %q, want %q", got, want)
			}
		}
		wants("set a waiting; set b waiting; synced ; ")
		b.worker("w", false)
		b.grant("w", "a", 1, false, ownership.Running)
		wants("set a running; ")
		// One that does not read for long is told what is, once.
		for n := range 100 {
			_, err := b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "b", Weight: float64(n + 2)}}})
			if err != nil {
				b.Fatal(err)
			}
		}
		wants("set b waiting; ")
		// What a worker said goes with its lease.
		kvs, _, err := b.st.Range(ctx, store.AcksPrefix)
		if err != nil || len(kvs) != 1 {
			b.Fatal(len(kvs), err)
		}
		b.put(store.Op{Key: kvs[0].Key, Delete: true})
		wants("set a granted; ")
		if _, err := b.svc.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"b"}}); err != nil {
			b.Fatal(err)
		}
		wants("deleted b; ")
		b.put(store.Op{Key: store.SessionKey("w"), Delete: true})
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				b.Error(err)
			}
		}
		close(workers.events)
		var heard []string
		for e := range workers.events {
			heard = append(heard, e.GetType())
		}
		if len(heard) < 3 || heard[0] != "synced" || heard[1] != "set" || heard[len(heard)-1] != "deleted" {
			b.Errorf("of workers it hears %v", heard)
		}
	})
}
