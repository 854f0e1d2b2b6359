package program

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Lengths of the channels that functions of the channel form are given: enough
// that both sides run on for a while before one has to wake the other.
const (
	taskChannel  = 256
	schedChannel = 1024
)

// batchReceiver is the reading side of a Conn, in batches.
type batchReceiver interface {
	recv(ctx context.Context, into []Msg) (int, error)
}

// pumpIn moves messages into a channel until there are no more or ctx ends.
func pumpIn(ctx context.Context, c batchReceiver, in chan<- Msg) {
	var batch [64]Msg
	for {
		n, err := c.recv(ctx, batch[:])
		if err != nil {
			return
		}
		for i := range n {
			select { // a select of one case is much cheaper
			case in <- batch[i]:
				continue
			default:
			}
			select {
			case in <- batch[i]:
			case <-ctx.Done():
				return
			}
		}
	}
}

// pumpOut hands what comes out of a channel to send, until the channel is
// closed, or stop is and the channel is empty.
func pumpOut(out <-chan Msg, stop <-chan struct{}, send func(*Msg)) {
	m := new(Msg) // one for all
	for ok := true; ok; {
		select { // a select of one case is much cheaper
		case *m, ok = <-out:
			if ok {
				send(m)
			}
			continue
		default:
		}
		select {
		case *m, ok = <-out:
		case <-stop:
			select {
			case *m, ok = <-out:
			default:
				return
			}
		}
		if ok {
			send(m)
		}
	}
}

// When a function's in is closed.
type closing bool

const (
	atEnd       closing = false // when no more will come: it is time to exit
	afterReturn closing = true  // not while the function runs
)

// pumps runs f between the two pumps of a Conn. What f has sent when it returns
// or panics is still handed on.
func pumps(ctx context.Context, c batchReceiver, length int, when closing, send func(context.Context, *Msg), f func(in <-chan Msg, out chan<- Msg) error) error {
	in, out := make(chan Msg, length), make(chan Msg, length)
	stop := make(chan struct{})
	inCtx, cancel := context.WithCancel(ctx)
	var wg, reading sync.WaitGroup
	reading.Go(func() {
		pumpIn(inCtx, c, in)
		if when == atEnd {
			close(in)
		}
	})
	wg.Go(func() { pumpOut(out, stop, func(m *Msg) { send(ctx, m) }) })
	defer func() {
		cancel()
		close(stop)
		wg.Wait()
		reading.Wait()
		if when == afterReturn {
			close(in)
		}
	}()
	return f(in, out)
}

func taskChannels(f TaskFunc) ConnFunc {
	return func(ctx context.Context, c Conn) error {
		t, ok := c.(*taskConn)
		if !ok {
			return errors.New("a task function cannot be the scheduler function")
		}
		send := func(ctx context.Context, m *Msg) {
			if err := put(ctx, t.out, m, t.traces); errors.Is(err, ErrTooLarge) {
				t.bounce(err)
			}
		}
		return pumps(ctx, t, taskChannel, atEnd, send, func(in <-chan Msg, out chan<- Msg) (err error) {
			// How it ended is told before what it sent is handed on: that may take long.
			defer func() {
				if v := recover(); v != nil {
					t.end(panicked(v))
				}
			}()
			err = f(in, out, append([]string{t.name}, t.args...), t.env)
			t.end(returned(err))
			return err
		})
	}
}

func schedChannels(f SchedFunc) ConnFunc {
	return func(ctx context.Context, c Conn) error {
		s, ok := c.(*schedConn)
		if !ok {
			return errors.New("a scheduler function cannot be a task")
		}
		send := func(ctx context.Context, m *Msg) {
			if err := s.sendOrRefuse(ctx, m); err != nil && ctx.Err() == nil {
				s.run.note(Event{Kind: Error, Task: m.Task, Text: fmt.Sprintf("message not sent: %v", err)})
			}
		}
		return pumps(ctx, s, schedChannel, afterReturn, send, func(in <-chan Msg, out chan<- Msg) error {
			f(in, out, s.Events())
			return nil
		})
	}
}

// sendOrRefuse is Send for the one channel to all tasks: it waits for a task
// that reads, however slowly, and not for one that has read nothing for the
// stall time.
func (s *schedConn) sendOrRefuse(ctx context.Context, m *Msg) error {
	p, err := s.peer(m.Task)
	if err != nil {
		return err
	}
	if p.out.Room() || m.kind() == kindResponse || m.kind() == kindFailure {
		p.stalled.Store(false)
		return s.put(ctx, p, m)
	}
	for {
		if p.stalled.Load() {
			return ErrRefused
		}
		before := p.out.Progress()
		wait, cancel := context.WithTimeout(ctx, s.run.p.cfg.Stall)
		err := s.put(wait, p, m)
		cancel()
		switch {
		case !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
			return err
		case p.out.Progress() == before:
			p.stalled.Store(true)
			s.run.note(Event{
				Kind: Stalled, Task: m.Task, Generation: p.generation,
				Text: fmt.Sprintf("it has read nothing for %s; messages to it are refused until it does", s.run.p.cfg.Stall.Round(time.Millisecond)),
			})
		}
	}
}
