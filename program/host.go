package program

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/rota-project/rota/program/link"
)

// Host runs the tasks of programs in a worker of a cluster. Package worker is
// its user; programs need not know it.
type Host struct {
	// Functions are those that the worker offers.
	Functions Functions

	dial      func(context.Context, string) (net.Conn, error)
	addresses func() []string
	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	node      *link.Node

	mu     sync.Mutex
	relays []string
}

// NewHost returns a host that reaches relays at the addresses that addresses
// names (and at those that programs name), with TLS or, where conf answers nil,
// without. Close it.
func NewHost(conf func() *tls.Config, addresses func() []string) *Host {
	h := &Host{dial: dialer(conf, false), addresses: addresses, node: link.NewNode(link.NodeConfig{})}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Run runs the task that an order, the payload of a task of the cluster, is
// about, until ctx ends. Ctx is the grant: when it ends, in is closed.
func (h *Host) Run(ctx context.Context, payload []byte) error {
	var o order
	if err := json.Unmarshal(payload, &o); err != nil {
		return fmt.Errorf("a program's order that cannot be read: %w", err)
	}
	if err := o.check(); err != nil {
		return err
	}
	h.connect(append(h.addresses(), o.Relays...))
	serveGranted(ctx, h.node, &h.Functions, o)
	<-ctx.Done() // the task has ended and said how; the program removes it
	return nil
}

// connect has the node be at each of the relays, from the first task on.
func (h *Host) connect(addresses []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return
	}
	for _, a := range addresses {
		if slices.Contains(h.relays, a) {
			continue
		}
		h.relays = append(h.relays, a)
		h.wg.Go(func() {
			h.node.Connect(h.ctx, func(ctx context.Context) (net.Conn, error) { return h.dial(ctx, a) }, nil)
		})
	}
}

// Close ends the connections.
func (h *Host) Close() {
	h.mu.Lock()
	h.cancel()
	h.mu.Unlock()
	h.wg.Wait()
}
