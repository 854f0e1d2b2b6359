package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/worker/internal/tasklog"
)

// output is what takes what one call of a task function writes.
type output struct {
	run *tasklog.Run
	log *slog.Logger // of the worker, with the task's name

	once   sync.Once
	logger *slog.Logger
}

// Logger is the function's logger. Its lines go to the worker's own log, with the task, and
// are kept for rota task logs: the last 64 KiB of this call and of the previous one, from
// level INFO on or as the worker's log. The last lines go with the error of a function that
// ends by itself. The logger of an Assigned that was made by hand discards all.
func (a Assigned) Logger() *slog.Logger {
	if a.output == nil {
		return slog.New(slog.DiscardHandler)
	}
	o := a.output
	o.once.Do(func() {
		level := slog.LevelInfo
		if o.log.Enabled(context.Background(), slog.LevelDebug) {
			level = slog.LevelDebug
		}
		kept := slog.NewTextHandler(o.run.Writer(tasklog.Logged), &slog.HandlerOptions{Level: level})
		o.logger = slog.New(slog.NewMultiHandler(o.log.Handler(), kept))
	})
	return o.logger
}

// Stdout and Stderr keep their output for rota task logs, as Logger does, and write it
// nowhere else. They never fail and never block. Close them at the end of the output.
func (a Assigned) Stdout() io.WriteCloser { return a.stream(tasklog.Stdout) }

// Stderr is for the other stream; see Stdout.
func (a Assigned) Stderr() io.WriteCloser { return a.stream(tasklog.Stderr) }

func (a Assigned) stream(s tasklog.Stream) io.WriteCloser {
	if a.output == nil {
		return discard{}
	}
	return a.output.run.Writer(s)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// maxLast is the most of what a function wrote last that goes with its error.
const maxLast = maxErrorText / 2

// withLast puts what a function wrote last behind the text of its error.
func withLast(said, last string) string { return text.WithLast(said, last, maxErrorText) }

// maxReads is how many readers may be sent output at once.
const maxReads = 100

// pushLog sends the log of an instance to who asked for it, at that one's pace.
func (w *Worker) pushLog(ctx context.Context, to Pusher, m *rotav1.ReadLog) {
	defer w.reads.Add(-1)
	busy := w.reads.Add(1) > maxReads
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := to.PushOutput(ctx)
	if err != nil {
		return
	}
	over := make(chan struct{})
	go func() { // who reads no more says so by the end of the stream
		defer close(over)
		defer cancel()
		_ = s.RecvMsg(&rotav1.PushOutputResponse{})
	}()
	send := func(p *rotav1.OutputPiece) error {
		p.Read = m.GetRead()
		return s.Send(p)
	}
	if busy {
		err = send(&rotav1.OutputPiece{Error: job.ReadBusy, ErrorText: fmt.Sprintf("worker %s already sends output to %d readers", w.cfg.Name, maxReads)})
	} else {
		err = w.pushLogTo(ctx, send, m)
	}
	if err != nil {
		w.log().Debug("log not sent", "task", m.GetTask(), "error", err)
	}
	_ = s.CloseSend()
	<-over
}

func (w *Worker) pushLogTo(ctx context.Context, send func(*rotav1.OutputPiece) error, m *rotav1.ReadLog) error {
	from := tasklog.From{Previous: m.GetPrevious(), Tail: -1, Source: m.GetLog(), Offset: m.GetOffset(), Follow: m.GetFollow()}
	if m.Tail != nil {
		from.Tail = int(min(m.GetTail(), tasklog.RunBytes)) // no more lines than bytes
	}
	i := rota.Instance{Task: m.GetTask(), Index: int(m.GetIndex())}
	r, err := w.logs.Reader(i, from)
	if err != nil {
		code := job.ReadNone
		if errors.As(err, new(*rota.FieldError)) {
			code = job.ReadOffset
		}
		return send(&rotav1.OutputPiece{Error: code, ErrorText: fmt.Sprintf("worker %s: %v", w.cfg.Name, err)})
	}
	for p := r.At(); ; {
		if err := send(pieceOf(p)); err != nil {
			return err
		}
		p, err = r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func pieceOf(p tasklog.Piece) *rotav1.OutputPiece {
	return &rotav1.OutputPiece{
		Log: p.Source, GrantGeneration: uint64(p.Generation), Run: p.Run, Stream: uint32(p.Stream), Offset: p.Offset, Missed: p.Missed,
		UnixUs: p.Time.UnixMicro(), NowUnixUs: time.Now().UnixMicro(), Data: p.Data,
	}
}
