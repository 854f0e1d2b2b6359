package scheduler_test

import (
	"context"
	"fmt"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/source"
	"github.com/rota-project/rota/store/memory"
)

// A scheduler with a list of its own, asked through the API of its process.
func ExampleScheduler() {
	st := memory.New() // etcd.Open gives one that lasts
	defer st.Close()
	read := make(chan struct{}, 1)
	s, err := scheduler.New(scheduler.Config{
		Name: "s1", Store: st,
		Sources: []*source.Source{source.Func("nightly", func(context.Context) ([]rota.Task, error) {
			select {
			case read <- struct{}{}:
			default:
			}
			return []rota.Task{{ID: "report", Kind: "job"}}, nil
		})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	api := s.Service("example")
	defer api.Close()
	s.Start()
	<-read
	ctx := context.Background()
	var status *rotav1.Status
	for status.GetTasks().GetDeclared() == 0 {
		status, _ = api.GetStatus(ctx, &rotav1.GetStatusRequest{})
	}
	fmt.Println(status.GetLeader(), "leads; waiting:", status.GetTasks().GetWaiting())
	fmt.Println("stopped:", s.Stop(ctx))
	// Output:
	// s1 leads; waiting: 1
	// stopped: <nil>
}
