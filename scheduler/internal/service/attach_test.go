package service_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/ownership"
	"github.com/rota-project/rota/store"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// program is the stream of a process that runs a scheduler function.
type program struct {
	grpc.ServerStream
	ctx   context.Context
	said  chan *rotav1.FromProgram // closed when it goes
	heard chan *rotav1.ToProgram
	ended chan error
}

func (p *program) Context() context.Context { return p.ctx }

func (p *program) Recv() (*rotav1.FromProgram, error) {
	m, ok := <-p.said
	if !ok {
		return nil, io.EOF
	}
	return m, nil
}

func (p *program) Send(m *rotav1.ToProgram) error {
	p.heard <- proto.CloneOf(m) // gRPC writes it out before it returns
	return nil
}

// attach connects the program p, of run r.
func (b *bench) attach() *program {
	return b.attachAs(auth.From(b.Context()), &rotav1.ProgramHello{Name: "p", Run: "r"})
}

// attachAs connects a program for somebody.
func (b *bench) attachAs(who auth.Identity, hello *rotav1.ProgramHello) *program {
	p := &program{
		ctx:  auth.With(b.Context(), who),
		said: make(chan *rotav1.FromProgram, 10), heard: make(chan *rotav1.ToProgram, 100), ended: make(chan error, 1),
	}
	go func() { p.ended <- b.svc.AttachProgram(p) }()
	p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_Hello{Hello: hello}}
	synctest.Wait()
	return p
}

// change asks for a change of the program's tasks.
func (p *program) change(c *rotav1.ProgramChange) {
	p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_Change{Change: c}}
	synctest.Wait()
}

// leave breaks the stream off; the program may come back.
func (p *program) leave(b *bench) {
	close(p.said)
	if err := <-p.ended; err != nil {
		b.Error(err)
	}
}

// lost are the workers of whose loss it has heard.
func (p *program) lost() (names []string) {
	time.Sleep(time.Second)
	synctest.Wait()
	for {
		select {
		case m := <-p.heard:
			names = append(names, m.GetPlaces().GetLostWorkers()...)
		default:
			return names
		}
	}
}

// TestLostWorkers: a program hears of the loss of each worker that had a task of
// it, also of one that got it before the program came back; and of no other.
func TestLostWorkers(t *testing.T) {
	t.Parallel()
	bubble(t, func(b *bench) {
		p := b.attach()
		set := &rotav1.ProgramChange{Set: defs("p/a", "p/b")}
		for _, d := range set.GetSet() {
			d.Kind = rota.ProgramKind + "f"
		}
		p.change(set)
		for _, w := range []string{"w1", "w2", "other"} {
			b.worker(w, false)
		}
		b.grant("w1", "p/a", 1, false, ownership.Running)
		b.grant("w2", "p/b", 1, false, ownership.Running)
		b.apply("q")
		b.grant("other", "q", 1, false, ownership.Running)
		b.put(store.Op{Key: store.SessionKey("w1"), Delete: true}, store.Op{Key: store.SessionKey("other"), Delete: true})
		if lost := p.lost(); fmt.Sprint(lost) != "[w1]" {
			b.Errorf("it hears that %v are lost", lost)
		}
		p.leave(b)

		p = b.attach()
		b.put(store.Op{Key: store.SessionKey("w2"), Delete: true})
		if lost := p.lost(); fmt.Sprint(lost) != "[w2]" {
			b.Errorf("when it is back it hears that %v are lost", lost)
		}
		p.said <- &rotav1.FromProgram{Body: &rotav1.FromProgram_End{End: &rotav1.ProgramEnd{}}}
		if err := <-p.ended; err != nil {
			b.Error(err)
		}
		if _, err := b.svc.GetTask(b.Context(), &rotav1.GetTaskRequest{Id: "p/a"}); err == nil {
			b.Error("its tasks outlive it")
		}
	})
}
