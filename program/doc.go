// Package program runs distributed programs written as Go functions: one
// scheduler function and any number of long-running task functions. Each runs in
// a goroutine of its own, possibly on another machine, and they talk over channels
// as if they were in one process. Authors of programs use it, and workers, which
// register the task functions that they offer.
//
//	program.RegisterTaskFunc("echo", func(in <-chan program.Msg, out chan<- program.Msg, args []string, env map[string]string) error {
//		for m := range in {
//			out <- m
//		}
//		return nil
//	})
//	p := program.New("example")
//	p.SpawnTask("echo", 4, program.Resources{CPUs: 0.1})
//	p.RegisterSchedFunc(func(in <-chan program.Msg, out chan<- program.Msg, events <-chan program.Event) {
//		out <- program.Msg{Task: "echo-2", Data: []byte("hello")}
//		fmt.Println(string((<-in).Data))
//	})
//	err := p.Run(ctx, program.InProcess())
//
// # Guarantees
//
// These hold wherever a program runs. All tasks start, or none does. Messages
// between the scheduler function and one task arrive in order and exactly once
// while both live. Unread messages are bounded; at the bound the sender waits, so a
// task that does not read stalls only itself. Sent data belongs to the reader: do
// not change it.
//
// A task's channel in is closed exactly once, to tell it to exit. Each task has
// exactly one final event: finished, failed (error or panic), killed or lost. A
// failure stops the whole program, unless it has another Policy. When the scheduler
// function returns, every task is told to exit after the messages that it was sent
// before, and Run returns when all have ended. A task that has not been placed by
// then never runs, whatever it was sent. A function must end its own goroutines: if
// it ignores both in and its context for the program's grace, it is given up.
//
// # Builds
//
// On a cluster, other workers may offer functions of the same names. A program uses
// those of its own module, and never two builds of a function at once, unless its
// rules (Config.Require) say otherwise; package internal/program/build has the
// details. While no build can be chosen, the program waits, and says who offers what.
//
// # Channels and Conn
//
// TaskFunc and SchedFunc need only channels. Functions with a Conn have contexts,
// deadlines and errors, request and response, and broadcast; Typed adds types. Both
// can be mixed in one program.
//
// With channels, one channel leads to all tasks, so a task that has read nothing for
// five seconds while its buffers are full must not delay the others: messages to it
// are then refused, with an event, until it reads again. Conn.Send waits instead,
// for that task alone.
//
// The package must never place tasks on a cluster's workers itself (that is for
// package placement), and never let a message wait in unbounded memory.
package program
