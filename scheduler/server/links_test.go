package server_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/auth/pki"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/scheduler/server"
)

// refusedLink connects one more node for messages and says why it is refused; nil if
// it is not within a while.
func (c *closed) refusedLink(t *testing.T, src *pki.Source, bearer string) error {
	t.Helper()
	k, err := dialTLS(t.Context(), src.Client("", "h2"), c.grpc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	node, ended := link.NewNode(link.NodeConfig{Credentials: []byte(bearer)}), make(chan error, 1)
	go func() { ended <- node.Serve(t.Context(), k) }()
	for !node.Connected() {
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// TestLinksAreCounted: connections for messages of programs are calls of those who
// open them, hold bytes, and give both back when they end.
func TestLinksAreCounted(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]auth.Limits{
		"calls at once": {Streams: 3},
		"bytes":         {Bytes: 900 << 10, AllBytes: 64 << 20, ClusterBytes: 64 << 20},
	} {
		for _, by := range []string{"a token", "a certificate"} {
			if name == "calls at once" && by == "a certificate" {
				continue // those of workers are not counted
			}
			t.Run(name+" of "+by, func(t *testing.T) {
				t.Parallel()
				c := newClosed(t, server.Config{Limits: limits})
				src, bearer := c.source(t, pki.Request{}), c.secrets[auth.Submitter].Reveal()
				if by == "a certificate" {
					src, bearer = c.source(t, pki.Request{Role: pki.Worker, Name: "w1"}), ""
				}
				first, err := dialTLS(t.Context(), src.Client("", "h2"), c.grpc)
				if err != nil {
					t.Fatal(err)
				}
				node, ended := link.NewNode(link.NodeConfig{Credentials: []byte(bearer)}), make(chan error, 1)
				go func() { ended <- node.Serve(t.Context(), first) }()
				for !node.Connected() {
					time.Sleep(time.Millisecond)
				}
				for range 2 {
					if err := c.refusedLink(t, src, bearer); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.refusedLink(t, src, bearer); !errors.Is(err, link.ErrRefused) {
					t.Errorf("the fourth: %v", err)
				}
				_ = first.Close()
				<-ended
				for c.refusedLink(t, src, bearer) != nil { // the server notices in a moment
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
	}
}
