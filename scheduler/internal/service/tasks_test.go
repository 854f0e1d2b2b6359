package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/service"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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

// TestLateWrite: once somebody was told that tasks are as they want them, nothing comes of
// what was asked for before, and whose outcome nobody knew.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		ctx := b.Context()
		late := func() {
			b.mu.Lock()
			b.next = faulty.Fault{Late: 2 * time.Second}
			b.mu.Unlock()
		}
		b.apply("here")
		late()
		_, err := b.svc.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"here"}})
		b.wants(err, codes.Unavailable, "may be done or not", "")
		if r := b.apply("here"); r.GetUnchanged() != 1 {
			b.Errorf("before the deletion could land: %v", r)
		}
		time.Sleep(5 * time.Second)
		late()
		_, err = b.svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: defs("gone")})
		b.wants(err, codes.Unavailable, "may be done or not", "")
		_, err = b.svc.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"gone"}})
		b.wants(err, codes.NotFound, "gone", "")
		time.Sleep(5 * time.Second)
		for id, want := range map[string]codes.Code{"here": codes.OK, "gone": codes.NotFound} {
			if _, err := b.svc.GetTask(ctx, &rotav1.GetTaskRequest{Id: id}); status.Code(err) != want {
				b.Errorf("%s: %v, want %v", id, err, want)
			}
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
		svcs := []*service.Service{b.svc, service.New(service.Config{Store: b.st, View: other, Capacity: capacity.New(other)})}
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

// TestDeletedAtAnotherScheduler: what has just been declared at one scheduler can be deleted at
// another, whose picture does not have it yet; what nobody declares is not found there either.
func TestDeletedAtAnotherScheduler(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		b.apply("kept")
		page, ok, _, err := b.st.Get(b.Context(), store.TasksPrefix)
		if err != nil || !ok {
			b.Fatal(ok, err)
		}
		if _, err := b.svc.DeleteTasks(b.Context(), &rotav1.DeleteTasksRequest{Ids: []string{"kept"}}); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		b.mu.Lock()
		b.behind = true
		b.mu.Unlock()
		b.put(store.Op{Key: page.Key, Value: page.Value}) // as another scheduler declares it
		if _, err := b.svc.DeleteTasks(b.Context(), &rotav1.DeleteTasksRequest{Ids: []string{"kept"}}); err != nil {
			b.Errorf("declared elsewhere: %v", err)
		}
		_, err = b.svc.DeleteTasks(b.Context(), &rotav1.DeleteTasksRequest{Ids: []string{"never"}})
		b.wants(err, codes.NotFound, "never", "")
		b.st.Set(faulty.Down)
		if _, err = b.svc.DeleteTasks(b.Context(), &rotav1.DeleteTasksRequest{Ids: []string{"never"}}); !convert.IsStoreAway(err) {
			b.Errorf("without the store nobody knows: %v", err)
		}
		b.st.Set(faulty.Up)
	})
}

// TestAppliedAtAnotherScheduler: an apply that changes nothing in a picture that is
// behind is one that changes what another scheduler was told a moment ago.
func TestAppliedAtAnotherScheduler(t *testing.T) {
	t.Parallel()
	for name, beside := range map[string]string{"alone": "", "beside one that changes": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(b *bench) {
				apply := func(payload string, ids ...string) error {
					var r rotav1.ApplyTasksRequest
					for _, id := range ids {
						r.Tasks = append(r.Tasks, &rotav1.TaskDefinition{Id: id, Payload: payload})
					}
					_, err := b.svc.ApplyTasks(b.Context(), &r)
					return err
				}
				page := func() store.KV {
					pages, _, err := b.st.Range(b.Context(), store.TasksPrefix)
					if err != nil || len(pages) != 1 {
						b.Fatal(pages, err)
					}
					return pages[0]
				}
				if err := apply("theirs", "t"); err != nil {
					b.Fatal(err)
				}
				theirs := page()
				if err := apply("ours", "t"); err != nil {
					b.Fatal(err)
				}
				synctest.Wait()
				b.mu.Lock()
				b.behind = true
				b.mu.Unlock()
				b.put(store.Op{Key: theirs.Key, Value: theirs.Value}) // as another scheduler is told
				ids := []string{"t"}
				if beside != "" {
					ids = append(ids, beside)
				}
				if err := apply("ours", ids...); err != nil {
					b.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				got, err := b.svc.GetTask(b.Context(), &rotav1.GetTaskRequest{Id: "t"})
				if p := got.GetTask().GetPayload(); err != nil || p != "ours" {
					b.Errorf("what was applied last is %q, %v", p, err)
				}
				b.st.Set(faulty.Down)
				if err := apply("ours", ids...); !convert.IsStoreAway(err) {
					b.Errorf("without the store nobody knows: %v", err)
				}
				b.st.Set(faulty.Up)
			})
		})
	}
}
