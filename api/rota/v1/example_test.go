package rotav1_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
)

// A program declares tasks and asks why one of them waits. Here the scheduler is in the
// same process; by TLS the credentials are those of the cluster's authority.
func Example() {
	ctx := context.Background()
	var here net.ListenConfig
	grpcListener, err := here.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	httpListener, err := here.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	st := memory.New()
	defer st.Close()
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Store: st}, GRPC: grpcListener, HTTP: httpListener})
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Stop(ctx) }()

	conn, err := grpc.NewClient(grpcListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.Close() }()
	tasks := rotav1.NewTasksClient(conn)
	if _, err := tasks.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{
		{Id: "feed-eu", Kind: "feed", Group: "feeds"}, {Id: "feed-us", Kind: "feed", Group: "feeds"},
	}}); err != nil {
		panic(err)
	}
	list, err := tasks.ListTasks(ctx, &rotav1.ListTasksRequest{Group: "feeds"})
	if err != nil {
		panic(err)
	}
	for _, t := range list.GetTasks() {
		fmt.Println(t.GetId(), t.GetInstances()[0].GetState())
	}
	_, err = tasks.GetTask(ctx, &rotav1.GetTaskRequest{Id: "feed-asia"})
	fmt.Println(err)
	// Output:
	// feed-eu waiting
	// feed-us waiting
	// rpc error: code = NotFound desc = task "feed-asia": not found
}
