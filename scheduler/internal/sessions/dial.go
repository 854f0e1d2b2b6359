package sessions

import (
	"context"
	"io"
	"sync"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/scheduler/internal/relay"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Conn is the worker's end of a connection within one process.
type Conn struct {
	ctx    context.Context
	cancel context.CancelFunc
	up     chan *rotav1.FromWorker
	down   chan *rotav1.ToWorker
	desk   *relay.Desk
}

// Dial connects a worker of the same process. The connection ends with ctx.
func (s *Server) Dial(ctx context.Context) *Conn {
	ctx, cancel := context.WithCancel(ctx)
	c := &Conn{ctx, cancel, make(chan *rotav1.FromWorker), make(chan *rotav1.ToWorker), s.cfg.Desk}
	go func() {
		defer cancel()
		_ = s.Serve(auth.Inside(ctx), far{c})
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

// output is what a worker of the same process sends that it was asked to read: the
// stream of JobWork.PushOutput, as far as workers use it.
type output struct {
	grpc.ClientStreamingClient[rotav1.OutputPiece, rotav1.PushOutputResponse]
	ctx    context.Context //nolint:containedctx // it is the stream's
	pieces chan *rotav1.OutputPiece
	done   chan struct{}
	err    error // once done is closed
	closed sync.Once
}

// PushOutput begins the answer to a read, as JobWork.PushOutput does over gRPC.
func (c *Conn) PushOutput(ctx context.Context, _ ...grpc.CallOption) (grpc.ClientStreamingClient[rotav1.OutputPiece, rotav1.PushOutputResponse], error) {
	if c.desk == nil {
		return nil, status.Error(codes.Unimplemented, "this server takes no output")
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	o := &output{ctx: ctx, pieces: make(chan *rotav1.OutputPiece), done: make(chan struct{})}
	go func() {
		defer close(o.done)
		defer cancel()
		defer stop()
		o.err = c.desk.Push(auth.Inside(ctx), o.recv)
	}()
	return o, nil
}

func (o *output) recv() (*rotav1.OutputPiece, error) {
	select {
	case p, ok := <-o.pieces:
		if !ok {
			return nil, io.EOF
		}
		return p, nil
	case <-o.ctx.Done():
		return nil, o.ctx.Err()
	}
}

// Send hands a piece over when the reader takes it; io.EOF says that nobody reads.
func (o *output) Send(p *rotav1.OutputPiece) error {
	select {
	case o.pieces <- p:
		return nil
	case <-o.done:
		return io.EOF
	case <-o.ctx.Done():
		return o.ctx.Err()
	}
}

// CloseSend says that there is no more.
func (o *output) CloseSend() error {
	o.closed.Do(func() { close(o.pieces) })
	return nil
}

// RecvMsg waits for the end.
func (o *output) RecvMsg(any) error {
	<-o.done
	return o.err
}
