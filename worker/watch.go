package worker

import (
	"context"
	"errors"
	"sync"
)

// Event is an instance given to, or taken from, this worker.
type Event struct {
	Assigned
	// Given says that the instance is to be run; else it is to be stopped.
	Given bool
	done  func()
}

// Done says that a taken instance has stopped. Until then nobody else is given
// it. It may be called again, and on a given one, without effect.
func (e Event) Done() {
	if e.done != nil {
		e.done()
	}
}

// Watch is for programs that would rather be told what to run than register
// functions: it offers every kind but those of programs, and sends an Event whenever an instance is
// given or taken. It is called once, before Run, instead of HandleTask. The
// receiver must keep receiving and call Done of every event with Given false. The
// channel is closed when the worker has ended.
func (w *Worker) Watch() (<-chan Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ran || w.fallback != nil || len(w.handlers) > 0 {
		return nil, errors.New("worker: Watch is called once, before Run, and instead of HandleTask")
	}
	events := make(chan Event)
	w.events = events
	w.fallback = func(ctx context.Context, a Assigned) error {
		select {
		case events <- Event{Assigned: a, Given: true}:
		case <-ctx.Done():
			return nil // taken before the receiver heard of it
		}
		<-ctx.Done()
		stopped := make(chan struct{})
		events <- Event{Assigned: a, done: sync.OnceFunc(func() { close(stopped) })}
		<-stopped
		return nil
	}
	return events, nil
}
