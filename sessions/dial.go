package sessions

import (
	"context"
	"io"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// Conn is the worker's end of a connection within one process.
type Conn struct {
	ctx    context.Context
	cancel context.CancelFunc
	up     chan *rotav1.FromWorker
	down   chan *rotav1.ToWorker
}

// Dial connects a worker of the same process. The connection ends with ctx.
func (s *Server) Dial(ctx context.Context) *Conn {
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{ctx, cancel, make(chan *rotav1.FromWorker), make(chan *rotav1.ToWorker)}
	go func() {
		defer cancel()
		_ = s.Serve(ctx, far{c})
	}()
	return c
}

// Send says something to the scheduler.
func (c *Conn) Send(m *rotav1.FromWorker) error {
	select {
	case c.up <- m:
		return nil
	case <-c.ctx.Done():
		return io.EOF
	}
}

// Recv waits for what the scheduler says.
func (c *Conn) Recv() (*rotav1.ToWorker, error) {
	select {
	case m := <-c.down:
		return m, nil
	case <-c.ctx.Done():
		return nil, io.EOF
	}
}

// far is the scheduler's end.
type far struct{ c *Conn }

func (f far) Send(m *rotav1.ToWorker) error {
	select {
	case f.c.down <- m:
		return nil
	case <-f.c.ctx.Done():
		return io.EOF
	}
}

func (f far) Recv() (*rotav1.FromWorker, error) {
	select {
	case m := <-f.c.up:
		return m, nil
	case <-f.c.ctx.Done():
		return nil, io.EOF
	}
}
