package simtest

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/scheduler/internal/sessions"
)

// network is what lies between workers and schedulers.
type network struct {
	mu      sync.Mutex
	held    map[string]bool // "up w1", "down w1", "node s1": nothing passes
	changed chan struct{}   // closed and replaced when held changes
	pipes   map[*pipe]struct{}
	calmed  <-chan struct{} // closed when there are no more faults
	closed  bool
	work    sync.WaitGroup // added to under mu, and no more once closed
}

func newNetwork(calmed <-chan struct{}) *network {
	return &network{calmed: calmed, held: map[string]bool{}, changed: make(chan struct{}), pipes: map[*pipe]struct{}{}}
}

// hold holds up, or lets go on, what passes by any of the names.
func (n *network) hold(yes bool, names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		if yes {
			n.held[name] = true
		} else {
			delete(n.held, name)
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// heal lets everything go on.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.held)
	close(n.changed)
	n.changed = make(chan struct{})
}

// pass waits until nothing holds up the names.
func (n *network) pass(ctx context.Context, names ...string) error {
	for {
		n.mu.Lock()
		held, changed := false, n.changed
		for _, name := range names {
			held = held || n.held[name]
		}
		n.mu.Unlock()
		if !held {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cut ends the connections that which names.
func (n *network) cut(which func(*pipe) bool) (cut int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.pipes {
		if which(p) {
			p.cancel()
			cut++
		}
	}
	return cut
}

// pipe is one connection. What is sent arrives later, in order, if the
// connection lives so long. When the worker lets go of it the scheduler may go
// on hearing, for a while, what was on its way.
type pipe struct {
	net               *network
	worker, scheduler string
	ctx               context.Context // the worker's end
	cancel            context.CancelFunc
	conn              *sessions.Conn // the scheduler's end
	up                chan *rotav1.FromWorker
	down              chan *rotav1.ToWorker
	latency           func() time.Duration
}

var errReset = errors.New("simtest: connection reset")

// dial connects; linger is how long the scheduler hears of the connection after
// the worker has given it up.
func (n *network) dial(ctx context.Context, worker, scheduler string, to *sessions.Server,
	latency func() time.Duration, linger time.Duration,
) (*pipe, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errReset
	}
	farCtx, farCancel := context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(ctx)
	p := &pipe{
		net: n, worker: worker, scheduler: scheduler, ctx: ctx, cancel: cancel, conn: to.Dial(farCtx),
		up: make(chan *rotav1.FromWorker, 1<<12), down: make(chan *rotav1.ToWorker), latency: latency,
	}
	n.pipes[p] = struct{}{}
	n.work.Go(func() {
		defer farCancel()
		<-ctx.Done()
		if linger > 0 {
			select {
			case <-time.After(linger):
			case <-n.calmed:
			}
		}
		n.mu.Lock()
		delete(n.pipes, p)
		n.mu.Unlock()
	})
	n.work.Go(func() {
		for {
			select {
			case m := <-p.up:
				time.Sleep(latency())
				if n.pass(farCtx, "up "+worker, "node "+scheduler) != nil || p.conn.Send(m) != nil {
					cancel()
					return
				}
			case <-farCtx.Done():
				return
			}
		}
	})
	n.work.Go(func() {
		defer cancel()
		for {
			m, err := p.conn.Recv()
			if err != nil {
				return
			}
			time.Sleep(latency())
			if n.pass(ctx, "down "+worker, "node "+scheduler) != nil {
				return
			}
			select {
			case p.down <- m:
			case <-ctx.Done():
				return
			}
		}
	})
	return p, nil
}

// close waits for all connections to end; there are no new ones.
func (n *network) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.work.Wait()
}

// Send implements worker.Stream.
func (p *pipe) Send(m *rotav1.FromWorker) error {
	if p.ctx.Err() != nil {
		return errReset
	}
	select {
	case p.up <- m:
		return nil
	case <-p.ctx.Done():
		return errReset
	}
}

// Recv implements worker.Stream.
func (p *pipe) Recv() (*rotav1.ToWorker, error) {
	select {
	case m := <-p.down:
		return m, nil
	case <-p.ctx.Done():
		return nil, io.EOF
	}
}
