package worker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// embedded is a scheduler in the same process, with one task. A program of its
// own gives worker.Config the addresses of schedulers instead.
func embedded() (connect worker.Connector, stop func()) {
	st := memory.New()
	list := source.Func("list", func(context.Context) ([]rota.Task, error) {
		return []rota.Task{{ID: "ORD-LAX", Kind: "feed", Payload: []byte("hello")}}, nil
	})
	s, err := scheduler.New(scheduler.Config{Store: st, Sources: []*source.Source{list}})
	if err != nil {
		panic(err)
	}
	s.Start()
	return func(ctx context.Context, _ []string) (worker.Stream, error) { return s.Sessions().Dial(ctx), nil },
		func() { _ = s.Stop(context.Background()); st.Close() }
}

func ExampleWorker_HandleTask() {
	connect, stop := embedded()
	defer stop()
	w, err := worker.New(worker.Config{Name: "w1", Connect: connect})
	if err != nil {
		panic(err)
	}
	err = w.HandleTask("feed", func(ctx context.Context, a worker.Assigned) error {
		fmt.Printf("run %s with %q\n", a.ID(), a.Task.Payload)
		<-ctx.Done() // until the task is to run elsewhere, or nowhere
		fmt.Println("stop", a.ID())
		return nil
	})
	if err != nil {
		panic(err)
	}
	w.Start()
	w.TryLeaveBarrier(time.Minute) // all tasks of the cluster run
	if err := w.Stop(context.Background()); err != nil {
		panic(err)
	}
	// Output:
	// run ORD-LAX with "hello"
	// stop ORD-LAX
}

func ExampleWorker_WatchUntilDone() {
	connect, stop := embedded()
	defer stop()
	w, err := worker.New(worker.Config{Name: "w1", Connect: connect})
	if err != nil {
		panic(err)
	}
	events, err := w.WatchUntilDone()
	if err != nil {
		panic(err)
	}
	w.Start()
	for e := range events { // closed when the worker has ended
		if e.Given {
			fmt.Println("given", e.ID())
			go func() { _ = w.Stop(context.Background()) }()
			continue
		}
		fmt.Println("taken", e.ID())
		e.Done() // from here on another worker may have it
	}
	// Output:
	// given ORD-LAX
	// taken ORD-LAX
}
