package program_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/program"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/server"
	"github.com/rota-project/rota/store/memory"
)

// TestCredentials has a scheduler that asks for credentials: programs and links
// are taken with a submitter's token and refused without, or with less.
func TestCredentials(t *testing.T) {
	t.Parallel()
	var tokens auth.Tokens
	secrets := map[auth.Role]string{}
	for _, role := range []auth.Role{auth.Viewer, auth.Submitter} {
		token, secret, err := auth.NewToken(auth.Token{Name: "somebody", Role: role}, time.Now())
		must(t, err)
		tokens.Update([]auth.Token{token}, nil)
		secrets[role] = secret.Reveal()
	}
	g, h := listen(t), listen(t)
	s, err := server.Start(server.Config{
		Scheduler: scheduler.Config{Store: memory.New(), Name: "s1", Lease: time.Second},
		GRPC:      g, HTTP: h, Authenticator: &auth.Authenticator{Tokens: &tokens},
	})
	must(t, err)
	t.Cleanup(func() { must(t, s.Stop(context.Background())) })
	must(t, s.Ready(t.Context()))
	address := g.Addr().String()
	for name, c := range map[string]struct {
		token string
		good  bool
	}{"none": {"", false}, "wrong": {"rota_nonsense", false}, "viewer": {secrets[auth.Viewer], false}, "submitter": {secrets[auth.Submitter], true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			node := link.NewNode(link.NodeConfig{Credentials: []byte(c.token)})
			served := make(chan error, 1)
			go func() { served <- node.Serve(ctx, k) }()
			if c.good {
				for !node.Connected() {
					select {
					case err := <-served:
						t.Fatalf("link: %v", err)
					default:
					}
				}
				cancel()
				<-served
			} else if err := <-served; !errors.Is(err, link.ErrRefused) {
				t.Errorf("link: %v", err)
			}
			cancel()

			p := program.New("of-" + name)
			must(t, p.RegisterSchedFunc(func(<-chan program.Msg, chan<- program.Msg, <-chan program.Event) {}))
			err = p.Run(t.Context(), program.ClusterWith(program.ClusterConfig{Addresses: []string{address}, Token: c.token}))
			if (err == nil) != c.good {
				t.Errorf("program: %v", err)
			}
		})
	}
	p := program.New("far-away")
	must(t, p.RegisterSchedFunc(func(<-chan program.Msg, chan<- program.Msg, <-chan program.Event) {}))
	err = p.Run(t.Context(), program.ClusterWith(program.ClusterConfig{Addresses: []string{"192.0.2.1:50000"}, Token: secrets[auth.Submitter]}))
	if err == nil || !strings.Contains(err.Error(), auth.ErrNoTLS.Error()) {
		t.Errorf("a token in the clear: %v", err)
	}
}
