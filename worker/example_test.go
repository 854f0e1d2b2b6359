package worker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/source"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// A scheduler and a worker in one process. A worker of its own process has
// Schedulers: []string{"10.0.0.1:50000"} in place of Connect.
func Example() {
	st := memory.New()
	defer st.Close()
	s, err := scheduler.New(scheduler.Config{
		Store: st,
		Sources: []*source.Source{source.Func("feeds", func(context.Context) ([]rota.Task, error) {
			return []rota.Task{{ID: "prices", Kind: "feed", Payload: []byte("EUR")}}, nil
		})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Start()

	w, err := worker.New(worker.Config{
		Name: "w1",
		Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			return s.Sessions().Dial(ctx), nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = w.HandleTask("feed", func(ctx context.Context, a worker.Assigned) error {
		fmt.Printf("reading %s in %s\n", a.ID(), a.Task.Payload)
		<-ctx.Done()
		fmt.Println("stopped:", context.Cause(ctx))
		return nil
	})
	w.Start()
	w.TryLeaveBarrier(10 * time.Second)

	// The worker hands over what it runs, then the scheduler resigns.
	_ = w.Stop(context.Background())
	_ = s.Stop(context.Background())
	// Output:
	// reading prices in EUR
	// stopped: worker: grant ended
}
