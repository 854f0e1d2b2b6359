package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
)

// A whole scheduler in a program of one's own: the API by gRPC and HTTP, and the
// console. Without an Authenticator it listens on loopback only.
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
	s, err := server.Start(server.Config{Scheduler: scheduler.Config{Name: "s1", Store: st}, GRPC: grpcListener, HTTP: httpListener})
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Stop(ctx) }()
	if err := s.Ready(ctx); err != nil {
		panic(err)
	}
	resp, err := http.Get("http://" + httpListener.Addr().String() + "/healthz")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(resp.StatusCode, string(text))
	// Output: 200 ok
}
