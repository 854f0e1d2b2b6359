package scheduler_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// TestAllRunningOfTheDeclared: while tasks are swapped for others, and replicas come and
// go, by a list or by the API, no instant of the picture says that all run unless the
// worker that has each declared instance says that it runs.
func TestAllRunningOfTheDeclared(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memory.New()
				t.Cleanup(func() { st.Close() })
				rng := rand.New(rand.NewPCG(seed, 2))
				some := func(prefix string) (out []rota.Task) {
					for n := range 6 {
						if rng.IntN(2) == 0 {
							out = append(out, rota.Task{ID: fmt.Sprint(prefix, n), Replicas: 1 + rng.IntN(3)})
						}
					}
					return out
				}
				var list atomic.Pointer[[]rota.Task]
				next := some("listed")
				list.Store(&next)
				sc := newScheduler(t, "s1", st, scheduler.Config{Hold: 1, Sources: []*source.Source{
					source.Func("list", func(context.Context) ([]rota.Task, error) { return *list.Load(), nil }),
				}})
				api := sc.Service("")
				t.Cleanup(api.Close)
				o := newOwners(t)
				for _, name := range []string{"w1", "w2", "w3"} {
					newWorker(t, name, o, worker.Config{}, sc)
				}
				v, said := sc.View(), 0
				look := func(*view.Delta) {
					if !v.AllRunning(time.Minute) {
						return
					}
					said++
					for r := range v.Tasks.All() {
						for n := range max(r.Replicas, 1) {
							i := rota.Instance{Task: r.ID, Index: n}
							w, g := v.Owner(i)
							if a, ok := v.Ack(w, i); !ok || g.Revoked || a.Generation != g.Generation || a.State != ownership.Running {
								t.Errorf("all are said to run, and %v is not", i)
							}
						}
					}
				}
				sub := v.Subscribe(nil, look)
				defer sub.Close()
				var have []rota.Task
				for range 20 {
					time.Sleep(time.Duration(rng.IntN(4000)) * time.Millisecond)
					if rng.IntN(2) == 0 {
						next := some("listed")
						list.Store(&next)
						continue
					}
					r, gone := &rotav1.ApplyTasksRequest{}, &rotav1.DeleteTasksRequest{}
					is := map[string]bool{}
					was := have
					have = some("applied")
					for _, t := range have {
						is[t.ID] = true
						r.Tasks = append(r.Tasks, &rotav1.TaskDefinition{Id: t.ID, Replicas: int64(t.Replicas)})
					}
					for _, t := range was {
						if !is[t.ID] {
							gone.Ids = append(gone.Ids, t.ID)
						}
					}
					if _, err := api.ApplyTasks(auth.Inside(t.Context()), r); err != nil && len(r.GetTasks()) > 0 {
						t.Fatal(err)
					}
					if _, err := api.DeleteTasks(auth.Inside(t.Context()), gone); err != nil && len(gone.GetIds()) > 0 {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				v.Read(func() {
					if !v.AllRunning(time.Minute) || said == 0 || v.Running() != v.Instances() {
						t.Errorf("in the end all run: %v, said %d times; %d of %d", v.AllRunning(time.Minute), said, v.Running(), v.Instances())
					}
				})
			})
		})
	}
}
