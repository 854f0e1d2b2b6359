// Package program runs distributed programs written as Go functions: one
// scheduler function and any number of long-running task functions, each in a
// goroutine of its own somewhere, talking over channels as if they were in one
// process. Authors of programs call it; so do workers, which register the task
// functions that they offer.
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
// # What holds wherever it runs
//
// All tasks start or none does. Messages between the scheduler function and one
// task arrive in order and exactly once while both live. What nobody has read
// yet is bounded, and then holds its sender back, so a task that does not read
// stalls only itself. Data that was sent belongs to the reader: do not change it.
//
// A task's in is closed exactly once, to tell it to exit, and each task gives
// exactly one final event: finished, failed (error or panic), killed or lost.
// A failure stops the whole program unless it has another Policy. When the
// scheduler function returns, every task is told to exit, after what it was sent
// before, and Run returns when they have; one that has no place yet never runs,
// whatever it was sent. What a function does with its
// goroutines is its own affair: one that ignores both in and its context for the
// program's grace is given up.
//
// # Whose functions
//
// On a cluster other workers may offer functions of the same names. A program means
// those of its own module, and never two builds of a function at once, unless its
// rules (Config.Require) say otherwise; package internal/program/build says how it is decided.
// While it cannot be, the program waits, and tells who offers what.
//
// # Two forms
//
// The channel form (TaskFunc, SchedFunc) needs nothing but channels. The form
// with a Conn has contexts, deadlines and errors, request and response, and
// broadcast; Typed puts types on it. Both mix freely in one program.
//
// With one channel to all tasks, a task that has read nothing for five seconds
// while its buffers are full must not hold up the others: messages to it are
// then refused, with an event, until it reads again. Conn.Send waits instead,
// for that task alone.
//
// The package must never place tasks on a cluster's workers itself (that is for
// package placement), and never let a message wait in unbounded memory.
package program
