package scheduler_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/placement"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// TestWhatADeletedTaskStillTakes: a task that was deleted and has not stopped yet is
// counted after all schedulers were started anew, though none of them knows what it
// states: neither a task nor a job is given its room before it has ended, and then it is.
func TestWhatADeletedTaskStillTakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, again bool }{
		"deleted, then a new scheduler": {before: true},
		"the same scheduler":            {},
		"declared again":                {before: true, again: true},
		"the same declared again":       {again: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				t.Cleanup(func() { st.Close() })
				var via atomic.Pointer[scheduler.Scheduler]
				s1 := newScheduler(t, "s1", st, scheduler.Config{})
				via.Store(s1)
				w, err := worker.New(worker.Config{
					Name:     "w",
					Capacity: map[string]float64{"cpus": 1},
					Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
						return via.Load().Sessions().Dial(ctx), nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				var mu sync.Mutex
				runs := map[string]bool{}
				var ends atomic.Bool
				if err := w.HandleTask("", func(ctx context.Context, a worker.Assigned) error {
					mu.Lock()
					runs[a.ID()] = true
					if runs["slow"] && runs["next"] {
						t.Error("both run where there is room for one")
					}
					mu.Unlock()
					<-ctx.Done()
					for a.ID() == "slow" && !ends.Load() {
						time.Sleep(100 * time.Millisecond) // it takes its time
					}
					mu.Lock()
					delete(runs, a.ID())
					mu.Unlock()
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				w.Start()
				t.Cleanup(func() {
					ends.Store(true)
					_ = w.Stop(context.Background())
				})
				ctx := auth.Inside(t.Context())
				apply := func(sc *scheduler.Scheduler, id string) {
					t.Helper()
					api := sc.Service("")
					defer api.Close()
					d := &rotav1.TaskDefinition{Id: id, Resources: map[string]float64{"cpus": 1}}
					if _, err := api.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{d}}); err != nil {
						t.Fatal(err)
					}
				}
				running := func(id string) bool {
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					return runs[id]
				}
				apply(s1, "slow")
				time.Sleep(5 * time.Second)
				if !running("slow") {
					t.Fatal("it does not run")
				}
				remove := func(sc *scheduler.Scheduler) {
					t.Helper()
					api := sc.Service("")
					defer api.Close()
					if _, err := api.DeleteTasks(ctx, &rotav1.DeleteTasksRequest{Ids: []string{"slow"}}); err != nil {
						t.Fatal(err)
					}
				}
				remove(s1)
				now := s1
				if c.before {
					if err := s1.Stop(t.Context()); err != nil {
						t.Fatal(err)
					}
					now = newScheduler(t, "s2", st, scheduler.Config{})
					via.Store(now)
				}
				time.Sleep(2 * time.Second)
				epoch := int64(0)
				now.View().Read(func() { epoch = now.View().Leader.Epoch })
				o, lacks := now.Capacity().Of("job").Lacks("job", "w", map[string]float64{"cpus": 1}, map[string]float64{"cpus": 1}, epoch)
				if !lacks || c.before && o.Code != placement.NotCounted {
					t.Errorf("a job would be given its room: %+v", o)
				}
				apply(now, "next")
				for range 5 {
					time.Sleep(time.Second)
					if !running("slow") || running("next") {
						t.Fatal("what was deleted and has not ended is not counted")
					}
				}
				if c.again {
					apply(now, "slow")
					time.Sleep(2 * time.Second)
				}
				ends.Store(true)
				time.Sleep(5 * time.Second)
				if c.again { // what it took at first is known no more, and takes nothing any more
					remove(now)
					time.Sleep(5 * time.Second)
				}
				if now.Capacity().Takes(rota.Instance{Task: "slow"}, "w") {
					t.Error("it still counts when it has ended")
				}
				if running("slow") || !running("next") {
					t.Error("its room is not given on when it has ended")
				}
			})
		})
	}
}
