package program

import (
	"context"
	"net"
	"slices"
	"sync"

	"github.com/rota-project/rota/internal/program/link"
)

// relays keep a node connected to each relay that it hears of. Make them with
// newRelays, and close them.
type relays struct {
	node   *link.Node
	dial   func(ctx context.Context, address string) (net.Conn, error)
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	known []string
}

func newRelays(node *link.Node, dial func(context.Context, string) (net.Conn, error)) *relays {
	r := &relays{node: node, dial: dial}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// connect has the node be at each of the addresses, from now on.
func (r *relays) connect(addresses []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	for _, a := range addresses {
		if slices.Contains(r.known, a) {
			continue
		}
		r.known = append(r.known, a)
		r.wg.Go(func() {
			r.node.Connect(r.ctx, func(ctx context.Context) (net.Conn, error) { return r.dial(ctx, a) }, nil)
		})
	}
}

// addresses are those that the node has been told of.
func (r *relays) addresses() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.known)
}

// close ends the connections.
func (r *relays) close() {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.wg.Wait()
}
