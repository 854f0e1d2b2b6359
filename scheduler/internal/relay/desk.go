package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/job"
)

// ErrAway says that the worker's stream is not here any more.
var ErrAway = status.Error(codes.Unavailable, "the worker is not connected; its output is available when it comes back")

// errUnread is the answer to a worker that sends what nobody reads any more.
var errUnread = status.Error(codes.NotFound, "the reader is gone")

// Desk is where reads wait for what their workers send.
type Desk struct {
	mu    sync.Mutex
	reads map[string]*Read
}

// NewDesk returns an empty one.
func NewDesk() *Desk { return &Desk{reads: map[string]*Read{}} }

// Read is an output that is being read.
type Read struct {
	// ID is what the worker has to show; nobody can guess it.
	ID     string
	worker string
	pieces chan *rotav1.OutputPiece // unbuffered: whoever reads sets the pace
	over   chan struct{}            // closed when nobody reads any more, or nothing comes
	once   sync.Once
	err    error
	unread chan struct{} // closed when nobody reads any more
}

// Open begins a read of what a worker will send. Close it.
func (d *Desk) Open(worker string) *Read {
	r := &Read{ID: rand.Text(), worker: worker, pieces: make(chan *rotav1.OutputPiece), over: make(chan struct{}), unread: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads[r.ID] = r
	return r
}

// Close ends a read, once.
func (d *Desk) Close(r *Read) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.reads, r.ID)
	r.fail(nil)
	close(r.unread)
}

// fail ends the read with err; nil is its end in order.
func (r *Read) fail(err error) {
	r.once.Do(func() {
		r.err = err
		close(r.over)
	})
}

// Each calls f with each piece until the end, which is nil if it came in order. gone is
// closed when the worker's stream, on which it was asked, has ended.
func (r *Read) Each(ctx context.Context, gone <-chan struct{}, f func(*rotav1.OutputPiece) error) error {
	for {
		select {
		case p := <-r.pieces:
			if err := f(p); err != nil {
				return err
			}
		case <-r.over:
			return r.err
		case <-gone:
			select {
			case <-r.over: // it came to its end first
				return r.err
			default:
				return ErrAway
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// PushOutput takes an output from a worker to who asked for it.
func (d *Desk) PushOutput(in grpc.ClientStreamingServer[rotav1.OutputPiece, rotav1.PushOutputResponse]) error {
	if err := d.Push(in.Context(), in.Recv); err != nil {
		return err
	}
	return in.SendAndClose(&rotav1.PushOutputResponse{})
}

// Push is PushOutput with what receives the pieces, until io.EOF. When nobody reads any
// more it returns at once, whether or not a piece comes; recv has to end then.
func (d *Desk) Push(ctx context.Context, recv func() (*rotav1.OutputPiece, error)) error {
	first, err := recv()
	if err != nil {
		return err
	}
	d.mu.Lock()
	r := d.reads[first.GetRead()]
	d.mu.Unlock()
	if r == nil {
		return errUnread
	}
	if err := auth.IsWorker(ctx, r.worker); err != nil {
		return err
	}
	if first.GetError() != "" {
		r.fail(refusal(first))
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- r.take(ctx, first, recv) }()
	select {
	case err := <-ended:
		return err
	case <-r.unread:
		return errUnread
	}
}

// take hands pieces on until their end.
func (r *Read) take(ctx context.Context, p *rotav1.OutputPiece, recv func() (*rotav1.OutputPiece, error)) error {
	ahead := int64(0) // the worker's clock of this one
	if p.GetNowUnixUs() != 0 {
		ahead = p.GetNowUnixUs() - time.Now().UnixMicro()
	}
	for {
		p.UnixUs -= ahead
		if len(p.GetData()) > 0 || p.GetMissed() > 0 || p.GetLog() != "" {
			select {
			case r.pieces <- p:
			case <-r.over:
				return errUnread
			case <-ctx.Done():
				r.fail(ErrAway)
				return status.FromContextError(ctx.Err()).Err()
			}
		}
		var err error
		p, err = recv()
		if errors.Is(err, io.EOF) {
			r.fail(nil)
			return nil
		}
		if err != nil {
			r.fail(ErrAway)
			return err
		}
	}
}

// refusal is why a worker cannot send what it was asked for.
func refusal(p *rotav1.OutputPiece) error {
	switch p.GetError() {
	case job.ReadNotFound:
		return status.Error(codes.NotFound, p.GetErrorText())
	case job.ReadNone:
		return status.Error(codes.FailedPrecondition, p.GetErrorText())
	case job.ReadOffset:
		return convert.FieldStatus("offset", p.GetErrorText())
	case job.ReadBusy:
		return status.Error(codes.ResourceExhausted, p.GetErrorText())
	}
	return status.Error(codes.Internal, p.GetErrorText()) // the worker's own; asking again is of no use
}
