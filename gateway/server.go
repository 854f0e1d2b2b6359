package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/rota-project/rota/gateway/internal/tcp"
	"github.com/rota-project/rota/internal/backoff"
)

// Serve accepts connections until the listener closes or the gateway does.
func (g *Gateway) Serve(ln net.Listener) error {
	g.serving.Lock()
	if g.closing.Load() {
		g.serving.Unlock()
		_ = ln.Close()
		return ErrClosed
	}
	g.lns[ln] = struct{}{}
	g.serving.Unlock()
	defer func() {
		g.serving.Lock()
		delete(g.lns, ln)
		g.serving.Unlock()
		_ = ln.Close()
	}()
	pause := backoff.Backoff{First: 5 * time.Millisecond, Most: time.Second}
	for {
		nc, err := ln.Accept()
		if err != nil {
			if g.closing.Load() {
				return ErrClosed
			}
			if mayPass(err) {
				// Out of file descriptors: wait for some to come free.
				if pause.Wait(g.ctx) != nil {
					return ErrClosed
				}
				continue
			}
			return err
		}
		pause.Reset()
		g.accepted.Add(1)
		if most := g.state.Load().cfg.Limits.Connections; most > 0 && g.conns.len() >= most {
			_ = nc.Close()
			continue
		}
		c := newConn(g, tcp.Take(nc))
		if !g.conns.add(c) {
			_ = c.raw.Close()
			return ErrClosed
		}
		go c.serve()
	}
}

// mayPass says that a listener that failed so may accept again in a while.
func mayPass(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout() ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
}

// served is a client connection, or a call on somebody else's.
type served interface {
	sweep(now int64)
	retire()
	abort()
}

// connSet are the client connections.
type connSet struct {
	mu     sync.Mutex
	set    map[served]struct{}
	closed bool
	empty  chan struct{}
}

func (s *connSet) add(c served) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.set == nil {
		s.set = map[served]struct{}{}
	}
	s.set[c] = struct{}{}
	return true
}

func (s *connSet) remove(c served) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, c)
	if len(s.set) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

func (s *connSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.set)
}

func (s *connSet) each(do func(served)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.set {
		do(c)
	}
}

// drain closes idle connections and waits until the others are done.
func (s *connSet) drain(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	if len(s.set) == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	s.mu.Unlock()
	s.each(served.retire)
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.each(served.abort)
}

// sweepConns ends what has taken too long, on all connections.
func (g *Gateway) sweepConns(now int64) {
	closing := g.closing.Load()
	g.conns.each(func(c served) {
		if closing {
			c.retire()
		}
		c.sweep(now)
	})
}

// withALPN offers HTTP/2 and HTTP/1.1 on a copy of the configuration.
func withALPN(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	return c
}

// prefixed is a connection of which some bytes were read already.
type prefixed struct {
	net.Conn
	head []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}
