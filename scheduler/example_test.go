package scheduler_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// A scheduler with a generator of tasks and two workers, all in one process. With
// store/etcd in place of store/memory each may be in a process of its own.
func Example() {
	st := memory.New()
	defer st.Close()
	s, err := scheduler.New(scheduler.Config{
		Store:          st,
		BarrierWorkers: 2, // the first plan waits for both
		Sources: []*source.Source{source.Func("routes", func(context.Context) ([]rota.Task, error) {
			return []rota.Task{{ID: "ORD-LAX"}, {ID: "JFK-SFO"}, {ID: "SEA-DEN"}, {ID: "BOS-MIA"}}, nil
		})},
	})
	if err != nil {
		panic(err)
	}
	s.Start()
	defer func() { _ = s.Stop(context.Background()) }()

	var workers []*worker.Worker
	for _, name := range []string{"w1", "w2"} {
		w, err := worker.New(worker.Config{Name: name, Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			return s.Sessions().Dial(ctx), nil
		}})
		if err != nil {
			panic(err)
		}
		if err := w.HandleTask("", func(ctx context.Context, _ worker.Assigned) error { <-ctx.Done(); return nil }); err != nil {
			panic(err)
		}
		w.Start()
		defer func() { _ = w.Stop(context.Background()) }()
		workers = append(workers, w)
	}
	var all []string
	for _, w := range workers {
		if !w.TryLeaveBarrier(time.Minute) {
			panic("not all tasks run")
		}
		fmt.Println(w.Name(), "runs", len(w.Tasks()))
		for _, a := range w.Tasks() {
			all = append(all, a.ID())
		}
	}
	slices.Sort(all)
	fmt.Println(all)
	// Output:
	// w1 runs 2
	// w2 runs 2
	// [BOS-MIA JFK-SFO ORD-LAX SEA-DEN]
}
