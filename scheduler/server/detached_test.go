package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/worker"
)

// TestDetachedOverTLS submits a program to a cluster that asks for credentials:
// its scheduler function runs on a worker, under that worker's certificate, and
// talks to its task.
func TestDetachedOverTLS(t *testing.T) {
	t.Parallel()
	c := newClosed(t, server.Config{})
	answers := make(chan string, 1)
	src := c.source(t, pki.Request{Role: pki.Worker, Name: "w1"})
	w, err := worker.New(worker.Config{Name: "w1", Schedulers: []string{c.grpc}, DialTLS: func() *tls.Config { return src.Client("", "h2") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.RegisterTaskConn("echo", func(ctx context.Context, conn program.Conn) error {
		for {
			m, err := conn.Recv(ctx)
			if err != nil {
				return nil //nolint:nilerr // time to exit
			}
			if err := conn.Send(ctx, m.Reply(m.Data)); err != nil {
				return err
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.RegisterProgram("echoing", func(name string, _ []string) (*program.Program, error) {
		p := program.New(name)
		return p, errors.Join(p.SpawnTask("echo", 1, program.Resources{}), p.RegisterSchedConn(func(ctx context.Context, conn program.Conn) error {
			for e := range conn.Events() {
				if e.Kind == program.TaskRunning {
					break
				}
			}
			m, err := conn.Request(ctx, program.Msg{Task: "echo-0", Data: []byte("over TLS")})
			answers <- string(m.Data)
			return err
		}))
	}); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() { _ = w.Stop(context.Background()) })

	submit := func(r auth.Role) error {
		conf := program.ClusterConfig{Addresses: []string{c.grpc}, TLS: c.source(t, pki.Request{}).Client("", "h2")}
		if r > 0 {
			conf.Token = c.secrets[r].Reveal()
		}
		return program.Submit(t.Context(), conf, "far", "echoing")
	}
	if err := submit(0); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a token: %v", err)
	}
	if err := submit(auth.Viewer); status.Code(err) != codes.PermissionDenied {
		t.Errorf("as a viewer: %v", err)
	}
	if err := submit(auth.Operator); err != nil {
		t.Fatal(err)
	}
	if a := <-answers; a != "over TLS" {
		t.Errorf("it says %q", a)
	}
	// When its scheduler function has returned the cluster forgets it.
	v, gone := c.Scheduler().View(), make(chan struct{}, 1)
	look := func() {
		if v.Tasks.Len() == 0 {
			select {
			case gone <- struct{}{}:
			default:
			}
		}
	}
	sub := v.Subscribe(look, func(*view.Delta) { look() })
	defer sub.Close()
	<-gone
}
