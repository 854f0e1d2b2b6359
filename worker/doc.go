// Package worker implements a worker: it keeps a session with a scheduler, runs a function
// for each instance that it is granted, and stops exclusive instances by itself when it can
// no longer trust its lease.
//
//	w, err := worker.New(worker.Config{Name: "w1", Schedulers: []string{"127.0.0.1:50000"}})
//	w.HandleTask("feed", func(ctx context.Context, a worker.Assigned) error { ... })
//	err = w.Run(ctx) // leaves in order when ctx ends
//
// ownership.Holder decides what it may run and for how long. This package surrounds the
// Holder: one goroutine owns it, another owns the connection, and one runs each function.
// It never talks to the store, and never decides what to run.
package worker
