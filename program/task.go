package program

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// status is what a task says of itself to its program. It is JSON on the wire,
// so that versions may add to it.
type status struct {
	State lifecycle.State `json:"state,omitempty"`
	Text  string          `json:"text,omitempty"`
	Stack string          `json:"stack,omitempty"`
	Note  string          `json:"note,omitempty"` // something went wrong that ends nothing
}

// textMax keeps a status within one message.
const textMax = 64 << 10

func (s status) encode() []byte {
	s.Text, s.Stack, s.Note = text.Clip(s.Text, textMax), text.Clip(s.Stack, textMax), text.Clip(s.Note, textMax)
	b, err := json.Marshal(s)
	if err != nil { // strings only: it cannot fail
		return []byte(`{}`)
	}
	return b
}

// say tells the program how the task is, beside its messages.
func (t *taskConn) say(s status) {
	_ = t.out.Reply(context.WithoutCancel(t.ctx), kindStatus, s.encode()) // fails only if nobody is there
}

// end says how the task ended, unless that was said. A function that returns because
// its grant has ended has neither finished nor failed: the program lost it, and starts
// it elsewhere.
func (t *taskConn) end(s status) {
	if t.said.Swap(true) {
		return
	}
	if t.withdrawn.Load() && s.Stack == "" {
		s = status{State: lifecycle.Lost, Text: "its grant was withdrawn"}
	}
	t.say(s)
}

// serve runs a task function to its end: it says that it runs and how it ended,
// beside its messages, so that it is known whether or not anybody reads those,
// and marks in their order that the last one is out.
func (t *taskConn) serve(f ConnFunc) {
	defer t.kill(context.Canceled)
	t.say(status{State: lifecycle.Started})
	s := invoke(func() error { return f(t.ctx, t) })
	t.inbox.Close()
	t.end(s)
	_ = t.out.Send(t.ctx, kindEnd, nil) // given up when the task is told to exit at once
}

// invoke calls f in a goroutine of its own and says how it ended, whatever it
// does there.
func invoke(f func() error) status {
	s := status{State: lifecycle.Failed, Text: "the function ended its goroutine"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				s = panicked(v)
			}
		}()
		s = returned(f())
	}()
	<-done
	return s
}

func panicked(v any) status {
	return status{State: lifecycle.Failed, Text: fmt.Sprintf("panic: %v", v), Stack: string(debug.Stack())}
}

func returned(err error) status {
	if err != nil {
		return status{State: lifecycle.Failed, Text: err.Error()}
	}
	return status{State: lifecycle.Finished}
}
