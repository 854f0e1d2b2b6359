//go:build linux

package e2e

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy passes TCP connections on, or cuts or holds them up.
type proxy struct {
	addr string

	mu       sync.Mutex
	backend  string
	up, down bool // held up, by direction
	changed  chan struct{}
	conns    map[net.Conn]struct{}
	cancel   context.CancelFunc
}

func newProxy(t *testing.T, backend string) *proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), backend: backend, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}, cancel: cancel}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.serve(ctx, c) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		p.cut()
		work.Wait()
	})
	return p
}

func (p *proxy) serve(ctx context.Context, near net.Conn) {
	defer func() { _ = near.Close() }()
	p.mu.Lock()
	backend := p.backend
	p.mu.Unlock()
	far, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", backend)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	p.mu.Lock()
	p.conns[near], p.conns[far] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(ctx, far, near, func() bool { return p.up }) })
	both.Go(func() { p.copy(ctx, near, far, func() bool { return p.down }) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, near)
	delete(p.conns, far)
	p.mu.Unlock()
}

func (p *proxy) copy(ctx context.Context, to, from net.Conn, held func() bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		for {
			p.mu.Lock()
			wait, changed := held(), p.changed
			p.mu.Unlock()
			if !wait {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// hold holds up directions, or lets them go on.
func (p *proxy) hold(up, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up, p.down = up, down
	close(p.changed)
	p.changed = make(chan struct{})
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// to changes where new connections go.
func (p *proxy) to(backend string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backend = backend
}
