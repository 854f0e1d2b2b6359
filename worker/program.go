package worker

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/tracing"
	"github.com/rota-project/rota/program"
)

// RegisterTaskFunc offers a task function to programs, see package program. Call
// it before Run. Its tasks are exclusive: when this worker's grant or lease
// ends, in is closed, and a function that goes on regardless past the end of the
// lease takes the process with it.
func (w *Worker) RegisterTaskFunc(name string, f program.TaskFunc) error {
	return w.offer(name, func(fs *program.Functions) error { return fs.RegisterTaskFunc(name, f) })
}

// RegisterTask offers a task value to programs.
func (w *Worker) RegisterTask(name string, t program.Task) error {
	return w.offer(name, func(fs *program.Functions) error { return fs.RegisterTask(name, t) })
}

// RegisterTaskConn offers a task function of the form with contexts to programs.
func (w *Worker) RegisterTaskConn(name string, f program.ConnFunc) error {
	return w.offer(name, func(fs *program.Functions) error { return fs.RegisterTaskConn(name, f) })
}

func (w *Worker) offer(name string, register func(*program.Functions) error) error {
	w.mu.Lock()
	if w.programs == nil {
		w.programs = program.NewHost(w.dialTLS, func() []string { return slices.Concat(w.cfg.Schedulers, w.known.get()) })
	}
	h := w.programs
	w.mu.Unlock()
	if err := register(&h.Functions); err != nil {
		return err
	}
	return w.handle(program.TaskKind(name), func(ctx context.Context, a Assigned) error { return h.Run(tracing.Without(ctx), a.Task.Payload) })
}

// RegisterProgram offers to run the scheduler function of a program that is
// submitted, see program.Submit. Call it before Run.
func (w *Worker) RegisterProgram(offered string, b program.Builder) error {
	if b == nil {
		return fmt.Errorf("worker: %w", &rota.FieldError{Field: "program", Value: offered, Want: "a non-nil builder"})
	}
	return w.handle(program.SchedulerKind(offered), func(ctx context.Context, a Assigned) error {
		return program.RunSubmitted(tracing.Without(ctx), program.ClusterConfig{
			Addresses: slices.Concat(w.cfg.Schedulers, w.known.get()), TLS: w.dialTLS(),
		}, b, a.Task.Payload, a.LeaseEnds())
	})
}

// dialTLS is how to secure a connection to a scheduler; nil is not at all.
func (w *Worker) dialTLS() *tls.Config {
	if w.cfg.DialTLS != nil {
		return w.cfg.DialTLS()
	}
	return w.cfg.TLS
}
