package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/api/convert"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/text"
)

// Reasons why a read ends that the worker gives.
const (
	ReadNotFound = "NOT_FOUND"
	ReadOffset   = "OFFSET"
)

// errNoStream says that the worker's job stream is not here any more.
var errNoStream = status.Error(codes.Unavailable, "the worker is not connected; its output is there when it comes back")

// streamWait is how long a read waits for a worker that is not connected: one
// goes from a scheduler that stops to the next within that time.
const streamWait = 3 * time.Second

// forwarded marks a read that another scheduler has passed on: it is not passed
// on once more.
const forwarded = "rota-forwarded"

// read is an output that is being read.
type read struct {
	id, worker string
	pieces     chan *rotav1.OutputPiece // unbuffered: whoever reads sets the pace
	over       chan struct{}            // closed when nobody reads any more, or nothing comes
	once       sync.Once
	err        error
}

// fail ends the read with err; nil is its end in order.
func (r *read) fail(err error) {
	r.once.Do(func() {
		r.err = err
		close(r.over)
	})
}

// ReadOutput answers what a job wrote.
func (c *Control) ReadOutput(req *rotav1.ReadOutputRequest, out grpc.ServerStreamingServer[rotav1.JobOutput]) error {
	ctx := out.Context()
	worker, g, err := c.attemptOf(ctx, req)
	if err != nil {
		return apiError(err)
	}
	if worker == "" {
		return nil // it never ran
	}
	s, peer, err := c.streamOf(ctx, worker)
	if err != nil {
		return err
	}
	if peer != "" {
		return c.forward(ctx, peer, req, g, out)
	}
	r := &read{id: rand.Text(), worker: worker, pieces: make(chan *rotav1.OutputPiece), over: make(chan struct{})}
	c.mu.Lock()
	c.reads[r.id] = r
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.reads, r.id)
		c.mu.Unlock()
		r.fail(nil)
	}()
	s.say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Read{Read: &rotav1.JobRead{
		Read: r.id, Id: req.GetId(), Generation: uint64(g), Offset: req.GetOffset(), Follow: req.GetFollow(),
	}}})
	for {
		select {
		case p := <-r.pieces:
			if err := out.Send(outputOf(p)); err != nil {
				return err
			}
		case <-r.over:
			return r.err
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

func outputOf(p *rotav1.OutputPiece) *rotav1.JobOutput {
	m := &rotav1.JobOutput{Stream: "stdout", Offset: p.GetOffset(), Data: p.GetData(), Missed: p.GetMissed(), Time: timestamppb.New(time.UnixMicro(p.GetUnixUs()))}
	if p.GetStream() == 2 {
		m.Stream = "stderr"
	}
	return m
}

// attemptOf finds which attempt is meant, and waits for a first one if the
// caller follows.
func (c *Control) attemptOf(ctx context.Context, req *rotav1.ReadOutputRequest) (string, rota.Generation, error) {
	w := c.watch(req.GetId())
	defer c.unwatch(w)
	if _, err := c.find(ctx, req.GetId()); err != nil {
		return "", 0, err
	}
	for {
		e, err := c.get(req.GetId())
		if err != nil {
			return "", 0, err
		}
		want := rota.Generation(req.GetGeneration())
		if a, ok := e.job.Current(); ok && want == 0 {
			return a.Worker, a.Generation, nil
		}
		for _, a := range e.job.Attempts {
			if want != 0 && a.Generation == want {
				return a.Worker, a.Generation, nil
			}
		}
		if want != 0 {
			return "", 0, fmt.Errorf("attempt %d of job %s: %w", want, text.Clip(req.GetId(), text.Short), rota.ErrNotFound)
		}
		if !req.GetFollow() || e.job.State.Done() {
			if req.GetOffset() > 0 {
				return "", 0, &rota.FieldError{Field: "offset", Value: req.GetOffset(), Want: "0: it never ran"}
			}
			return "", 0, nil
		}
		select {
		case <-w.signal:
		case <-c.ctx.Done():
			return "", 0, status.Error(codes.Unavailable, ErrClosed.Error())
		case <-ctx.Done():
			return "", 0, ctx.Err()
		}
	}
}

// streamOf finds the worker's stream here, or the scheduler that has it.
func (c *Control) streamOf(ctx context.Context, worker string) (*stream, string, error) {
	timer := time.NewTimer(streamWait)
	defer timer.Stop()
	md, _ := metadata.FromIncomingContext(ctx)
	again := len(md.Get(forwarded)) > 0
	for {
		c.mu.Lock()
		s, jw, moved := c.streams[worker], c.p.workers[worker], c.moved
		peer := ""
		if jw != nil && jw.GetScheduler() != c.cfg.Scheduler && !again {
			peer = c.p.grpc[jw.GetScheduler()]
		}
		c.mu.Unlock()
		if s != nil || peer != "" {
			return s, peer, nil
		}
		select {
		case <-moved:
		case <-timer.C:
			return nil, "", errNoStream
		case <-ctx.Done():
			return nil, "", status.FromContextError(ctx.Err()).Err()
		}
	}
}

// forward reads from the scheduler that has the worker's stream, with the
// caller's own credentials.
func (c *Control) forward(ctx context.Context, peer string, req *rotav1.ReadOutputRequest, g rota.Generation, out grpc.ServerStreamingServer[rotav1.JobOutput]) error {
	conn, err := c.peer(peer)
	if err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	pass := metadata.Pairs(forwarded, "1")
	for _, key := range []string{"authorization", auth.NamespaceKey} {
		pass.Append(key, md.Get(key)...)
	}
	in, err := rotav1.NewJobsClient(conn).ReadOutput(metadata.NewOutgoingContext(ctx, pass), &rotav1.ReadOutputRequest{
		Id: req.GetId(), Offset: req.GetOffset(), Follow: req.GetFollow(), Generation: uint64(g),
	})
	if err != nil {
		return err
	}
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.Send(m); err != nil {
			return err
		}
	}
}

// peer is the connection to another scheduler; one is kept.
func (c *Control) peer(address string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.peers[address]; conn != nil {
		return conn, nil
	}
	if c.cfg.Peer == nil || c.closed {
		return nil, errNoStream
	}
	conn, err := c.cfg.Peer(address)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "scheduler %s: %v", address, err)
	}
	c.peers[address] = conn
	return conn, nil
}

// PushOutput takes an output from a worker to who asked for it.
func (c *Control) PushOutput(in grpc.ClientStreamingServer[rotav1.OutputPiece, rotav1.PushOutputResponse]) error {
	first, err := in.Recv()
	if err != nil {
		return err
	}
	c.mu.Lock()
	r := c.reads[first.GetRead()]
	c.mu.Unlock()
	if r == nil {
		return status.Error(codes.NotFound, "nobody reads this any more")
	}
	if err := auth.IsWorker(in.Context(), r.worker); err != nil {
		return err
	}
	if first.GetError() != "" {
		r.fail(readError(first))
		return in.SendAndClose(&rotav1.PushOutputResponse{})
	}
	for p := first; ; {
		if len(p.GetData()) > 0 || p.GetMissed() > 0 {
			select {
			case r.pieces <- p:
			case <-r.over:
				return status.Error(codes.Canceled, "nobody reads this any more")
			case <-in.Context().Done():
				r.fail(errNoStream)
				return status.FromContextError(in.Context().Err()).Err()
			}
		}
		p, err = in.Recv()
		if errors.Is(err, io.EOF) {
			r.fail(nil)
			return in.SendAndClose(&rotav1.PushOutputResponse{})
		}
		if err != nil {
			r.fail(errNoStream)
			return err
		}
	}
}

func readError(p *rotav1.OutputPiece) error {
	switch p.GetError() {
	case ReadNotFound:
		return status.Error(codes.NotFound, "the output is gone: "+p.GetErrorText())
	case ReadOffset:
		return convert.FieldStatus("offset", p.GetErrorText())
	}
	return status.Error(codes.Unavailable, p.GetErrorText())
}

// watcher is told of changes of jobs. One that reads slowly is told less often.
type watcher struct {
	only   string // one job, or all
	mu     sync.Mutex
	ids    map[string]struct{}
	signal chan struct{}
}

func (w *watcher) add(id string) {
	if w.only != "" && w.only != id {
		return
	}
	w.mu.Lock()
	w.ids[id] = struct{}{}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *watcher) take() map[string]struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := w.ids
	w.ids = map[string]struct{}{}
	return ids
}

func (c *Control) watch(only string) *watcher {
	w := &watcher{only: only, ids: map[string]struct{}{}, signal: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[w] = struct{}{}
	return w
}

func (c *Control) unwatch(w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watchers, w)
}
