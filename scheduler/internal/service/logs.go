package service

import (
	"context"
	"fmt"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/scheduler/internal/relay"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// sessionWait is how long a read waits for a worker whose session is on its way from
// one scheduler to another.
const sessionWait = 3 * time.Second

// ReadTaskLogs answers what an instance of a task has written.
func (s *Service) ReadTaskLogs(r *rotav1.ReadTaskLogsRequest, out grpc.ServerStreamingServer[rotav1.TaskLog]) error {
	switch {
	case s.cfg.ReadLog == nil:
		return status.Error(codes.Unimplemented, "this scheduler has no task logs")
	case r.GetPrevious() && r.GetFollow():
		return convert.FieldStatus("follow", "follow: want it without previous: a run that has ended writes nothing more")
	case r.Tail != nil && r.GetTail() < 0:
		return convert.FieldStatus("tail", fmt.Sprintf("tail: %d: want zero or more lines", r.GetTail()))
	case r.GetOffset() < 0:
		return convert.FieldStatus("offset", fmt.Sprintf("offset: %d: want zero or more bytes", r.GetOffset()))
	case r.GetOffset() > 0 && r.GetLog() == "":
		return convert.FieldStatus("log", "log: want the log that offset belongs to")
	}
	ctx := out.Context()
	leave, err := s.enterReader(ctx, r)
	if err != nil {
		return err
	}
	defer leave()
	at, err := s.logAt(ctx, r)
	if err != nil {
		return err
	}
	if at.peer != "" {
		return s.forwardLog(ctx, at, r, out)
	}
	defer s.cfg.Desk.Close(at.read)
	return at.read.Each(ctx, at.gone, func(p *rotav1.OutputPiece) error {
		return out.Send(&rotav1.TaskLog{
			Worker: at.worker, Log: p.GetLog(), Generation: p.GetGrantGeneration(), Run: p.GetRun(), Stream: streamName(p.GetStream()),
			Offset: p.GetOffset(), Missed: p.GetMissed(), Time: timestamppb.New(time.UnixMicro(p.GetUnixUs())), Data: p.GetData(),
		})
	})
}

func streamName(n uint32) string {
	switch n {
	case 1:
		return "stdout"
	case 2:
		return "stderr"
	case 3:
		return "log"
	}
	return ""
}

// readsOfOne is how many logs of one worker are sent to one caller at once: a fourth of what
// the worker sends at all, so that nobody's reading keeps others from it.
const readsOfOne = 25

// logReader is a caller who reads logs of a worker.
type logReader struct {
	kind       auth.Kind
	id, worker string
}

// enterReader counts a read of its caller until leave is called. Who asks on behalf of others
// has counted theirs; a caller without credentials may do anything anyway.
func (s *Service) enterReader(ctx context.Context, r *rotav1.ReadTaskLogsRequest) (leave func(), err error) {
	who := auth.From(ctx)
	if who.Kind == auth.Local || who.Scheduler {
		return func() {}, nil
	}
	var at logAt
	s.cfg.View.Read(func() { at, _ = s.findLog(r, true) }) // what is wrong with it logAt says
	k := logReader{who.Kind, who.ID, at.worker}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers[k] >= readsOfOne {
		return nil, status.Errorf(codes.ResourceExhausted, "%s already reads %d logs of worker %s; end one of those reads", who.Name, readsOfOne, text.Clip(at.worker, text.Short))
	}
	if s.readers == nil {
		s.readers = map[logReader]int{}
	}
	s.readers[k]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.readers[k]--; s.readers[k] == 0 {
			delete(s.readers, k)
		}
	}, nil
}

// logAt is where a log is to be had.
type logAt struct {
	instance rota.Instance
	worker   string
	peer     string // the address of the scheduler to ask; empty: the worker's session is here

	// Of a session that is here: what the worker was asked.
	read *relay.Read
	gone <-chan struct{}
}

// lookEvery is how often a read looks for such a worker.
const lookEvery = 50 * time.Millisecond

// logAt finds where a log is, and asks the worker if its session is here. It waits for a
// worker that goes from one scheduler to another meanwhile.
func (s *Service) logAt(ctx context.Context, r *rotav1.ReadTaskLogsRequest) (at logAt, err error) {
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for began := time.Now(); ; {
		s.cfg.View.Read(func() { at, err = s.findLog(r, relay.Forwarded(ctx)) })
		if err == nil && at.peer == "" && !s.askLog(&at, r) {
			err = relay.ErrAway // it has gone this very moment, or is about to be here
		}
		if status.Code(err) != codes.Unavailable || time.Since(began) > sessionWait {
			return at, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return at, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// askLog asks the worker, and reports whether its session is here.
func (s *Service) askLog(at *logAt, r *rotav1.ReadTaskLogsRequest) (ok bool) {
	at.read = s.cfg.Desk.Open(at.worker)
	at.gone, ok = s.cfg.ReadLog(at.worker, &rotav1.ReadLog{
		Read: at.read.ID, Task: r.GetId(), Index: int64(at.instance.Index), Previous: r.GetPrevious(), Tail: r.Tail,
		Offset: r.GetOffset(), Log: r.GetLog(), Follow: r.GetFollow(),
	})
	if !ok {
		s.cfg.Desk.Close(at.read)
	}
	return ok
}

// findLog is logAt once; the view stands still. What may be otherwise in a moment is
// codes.Unavailable.
func (s *Service) findLog(r *rotav1.ReadTaskLogsRequest, forwarded bool) (at logAt, err error) {
	v := s.cfg.View
	t, ok := v.Tasks.Get(r.GetId())
	if !ok && r.GetWorker() == "" {
		return at, noTask(r.GetId())
	}
	at.instance = rota.Instance{Task: r.GetId(), Index: int(r.GetIndex())}
	if ok {
		switch n := max(t.Replicas, 1); {
		case r.Index == nil && n > 1:
			return at, convert.FieldStatus("index", fmt.Sprintf("index: task %s has %d instances; want one of 0 to %d", text.Clip(t.ID, text.Short), n, n-1))
		case at.instance.Index < 0 || at.instance.Index >= n:
			return at, convert.FieldStatus("index", fmt.Sprintf("index: %d: task %s has the instances 0 to %d", at.instance.Index, text.Clip(t.ID, text.Short), n-1))
		}
	}
	if at.worker = r.GetWorker(); at.worker == "" {
		worker, g := v.Owner(at.instance)
		if g == nil {
			return at, status.Errorf(codes.FailedPrecondition, "%s is on no worker now and has no log; ask why it waits, or name a worker that ran it",
				text.Clip(at.instance.String(), text.Short))
		}
		at.worker = worker
	}
	worker := text.Clip(at.worker, text.Short)
	session := v.Sessions[at.worker]
	switch {
	case session == nil && v.Nodes[at.worker] == nil && r.GetWorker() != "":
		return at, status.Errorf(codes.NotFound, "worker %q: not found", worker)
	case session == nil:
		return at, status.Errorf(codes.Unavailable, "worker %s is away; the log of %s is available when it comes back", worker, text.Clip(at.instance.String(), text.Short))
	case !session.GetLogs():
		return at, status.Errorf(codes.Unimplemented, "worker %s has version %s, which keeps no task logs: later versions do", worker, session.GetBuild())
	case session.GetScheduler() == s.cfg.Scheduler:
		return at, nil
	case forwarded:
		return at, relay.ErrAway // it has just gone on to another scheduler
	}
	if at.peer = v.Schedulers[session.GetScheduler()].GetGrpc(); at.peer == "" {
		return at, relay.ErrAway
	}
	return at, nil
}

// forwardLog reads from the scheduler that has the worker's session.
func (s *Service) forwardLog(ctx context.Context, at logAt, r *rotav1.ReadTaskLogsRequest, out grpc.ServerStreamingServer[rotav1.TaskLog]) error {
	conn, err := s.cfg.Peers.To(at.peer)
	if err != nil {
		return err
	}
	in, err := rotav1.NewTasksClient(conn).ReadTaskLogs(relay.Onward(ctx), r)
	if err != nil {
		return err
	}
	return relay.Copy(in, out.Send)
}
