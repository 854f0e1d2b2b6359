package program

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"sync"

	"github.com/rota-project/rota/internal/listener"
	"github.com/rota-project/rota/internal/program/link"
)

// WithLoopback sends the messages of InProcess the way they take on a cluster: over TCP to
// a relay, here on a loopback port, and back over TCP. It is for testing and measuring a
// program's messages on the wire.
func WithLoopback() PlaceOption { return func(c *placeConfig) { c.loopback = true } }

// loopbackHost is this process as two nodes and the relay between them.
type loopbackHost struct {
	processHost
	key      secret
	relay    link.Relay
	listener net.Listener
	sched    *link.Node
	worker   *link.Node
	end      *link.End
	wg       sync.WaitGroup
}

func newLoopbackHost(p processHost) (*loopbackHost, error) {
	h := &loopbackHost{processHost: p, sched: link.NewNode(link.NodeConfig{}), worker: link.NewNode(link.NodeConfig{})}
	_, _ = rand.Read(h.key[:]) // never fails
	l, err := listener.TCP(h.ctx, net.JoinHostPort(listener.Loopback(), "0"))
	if err != nil {
		h.processHost.close(nil)
		return nil, fmt.Errorf("listening on loopback: %w", err)
	}
	h.listener = l
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { _ = h.relay.Serve(h.ctx, c) }) // the node connects again
		}
	})
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
	h.wg.Go(func() { h.sched.Connect(h.ctx, dial, nil) })
	h.wg.Go(func() { h.worker.Connect(h.ctx, dial, nil) })
	h.end = h.sched.Bind(h.key.addr(schedEnd, 0), h.run.sched.inbox, h.run.sched.reply)
	return h, nil
}

func (h *loopbackHost) wire(p *peer) (link.Outlet, error) {
	return h.end.Open(h.key.addr(p.name, p.generation), p, h.run.window), nil
}

func (h *loopbackHost) start(p *peer) error {
	o := p.order(h.key, h.run)
	go func() { _ = serveOrder(h.ctx, h.worker, h.cfg.functions, o) }() // fails only when all ends
	return nil
}

func (h *loopbackHost) close(err error) {
	h.processHost.close(err)
	_ = h.listener.Close()
	h.wg.Wait()
}
