package ownership_test

import (
	"fmt"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/ownership"
)

// A task moves from w1 to w2: its grant is revoked first, and w2 gets a new one, with a
// greater generation, only when w1 has said that the task has stopped.
func Example() {
	task := rota.Instance{Task: "feed-eu"}
	var l ownership.Ledger
	l.Session("w1", 1)
	l.Session("w2", 2)
	generation := rota.Generation(10)
	write := func() { // what is next, and that the store has confirmed it
		generation++
		e := l.Ready(generation)
		for _, h := range e.Revoke {
			fmt.Println("revoke", h.Instance.Task, "of", h.Worker)
			h.Revoked = true
			l.Record(h.Worker, h.Grant, false)
		}
		for _, h := range e.Release {
			fmt.Println("release", h.Instance.Task, "of", h.Worker)
			l.Record(h.Worker, h.Grant, true)
		}
		for _, h := range e.Grant {
			fmt.Println("grant", h.Instance.Task, "to", h.Worker, "with generation", h.Generation)
			l.Record(h.Worker, h.Grant, false)
		}
		if e.Empty() {
			fmt.Println("nothing")
		}
	}
	l.Target(task, ownership.Target{Worker: "w1"})
	write()
	l.Ack("w1", task, 11, ownership.Running)
	l.Target(task, ownership.Target{Worker: "w2"})
	write()
	write()
	l.Ack("w1", task, 11, ownership.Stopped)
	write()
	// Output:
	// grant feed-eu to w1 with generation 11
	// revoke feed-eu of w1
	// nothing
	// release feed-eu of w1
	// grant feed-eu to w2 with generation 14
}
