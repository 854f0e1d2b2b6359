package worker

import (
	"context"
	"errors"
	"sync"
)

// Event is an instance given to, or taken from, this worker.
type Event struct {
	Assigned
	// Given is true if the instance must be run, and false if it must be stopped.
	Given bool
	done  func()
}

// Done says that a taken instance has stopped: WatchUntilDone waits for it before
// anybody else is given the instance. It may be called again, on a given one, and
// with Watch, without effect.
func (e Event) Done() {
	if e.done != nil {
		e.done()
	}
}

// Watch reports instances as events, instead of calls of registered functions: it offers
// every kind but those of programs, and sends an Event whenever an instance is given or
// taken. Call it once, before Run, instead of HandleTask. The receiver must keep receiving.
// An instance counts as stopped as soon as its end was received, so its old and its new
// owner may overlap for a moment: use WatchUntilDone if that matters. The channel is closed
// when the worker has ended.
func (w *Worker) Watch() (<-chan Event, error) { return w.watch(false) }

// WatchUntilDone is Watch for exclusive work: call Done on each event with Given false when
// the instance has stopped; until then nobody else gets it. If such an event has no Done
// when the lease ends, the process is ended; see Config.Exit.
func (w *Worker) WatchUntilDone() (<-chan Event, error) { return w.watch(true) }

func (w *Worker) watch(untilDone bool) (<-chan Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ran || w.fallback != nil || len(w.handlers) > 0 {
		return nil, errors.New("worker: Watch is called once, before Run, and instead of HandleTask")
	}
	w.events = &events{to: make(chan Event), ended: w.ended}
	w.fallback = func(ctx context.Context, a Assigned) error {
		if !w.events.send(ctx.Done(), Event{Assigned: a, Given: true}) {
			return nil // taken before the receiver heard of it
		}
		<-ctx.Done()
		taken := Event{Assigned: a}
		stopped := make(chan struct{})
		taken.done = sync.OnceFunc(func() { close(stopped) })
		w.events.send(nil, taken)
		if untilDone {
			<-stopped
		}
		return nil
	}
	return w.events.to, nil
}

// events is a channel of events that is closed when no sender is left.
type events struct {
	to      chan Event
	ended   <-chan struct{} // the worker's
	sending sync.RWMutex
}

// send reports whether an event was received before give up or the worker's end.
func (e *events) send(giveUp <-chan struct{}, event Event) bool {
	e.sending.RLock()
	defer e.sending.RUnlock()
	select {
	case <-e.ended:
		return false // and the channel may be closed
	default:
	}
	select {
	case e.to <- event:
		return true
	case <-giveUp:
	case <-e.ended:
	}
	return false
}

// close is called once, after the worker's end.
func (e *events) close() {
	e.sending.Lock()
	defer e.sending.Unlock()
	close(e.to)
}
