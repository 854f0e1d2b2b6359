package peer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/peer"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// A replica of a service: in each of them the same few lines.
func Example() {
	st := memory.New() // in a service: Etcd: etcd.Config{Endpoints: ...}
	defer st.Close()
	n, err := peer.New(peer.Config{
		Store: st, Root: "feeds",
		Generator: func(context.Context) ([]rota.Task, error) {
			return []rota.Task{{ID: "prices", Payload: []byte("EUR")}, {ID: "news"}}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = n.HandleTask("", func(ctx context.Context, _ worker.Assigned) error {
		<-ctx.Done() // read the feed until it is somebody else's
		return nil
	})
	n.Start()
	fmt.Println("all run:", n.TryLeaveBarrier(10*time.Second), "here:", len(n.Tasks()))
	fmt.Println("left:", n.Stop(context.Background()))
	// Output:
	// all run: true here: 2
	// left: <nil>
}
