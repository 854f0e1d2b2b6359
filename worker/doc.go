// Package worker is the side that does the work: it keeps a session with some
// scheduler, runs a function for each instance that it is granted, and stops by
// itself when it can no longer trust its lease.
//
//	w, err := worker.New(worker.Config{Name: "w1", Schedulers: []string{"127.0.0.1:50000"}})
//	w.HandleTask("feed", func(ctx context.Context, a worker.Assigned) error { ... })
//	err = w.Run(ctx) // leaves in order when ctx ends
//
// What it may run and for how long is decided by ownership.Holder; this package
// is the shell around it: one goroutine owns the Holder, another the
// connection, one more runs each function. It never talks to the store, and it
// never decides what to run.
package worker
