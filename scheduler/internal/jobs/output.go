package jobs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/relay"
)

// streamWait is how long a read waits for a worker that is not connected: one
// goes from a scheduler that stops to the next within that time.
const streamWait = 3 * time.Second

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
	r := c.cfg.Desk.Open(worker)
	defer c.cfg.Desk.Close(r)
	s.Say(&rotav1.ToJobWorker{Body: &rotav1.ToJobWorker_Read{Read: &rotav1.JobRead{
		Read: r.ID, Id: req.GetId(), Generation: uint64(g), Offset: req.GetOffset(), Follow: req.GetFollow(),
	}}})
	return r.Each(ctx, s.Gone, func(p *rotav1.OutputPiece) error { return out.Send(outputOf(p)) })
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
			return "", 0, status.Error(codes.Unavailable, errClosed.Error())
		case <-ctx.Done():
			return "", 0, ctx.Err()
		}
	}
}

// streamOf finds the worker's stream here, or the scheduler that has it.
func (c *Control) streamOf(ctx context.Context, worker string) (*stream, string, error) {
	timer := time.NewTimer(streamWait)
	defer timer.Stop()
	again := relay.Forwarded(ctx)
	for {
		s, moved := c.streams.Of(worker)
		c.mu.Lock()
		jw := c.p.workers[worker]
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
			return nil, "", relay.ErrAway
		case <-ctx.Done():
			return nil, "", status.FromContextError(ctx.Err()).Err()
		}
	}
}

// forward reads from the scheduler that has the worker's stream, with the
// caller's own credentials.
func (c *Control) forward(ctx context.Context, peer string, req *rotav1.ReadOutputRequest, g rota.Generation, out grpc.ServerStreamingServer[rotav1.JobOutput]) error {
	conn, err := c.cfg.Peers.To(peer)
	if err != nil {
		return err
	}
	in, err := rotav1.NewJobsClient(conn).ReadOutput(relay.Onward(ctx), &rotav1.ReadOutputRequest{
		Id: req.GetId(), Offset: req.GetOffset(), Follow: req.GetFollow(), Generation: uint64(g),
	})
	if err != nil {
		return err
	}
	return relay.Copy(in, out.Send)
}

// PushOutput takes an output from a worker to who asked for it.
func (c *Control) PushOutput(in grpc.ClientStreamingServer[rotav1.OutputPiece, rotav1.PushOutputResponse]) error {
	return c.cfg.Desk.PushOutput(in)
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
