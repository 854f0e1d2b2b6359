package program_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/worker"
)

// offers adds a worker that offers the program "short", whose scheduler function tells
// begun its arguments and returns.
func (c *cluster) offers(t *testing.T, begun chan<- string) {
	t.Helper()
	w, err := worker.New(worker.Config{Name: "w0", Schedulers: []string{c.grpc}})
	must(t, err)
	must(t, w.RegisterProgram("short", func(name string, args []string) (*program.Program, error) {
		p := program.New(name)
		return p, p.RegisterSchedConn(func(ctx context.Context, _ program.Conn) error {
			select {
			case begun <- fmt.Sprint(args):
			case <-ctx.Done():
			}
			return nil
		})
	}))
	w.Start()
	c.joined(t, "w0")
	t.Cleanup(func() { must(t, w.Stop(context.Background())) })
}

// TestSubmittedAgainAtOnce: a program that is submitted again in the moment in which
// its last run ends runs each time, with its own arguments, whether the cluster has
// seen by then that the one before is gone or not.
func TestSubmittedAgainAtOnce(t *testing.T) {
	t.Parallel()
	c := startClusterSlow(t, patient, 50*time.Millisecond)
	begun := make(chan string)
	c.offers(t, begun)
	cfg := program.ClusterConfig{Addresses: []string{c.grpc}}
	for n := range 40 {
		arg := fmt.Sprint(n / 2) // twice the same
		for {
			err := program.Submit(t.Context(), cfg, "far", "short", arg)
			if err == nil {
				break
			}
			if !errors.Is(err, program.ErrRunning) {
				t.Fatal(err)
			}
		}
		if got, want := <-begun, fmt.Sprint([]string{arg}); got != want {
			t.Fatalf("run %d: began with %s, want %s", n, got, want)
		}
	}
}

// TestDeclaredAgainAtOnce is the same for a task that is declared by hand, word for
// word as it was: there the grant of the one before goes on, and is the new one's.
func TestDeclaredAgainAtOnce(t *testing.T) {
	t.Parallel()
	c := startClusterSlow(t, patient, 50*time.Millisecond)
	begun := make(chan string)
	c.offers(t, begun)
	svc, ctx := c.server.Service(), auth.Inside(t.Context())
	for n := range 10 {
		for {
			r, err := svc.ApplyTasks(ctx, &rotav1.ApplyTasksRequest{Tasks: []*rotav1.TaskDefinition{{
				Id: "program/far", Kind: program.SchedulerKind("short"), Payload: `{"name":"far","args":["x"]}`,
			}}})
			must(t, err)
			if r.GetCreated() == 1 {
				break
			}
		}
		if got := <-begun; got != "[x]" {
			t.Fatalf("run %d: began with %s", n, got)
		}
	}
}
