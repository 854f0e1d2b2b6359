// Package line keeps the stream of one kind of work between a worker and some scheduler,
// on the worker's side: it connects anew when it breaks, pauses in between, and holds up
// nobody who says something. The worker's side of each such kind uses it, as package agent
// does for jobs; the scheduler's end is a kind's Streams.
//
// It must never know what is said, or keep what was said for the next connection: a hello
// says all that is to be known.
package line

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/internal/mailbox"
)

// Pauses before the next attempt to connect, doubling from the first to the last.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// Link is one connection.
type Link[Up any] struct {
	// Out is what waits to be sent. Who puts something in is not held up.
	Out *mailbox.Box[*Up]
	// Cut ends the connection; orders that are on their way go unread.
	Cut context.CancelFunc
}

// Line is the stream of one kind of work. All but Ended must be set.
type Line[Up, Down any] struct {
	// Connect gives a connection to some scheduler, another one at each call where there
	// are several. The line closes it.
	Connect func(ctx context.Context) (*grpc.ClientConn, error)
	// Open begins the stream on a connection.
	Open func(ctx context.Context, conn *grpc.ClientConn) (grpc.BidiStreamingClient[Up, Down], error)
	// Hello is what is said first; what is put into the link comes behind it.
	Hello func(k *Link[Up]) *Up
	// Take takes what the scheduler says. ctx ends with the connection, and so does that
	// with an error.
	Take func(ctx context.Context, conn *grpc.ClientConn, m *Down) error
	// Ended is called when a link that has said hello has ended.
	Ended func(k *Link[Up])
	// Logger gets how connections end.
	Logger *slog.Logger
}

// Run keeps a stream until ctx ends.
func (l *Line[Up, Down]) Run(ctx context.Context) {
	pause := backoff.Backoff{First: firstPause, Most: lastPause, Jitter: true}
	for ctx.Err() == nil {
		welcome, err := l.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		l.Logger.Debug("stream ended", "error", err)
		if welcome {
			pause.Reset()
		}
		_ = pause.Wait(ctx) // the loop asks ctx
	}
}

// serve is one connection from its beginning to its end. welcome says that the scheduler
// has taken it up.
func (l *Line[Up, Down]) serve(parent context.Context) (welcome bool, err error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	conn, err := l.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	s, err := l.Open(ctx, conn)
	if err != nil {
		return false, err
	}
	k := &Link[Up]{Out: mailbox.Bounded[*Up](cancel), Cut: cancel}
	hello := l.Hello(k)
	if l.Ended != nil {
		defer l.Ended(k)
	}
	var pumped sync.WaitGroup
	defer pumped.Wait()
	defer cancel()
	if err := s.Send(hello); err != nil {
		return false, err
	}
	pumped.Go(func() {
		if k.Out.Pump(ctx, nil, s.Send) != nil {
			cancel()
		}
	})
	for {
		m, err := s.Recv()
		if err = errors.Join(err, ctx.Err()); err != nil {
			return welcome, err
		}
		if err := l.Take(ctx, conn, m); err != nil {
			return welcome, err
		}
		welcome = true
	}
}
