// Package top is the console in a terminal, for rota top: the workers as a map, and
// lists of tasks, workers and jobs, live, with keys to drain, to read logs and to ask
// why.
//
// A Model is what is known and shown. It changes by messages (keys, answers, the time)
// and says what to do next as effects; it does nothing itself, so tests need neither a
// terminal nor a cluster. Run joins it to both: one goroutine asks the cluster, one
// effect after another, and the screen is drawn after each message. A page of each list
// is asked for at a time, never a whole list. It must never draw a text of the cluster
// that terminal.Printable has not seen.
package top

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/cmd/rota/internal/terminal"
)

// Words are the tables and texts of the command line, which top shows as they are.
type Words struct {
	Tasks   func([]*rotav1.Task) *terminal.Table // a row an instance, or one without instances
	Workers func([]*rotav1.Worker) *terminal.Table
	Jobs    func([]*rotav1.Job) *terminal.Table
	Events  func([]*rotav1.Event) *terminal.Table
	Why     func(io.Writer, *rotav1.WhyResponse) error
	Job     func(io.Writer, *rotav1.JobDetail) error
	Plan    func(io.Writer, *rotav1.Plan) error
	Error   func(error) string
}

// Config says what to show. All but NoColor is needed.
type Config struct {
	// Connect answers a connection to a scheduler, the last one if it is still good.
	// Disconnect lets go of it. Both are called by one goroutine at a time.
	Connect    func(context.Context) (*grpc.ClientConn, error)
	Disconnect func()
	// Timeout is the most time that a call may take, Every how often is asked.
	Timeout, Every time.Duration
	Words          Words
	View           View
	NoColor        bool
}

// Once asks once and writes the view as text, so many columns wide.
func Once(ctx context.Context, cfg Config, width int, to io.Writer) error {
	m := New(cfg.Words, cfg.View, time.Now())
	m.Update(Size{Width: width})
	a := &asker{cfg: cfg}
	for _, e := range m.Update(Tick(time.Now())) {
		msg := a.do(ctx, e)
		if answer, ok := msg.(Answer); ok && answer.Err != nil {
			return answer.Err
		}
		m.Update(msg)
	}
	for _, l := range m.Lines() {
		if _, err := io.WriteString(to, l.plain()+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// queue is how many effects may wait for the cluster.
const queue = 16

// Run shows the cluster on a screen until somebody ends it or ctx ends, which is no
// error. The screen is closed by whoever has opened it.
func Run(ctx context.Context, cfg Config, s Screen) error {
	ctx, cancel := context.WithCancel(ctx)
	effects, answers, ended := make(chan Effect, queue), make(chan any), make(chan struct{})
	a := &asker{cfg: cfg}
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case e := <-effects:
				select {
				case answers <- a.do(ctx, e):
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	defer func() { cancel(); <-ended }()
	m := New(cfg.Words, cfg.View, time.Now())
	width, height := s.Size()
	m.Update(Size{width, height})
	tick := time.NewTicker(cfg.Every)
	defer tick.Stop()
	var msg any = Tick(time.Now())
	for {
		for _, e := range m.Update(msg) {
			if _, is := e.(Quit); is {
				return nil
			}
			select {
			case effects <- e:
			default:
				m.Update(Refused{Effect: e}) // so many wait: the cluster does not answer
			}
		}
		s.Draw(m.Lines(), cfg.NoColor)
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			msg = Tick(now)
		case msg = <-answers:
		case e, ok := <-s.Events():
			if !ok {
				return errors.New("the terminal is gone")
			}
			if msg = s.Message(e); msg == nil {
				continue
			}
		}
	}
}
