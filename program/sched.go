package program

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// peer is one generation of a task as the scheduler function's side sees it.
type peer struct {
	name       string
	slot       *slot
	task       int // index in the program
	spec       *Spec
	generation uint64
	out        link.Outlet
	next       *string // the trace context of its next message; the endpoint's lock guards it
	stalled    atomic.Bool
	ended      atomic.Bool
	lost       atomic.Bool   // with its worker
	drained    atomic.Bool   // nothing more will be read from it
	local      *taskConn     // where it runs in this process
	payload    []byte        // on a cluster: its order
	require    []string      // on a cluster: what its worker must meet
	grant      atomic.Uint64 // on a cluster: the generation of its grant, once it has a place
}

// schedConn is the scheduler function's end.
type schedConn struct {
	endpoint
	run      *run
	received uint64        // messages; the endpoint's lock guards it
	sent     atomic.Uint64 // messages
	slots    map[string]*slot
	byName   map[string][]*slot // by the name of the function
}

// slot is a task whatever its generation.
type slot struct {
	name string
	spec *Spec
	cur  atomic.Pointer[peer]
}

func (s *schedConn) Name() string           { return "" }
func (s *schedConn) Args() []string         { return nil }
func (s *schedConn) Env() map[string]string { return nil }
func (s *schedConn) Events() <-chan Event   { return s.run.events.out }
func (s *schedConn) Kill(task string) error { return s.run.kill(task) }

// took counts what the function has taken.
func (s *schedConn) took() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// peer finds who answers to a task's name now.
func (s *schedConn) peer(task string) (*peer, error) {
	sl := s.slots[task]
	if sl == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownTask, task)
	}
	p := sl.cur.Load()
	if p == nil || p.ended.Load() {
		return nil, fmt.Errorf("%w: %s", ErrGone, task)
	}
	return p, nil
}

func (s *schedConn) Send(ctx context.Context, m Msg) error {
	p, err := s.peer(m.Task)
	if err != nil {
		return err
	}
	return s.put(ctx, p, &m)
}

// put sends a message to a task, and counts it.
func (s *schedConn) put(ctx context.Context, p *peer, m *Msg) error {
	err := put(ctx, p.out, m, s.run.p.cfg.Traces)
	if err == nil {
		s.sent.Add(1)
	}
	return err
}

// messages counts those from and to the function.
func (s *schedConn) messages() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received + s.sent.Load()
}

func (s *schedConn) Request(ctx context.Context, m Msg) (Msg, error) {
	p, err := s.peer(m.Task)
	if err != nil {
		return Msg{}, err
	}
	return s.ask(ctx, p, func(tag uint64) error {
		m.tag = tag
		if err := s.put(ctx, p, &m); err != nil {
			return err
		}
		if p.ended.Load() { // since it was found, and nobody else says so; it may have answered before
			s.gone(p)
		}
		return nil
	})
}

func (s *schedConn) Broadcast(ctx context.Context, name string, data []byte) error {
	if len(data) > MaxMessage {
		return fmt.Errorf("%w: it has %d", ErrTooLarge, len(data))
	}
	slots := s.byName[name]
	if len(slots) == 0 {
		return fmt.Errorf("%w: no tasks %q", ErrUnknownTask, name)
	}
	// First to all that have room, so that none waits for a slow one.
	var errs []error
	var later []*slot
	for _, sl := range slots {
		p, err := s.peer(sl.name)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !p.out.Room():
			later = append(later, sl)
		default:
			errs = append(errs, s.put(ctx, p, &Msg{Data: data}))
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, sl := range later {
		wg.Go(func() {
			err := s.Send(ctx, Msg{Task: sl.name, Data: data})
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// take makes messages of records; the endpoint's lock is held.
func (s *schedConn) take(r *link.Record) (Msg, bool) {
	p, ok := r.From.(*peer)
	if !ok {
		return Msg{}, false
	}
	m := Msg{Task: p.name, Data: r.Data, tag: r.Tag}
	switch m.kind() {
	case kindMessage, kindRequest:
		s.received++
		m.trace, p.next = p.next, nil
		// Nobody hears from a dead generation once there is a newer one.
		return m, p.slot.cur.Load() == p
	case kindStatus:
		p.next = traceOf(r.Data)
	case kindEnd:
		acknowledge(p.out)
		s.run.drained(p)
	}
	return Msg{}, false
}

// reply takes what comes beside the messages.
func (s *schedConn) reply(from any, tag uint64, data []byte) {
	p, ok := from.(*peer)
	if !ok {
		return
	}
	m := Msg{Task: p.name, Data: data, tag: tag}
	switch m.kind() {
	case kindResponse, kindFailure:
		s.answered(p, m)
	case kindStatus:
		s.run.status(p, data)
	}
}

// eventQueue hands events to the scheduler function without ever holding up
// who reports them. It is bounded by what can happen: see push.
type eventQueue struct {
	out  chan Event
	mu   sync.Mutex
	list []Event
	wake chan struct{}
	over bool
}

// maxEvents is how many events may wait to be read.
const maxEvents = 100_000

func newEventQueue() *eventQueue {
	return &eventQueue{out: make(chan Event, 64), wake: make(chan struct{}, 1)}
}

// push adds an event. A complaint that says the same as one that waits is told
// once. It answers false if nobody reads events.
func (q *eventQueue) push(e Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Kind == Error || e.Kind == Stalled {
		for i := len(q.list) - 1; i >= 0 && i > len(q.list)-64; i-- {
			if q.list[i] == e {
				return true
			}
		}
		if len(q.list) >= maxEvents/2 {
			return true // what must be told has the rest
		}
	}
	if len(q.list) >= maxEvents {
		return false
	}
	q.list = append(q.list, e)
	q.signal()
	return true
}

func (q *eventQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close has the channel closed after what is in the queue.
func (q *eventQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	q.signal()
}

// run moves events until close or ctx. When ctx ends nobody need read any more,
// but whoever still does gets the last ones.
func (q *eventQueue) run(ctx context.Context) {
	defer close(q.out)
	for {
		q.mu.Lock()
		list, over := q.list, q.over
		q.list = nil
		q.mu.Unlock()
		for _, e := range list {
			select {
			case q.out <- e:
				continue
			default:
			}
			select {
			case q.out <- e:
			case <-ctx.Done():
				return
			}
		}
		if len(list) > 0 {
			continue
		}
		if over {
			return
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			q.close() // what came meanwhile, and then no more
		}
	}
}

// statusOf turns a task's own word into an ending; ok is false if it is none.
func statusOf(s status) (e lifecycle.Ending, ok bool) {
	switch s.State {
	case lifecycle.Finished, lifecycle.Failed, lifecycle.Killed, lifecycle.Lost:
		return lifecycle.Ending{State: s.State, Text: s.Text, Stack: s.Stack}, true
	default:
		return e, false
	}
}
