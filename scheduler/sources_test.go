package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// TestSources plays one source through good and bad lists, and checks after each
// what is declared and what the status says of the source.
func TestSources(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		var mu sync.Mutex
		var give source.Generator
		changed := true
		src := source.Func("list", func(ctx context.Context) ([]rota.Task, error) {
			mu.Lock()
			f, is := give, changed
			changed = false
			mu.Unlock()
			if !is {
				return nil, source.ErrUnchanged
			}
			return f(ctx)
		})
		src.Every = time.Second
		src.Reset = func() { mu.Lock(); changed = true; mu.Unlock() }
		give = func(context.Context) ([]rota.Task, error) { return tasks(3), nil }
		sc := newScheduler(t, "s1", st, scheduler.Config{Sources: []*source.Source{src}, Timeout: 5 * time.Second})
		svc := sc.Service("test")
		t.Cleanup(svc.Close)
		check := func(declared int, text string) {
			t.Helper()
			time.Sleep(20 * time.Second)
			synctest.Wait()
			s, err := svc.GetStatus(t.Context(), &rotav1.GetStatusRequest{})
			if err != nil || len(s.GetSources()) != 1 {
				t.Fatalf("status %v, %v", s, err)
			}
			got := s.GetSources()[0]
			if int(s.GetTasks().GetDeclared()) != declared || !strings.Contains(got.GetError(), text) || text == "" && got.GetError() != "" {
				t.Errorf("%d declared, want %d; source %v, want %q", s.GetTasks().GetDeclared(), declared, got, text)
			}
		}
		set := func(f source.Generator) {
			mu.Lock()
			give, changed = f, true
			mu.Unlock()
		}
		list := func(more ...rota.Task) source.Generator {
			return func(context.Context) ([]rota.Task, error) { return append(tasks(2), more...), nil }
		}
		check(3, "")
		set(func(context.Context) ([]rota.Task, error) { return nil, errors.New("no luck") })
		check(3, "no luck")
		// It is as it was: the source says so, and is well again.
		set(func(context.Context) ([]rota.Task, error) { return tasks(3), nil })
		check(3, "")
		set(func(context.Context) ([]rota.Task, error) { panic("oh") })
		check(3, "panic: oh")
		set(list(rota.Task{ID: "t0001"}))
		check(3, `"t0001"`)
		set(list(rota.Task{ID: "bad", Weight: -1}))
		check(3, "weight")
		set(list(rota.Task{ID: ""}))
		check(3, "id")
		set(list(rota.Task{ID: "x"}, rota.Task{ID: "y"}))
		check(4, "")

		// Nobody can change its tasks but itself, and it cannot take others'.
		apply := func(id string) error {
			_, err := svc.ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: id}}})
			return err
		}
		if err := apply("x"); err == nil || !strings.Contains(err.Error(), "source list") {
			t.Errorf("its task can be changed: %v", err)
		}
		if err := apply("mine"); err != nil {
			t.Fatal(err)
		}
		set(list(rota.Task{ID: "mine"}))
		check(5, "the API")
		if _, err := svc.DeleteTasks(auth.Inside(t.Context()), &rotav1.DeleteTasksRequest{Ids: []string{"mine"}}); err != nil {
			t.Fatal(err)
		}
		check(3, "") // taken now, although the source has nothing new to say

		// One that hangs is waited for, once, and told of.
		readings := 0
		set(func(ctx context.Context) ([]rota.Task, error) {
			readings++
			<-ctx.Done()
			time.Sleep(8 * time.Second) // it does not care
			set(list())
			return tasks(9), nil
		})
		time.Sleep(8 * time.Second)
		synctest.Wait()
		s, err := svc.GetStatus(t.Context(), &rotav1.GetStatusRequest{})
		if err != nil || !strings.Contains(s.GetSources()[0].GetError(), "no answer within 5s") {
			t.Errorf("while it hangs: %v, %v", s, err)
		}
		check(2, "")
		if readings != 1 {
			t.Errorf("read %d times at once", readings)
		}
		set(func(context.Context) ([]rota.Task, error) { return tasks(1), nil })
		check(1, "")
	})
}

// TestGather: tasks that are declared while the last of the first workers joins
// count once.
func TestGather(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		t.Cleanup(func() { under.Close() })
		st := faulty.New(under, func(c faulty.Call) (f faulty.Fault) {
			if c.Kind == faulty.Txn && strings.HasPrefix(c.Key, store.TasksPrefix) {
				f.Delay = time.Second
			}
			return f
		})
		t.Cleanup(st.Close)
		sc := newScheduler(t, "s1", st, scheduler.Config{
			BarrierWorkers: 3, Lease: 5 * time.Second,
			Sources: []*source.Source{source.Func("list", func(context.Context) ([]rota.Task, error) { return tasks(10), nil })},
		})
		synctest.Wait() // the tasks are being written
		o := newOwners(t)
		var ws []*worker.Worker
		for n := range 3 {
			ws = append(ws, newWorker(t, fmt.Sprintf("w%d", n), o, worker.Config{}, sc))
		}
		if !ws[0].TryLeaveBarrier(time.Minute) {
			t.Error("the cluster never says that all run")
		}
	})
}

// TestAvailableTaskChanges: also one that goes on through a move is told what is new.
func TestAvailableTaskChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		sc := newScheduler(t, "s1", st, scheduler.Config{})
		svc := sc.Service("test")
		t.Cleanup(svc.Close)
		var mu sync.Mutex
		var saw []string
		w, err := worker.New(worker.Config{Name: "w", Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			return sc.Sessions().Dial(ctx), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		err = w.HandleTask("", func(ctx context.Context, a worker.Assigned) error {
			mu.Lock()
			saw = append(saw, string(a.Task.Payload))
			mu.Unlock()
			<-ctx.Done()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.Start()
		t.Cleanup(func() { _ = w.Stop(context.Background()) })
		for _, payload := range []string{"one", "two", "three"} {
			_, err := svc.ApplyTasks(auth.Inside(t.Context()), &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{Id: "a", Mode: "available", Payload: payload}}})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(saw, " "); got != "one two three" {
			t.Errorf("it saw %q", got)
		}
	})
}
