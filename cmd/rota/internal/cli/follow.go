package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rota-project/rota/cmd/rota/internal/terminal"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/backoff"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What follows something outlives the scheduler that it asks: a rolling restart
// ends each of them once.
const (
	// firstRetry and lastRetry are the pauses between two rounds over all servers,
	// doubling from the first to the last.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
	// sayEvery is how often a wait is told of while nothing changes.
	sayEvery = 30 * time.Second
)

// interrupted is the status of a wait that the user has ended, as a shell has it
// for SIGINT: nothing is known of how it would have ended.
const interrupted = 128 + 2

// errEnded is the end of what goes on until the user ends it: the server has
// stopped in order.
var errEnded = status.Error(codes.Unavailable, "the scheduler has ended")

// passing reports whether an error may be over when another scheduler is asked, or
// the same one later. What is not allowed, or not there, does not pass.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.Aborted, codes.DeadlineExceeded:
		return true
	}
	return false
}

// follow calls f with a connection until it is done, or fails for good. When the
// scheduler has gone it says so, and calls f again with a connection to the next
// one that answers: f then goes on where it was. Nobody to ask at the beginning is
// an error; later it is waited for.
func (a *app) follow(ctx context.Context, f func(context.Context, *grpc.ClientConn) error) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	w := away{app: a}
	for first := true; ; first = false {
		began := time.Now()
		err := f(ctx, conn)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !passing(err), first && convert.IsStoreAway(err):
			return err
		case convert.IsStoreAway(err):
			w.tellStore(err)
		}
		if time.Since(began) > lastRetry {
			w.rounds.Reset() // it had gone well
		}
		if conn, err = w.reconnect(ctx); err != nil {
			return err
		}
	}
}

// away is a wait for a scheduler to ask.
type away struct {
	app    *app
	rounds backoff.Backoff // over all servers
	said   time.Time       // when the wait was last told of
	went   time.Time       // when it was last told that it goes on
}

// reconnect lets go of the connection and waits for another. One to the server
// that has gone is tried last.
func (w *away) reconnect(ctx context.Context) (*grpc.ClientConn, error) {
	a := w.app
	gone, began := a.server, time.Now()
	a.disconnect()
	for {
		if err := w.rest(ctx); err != nil {
			return nil, err
		}
		conn, err := a.connect(ctx)
		switch {
		case err == nil:
			if w.said.After(began) || gone != a.server || time.Since(w.went) > sayEvery { // not of one that comes and goes
				w.went = time.Now()
				a.say("lost the scheduler at %s; continuing with the one at %s", gone, a.server)
			}
			return conn, nil
		case ctx.Err() != nil:
			return nil, &exitError{interrupted}
		case errors.As(err, new(*usageError)), errors.As(err, new(*refusedError)):
			return nil, err
		case time.Since(w.said) > sayEvery:
			w.said = time.Now()
			a.say("%v; waiting for one (Ctrl-C ends the wait)", err)
		}
	}
}

// tellStore tells, now and then, that a scheduler is there whose store is not.
func (w *away) tellStore(err error) {
	w.went = time.Now() // the scheduler has not gone
	if time.Since(w.said) > sayEvery {
		w.said = w.went
		w.app.say("%s; waiting for it (Ctrl-C ends the wait)", oneLine(err))
	}
}

// rest is the pause before a round.
func (w *away) rest(ctx context.Context) error {
	if w.rounds.Wait(ctx) != nil {
		return &exitError{interrupted}
	}
	return nil
}

// say tells the user something beside what was asked for.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintln(a.env.Stderr, "rota: "+terminal.Printable(fmt.Sprintf(format, args...)))
}

// received is what a stream without an end answers: its end is that of its server.
func received[M any](m M, err error) (M, error) {
	if errors.Is(err, io.EOF) {
		err = errEnded
	}
	return m, err
}
