package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rota-project/rota/internal/program/flow"
	"github.com/rota-project/rota/internal/program/link"
	"github.com/rota-project/rota/program/internal/lifecycle"
)

// host is a place while a program runs there.
type host interface {
	// wire makes the scheduler function's way to a task, before it is launched.
	// What the task sends comes into the run's inbox with the peer as its key.
	wire(p *peer) (link.Outlet, error)
	// place finds room for all of the tasks or for none. While it waits it says
	// what is missing. It returns the worker of each.
	place(ctx context.Context, peers []*peer, missing func(string)) (workers []string, err error)
	// start runs a task that has a place.
	start(p *peer) error
	// ended lets go of what a task had; it may be called for one that never ran.
	ended(p *peer)
	// event is told everything that the scheduler function is told.
	event(e Event)
	// close ends everything that still runs there. Err is what the run came to.
	close(err error)
}

// run is one run of a program: it carries out what the lifecycle decides.
type run struct {
	p      *Program
	host   host
	sched  *schedConn
	events *eventQueue
	window int
	slots  []*slot         // of all tasks, in order
	ctx    context.Context // of the tasks' placing; ends with the program
	cancel context.CancelFunc

	mu      sync.Mutex
	m       *lifecycle.Machine
	effects []lifecycle.Effect
	wake    chan struct{}
	ending  bool // nothing will come from tasks any more, but what is under way
	timers  map[*time.Timer]struct{}
}

// Windows: what one end keeps unread of another. All tasks of a program share a
// budget that stays in a processor's cache, within bounds that keep one task
// fast and a thousand small.
const (
	windowBudget = 1 << 20
	windowMost   = 512 << 10
)

func newRun(p *Program) *run {
	r := &run{p: p, events: newEventQueue(), wake: make(chan struct{}, 1), timers: map[*time.Timer]struct{}{}}
	s := &schedConn{run: r, slots: map[string]*slot{}, byName: map[string][]*slot{}}
	s.inbox = link.NewInbox()
	s.accept = s.take
	var names []string
	for i := range p.specs {
		spec := &p.specs[i]
		for k := range spec.Count {
			name := fmt.Sprintf("%s-%d", spec.Name, k)
			sl := &slot{name: name, spec: spec}
			names = append(names, name)
			r.slots = append(r.slots, sl)
			s.slots[name] = sl
			s.byName[spec.Name] = append(s.byName[spec.Name], sl)
			s.byName[""] = append(s.byName[""], sl)
		}
	}
	r.sched = s
	r.window = min(max(windowBudget/max(1, len(names)), flow.MinWindow), windowMost)
	r.m = lifecycle.New(p.cfg.Policy, names)
	return r
}

// do tells the lifecycle what happened and has its decisions carried out.
func (r *run) do(f func(m *lifecycle.Machine)) {
	r.mu.Lock()
	f(r.m)
	r.effects = append(r.effects, r.m.Effects()...)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *run) note(e Event) { r.do(func(m *lifecycle.Machine) { m.Note(e) }) }

func (r *run) kill(task string) (err error) {
	r.do(func(m *lifecycle.Machine) { err = m.Kill(task) })
	if err != nil {
		return fmt.Errorf("%w: %q", ErrUnknownTask, task)
	}
	return nil
}

// main is the whole life of a run.
func (r *run) main(ctx context.Context, where Place) (err error) {
	schedCtx, cancelSched := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancelSched(context.Canceled)
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer r.cancel()
	h, err := where.open(r.ctx, r)
	if err != nil {
		return err
	}
	r.host = h
	defer func() { r.host.close(err) }()
	defer r.stopTimers()
	var wg sync.WaitGroup
	eventsCtx, stopEvents := context.WithCancel(context.Background())
	wg.Go(func() { r.events.run(eventsCtx) })
	defer wg.Wait()
	defer stopEvents()
	defer context.AfterFunc(ctx, func() {
		r.do(func(m *lifecycle.Machine) { m.Stop(context.Cause(ctx).Error(), context.Cause(ctx)) })
		cancelSched(context.Cause(ctx)) // only now: that the function returns because of it is not its own end
	})()
	watchDone := make(chan struct{})
	wg.Go(func() { r.watch(watchDone) })
	defer close(watchDone)

	r.do(func(m *lifecycle.Machine) { m.Begin() })
	begun := false
	for {
		r.mu.Lock()
		effects := r.effects
		r.effects = nil
		r.mu.Unlock()
		for _, e := range effects {
			if e.Done {
				cancelSched(context.Canceled)
				return e.Err
			}
			r.carryOut(e, cancelSched)
		}
		if !begun { // its tasks can be written to from its first moment
			begun = true
			wg.Go(func() { r.runSched(schedCtx) })
			defer r.sched.inbox.Close()
			defer cancelSched(context.Canceled)
		}
		if len(effects) == 0 {
			<-r.wake
		}
	}
}

// runSched runs the scheduler function, and then reads what still comes, so
// that no task is held up on its way out.
func (r *run) runSched(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		s := invoke(func() error {
			err = r.p.sched(ctx, r.sched)
			return nil
		})
		r.do(func(m *lifecycle.Machine) {
			if s.State != lifecycle.Finished {
				m.Return(&SchedError{Text: s.Text, Stack: s.Stack})
			} else {
				m.Return(err)
			}
		})
	}()
	select {
	case <-done:
	case <-r.sched.inbox.Done():
		return // the function did not return in time; it is given up
	}
	var batch [64]Msg
	for {
		if _, err := r.sched.recv(context.Background(), batch[:]); err != nil {
			return
		}
	}
}

func (r *run) carryOut(e lifecycle.Effect, cancelSched context.CancelCauseFunc) {
	switch {
	case e.Tell != nil:
		r.tell(*e.Tell)
	case e.Place != nil:
		r.place(e.Place)
	case e.Stop != nil:
		r.stop(*e.Stop)
	case e.EndScheduler:
		r.cancel()
		r.events.close()
		r.mu.Lock()
		r.ending = true
		r.mu.Unlock()
		r.drainedOne()
		r.after(r.p.cfg.Grace, func() { // what is not read by now is not wanted
			r.sched.inbox.Close()
			cancelSched(errToldToExit)
			r.after(r.p.cfg.Grace, func() {
				r.do(func(m *lifecycle.Machine) {
					m.Return(&SchedError{Text: fmt.Sprintf("did not return within %s of the program's end", 2*r.p.cfg.Grace)})
				})
			})
		})
	}
}

func (r *run) tell(e Event) {
	if sl := r.sched.slots[e.Task]; e.Final() && sl != nil {
		if p := sl.cur.Load(); p != nil && p.generation == e.Generation {
			p.ended.Store(true)
			p.lost.Store(e.Kind == TaskLost)
			r.sched.gone(p)
			if e.Kind == TaskLost || e.Worker == "" { // it will not say that it is through
				r.drained(p)
			}
		}
	}
	r.host.event(e)
	if !r.events.push(e) {
		r.do(func(m *lifecycle.Machine) {
			m.Stop("events are not read", &SchedError{Text: fmt.Sprintf("has left %d events unread", maxEvents)})
		})
	}
}

// place makes new generations of tasks: at once reachable, and launched when
// there is room, after a pause if they failed before.
func (r *run) place(starts []lifecycle.Start) {
	var peers []*peer
	failures := 0
	for _, s := range starts {
		sl := r.slots[s.Task]
		p := &peer{name: sl.name, slot: sl, task: s.Task, spec: sl.spec, generation: s.Generation}
		out, err := r.host.wire(p)
		if err != nil {
			r.do(func(m *lifecycle.Machine) { m.Stop("no way to "+p.name, fmt.Errorf("reaching %s: %w", p.name, err)) })
			return
		}
		p.out = out
		old := sl.cur.Swap(p)
		if old != nil {
			r.drained(old) // what it sent and nobody read is dropped
		}
		if old != nil && old.lost.Load() {
			old.out.Close()
		}
		peers = append(peers, p)
		failures = max(failures, s.Failures)
	}
	go func() {
		if !r.pause(failures) {
			return
		}
		workers, err := r.host.place(r.ctx, peers, func(missing string) {
			r.do(func(m *lifecycle.Machine) { m.Waits(missing) })
		})
		if err != nil {
			if r.ctx.Err() == nil {
				r.do(func(m *lifecycle.Machine) { m.Stop("launching failed", fmt.Errorf("launching tasks: %w", err)) })
			}
			return
		}
		for i, p := range peers {
			r.launched(p, workers[i])
		}
	}()
}

func (r *run) launched(p *peer, worker string) {
	wanted := true
	r.do(func(m *lifecycle.Machine) { wanted = m.Launched(p.task, p.generation, worker) })
	if !wanted {
		r.host.ended(p)
		return
	}
	if err := r.host.start(p); err != nil {
		r.do(func(m *lifecycle.Machine) {
			m.Ended(p.task, p.generation, lifecycle.Ending{State: lifecycle.Failed, Text: "starting it: " + err.Error()})
		})
		return
	}
	r.after(steadyAfter, func() {
		r.do(func(m *lifecycle.Machine) { m.Steady(p.task, p.generation) })
	})
}

// Pauses before a task that failed is started again: they double, and a task
// that ran for steadyAfter begins anew.
const (
	firstPause  = 100 * time.Millisecond
	mostPause   = 30 * time.Second
	steadyAfter = time.Minute
)

func (r *run) pause(failures int) bool {
	if failures == 0 {
		return true
	}
	d := mostPause
	if failures < 10 {
		d = min(firstPause<<(failures-1), mostPause)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// stop tells a task to exit: after what it was sent, or at once.
func (r *run) stop(s lifecycle.Stop) {
	p := r.slots[s.Task].cur.Load()
	if p == nil || p.generation != s.Generation {
		return
	}
	if s.Hard {
		go func() { _ = p.out.Reply(context.Background(), kindHard, nil) }() // fails only if it is gone
		r.after(r.p.cfg.Grace, func() {
			r.do(func(m *lifecycle.Machine) {
				m.Ended(p.task, p.generation, lifecycle.Ending{
					State: lifecycle.Killed,
					Text:  fmt.Sprintf("it did not exit within %s and was given up", 2*r.p.cfg.Grace),
				})
			})
		})
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.p.cfg.Grace)
	go func() {
		defer cancel()
		_ = p.out.Send(ctx, kindStop, nil) // if it does not get through it is told at once, below
	}()
	r.after(r.p.cfg.Grace, func() {
		r.do(func(m *lifecycle.Machine) { m.Overdue(p.task, p.generation) })
	})
}

// status takes a task's own word. It must not wait.
func (r *run) status(p *peer, data []byte) {
	var s status
	if err := json.Unmarshal(data, &s); err != nil {
		r.note(Event{Kind: Error, Task: p.name, Generation: p.generation, Text: fmt.Sprintf("a status that cannot be read: %v", err)})
		return
	}
	if s.Note != "" {
		r.note(Event{Kind: Error, Task: p.name, Generation: p.generation, Text: s.Note})
	}
	if e, ok := statusOf(s); ok {
		r.do(func(m *lifecycle.Machine) {
			if e.State == lifecycle.Lost {
				m.Withdrawn(p.task, p.generation)
			}
			m.Ended(p.task, p.generation, e)
		})
	} else if s.State == lifecycle.Started {
		r.do(func(m *lifecycle.Machine) { m.Started(p.task, p.generation) })
	}
}

// drained notes that nothing more will be read from a task that ended: its place
// is free, which until then held what it had sent.
func (r *run) drained(p *peer) {
	if p.drained.Swap(true) {
		return
	}
	r.host.ended(p)
	r.drainedOne()
}

// drainedOne closes the scheduler function's in when nothing more can come.
func (r *run) drainedOne() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ending {
		return
	}
	for _, sl := range r.slots {
		if p := sl.cur.Load(); p != nil && !p.drained.Load() {
			return
		}
	}
	r.sched.inbox.Close()
}

// after runs f later, unless the run is over by then.
func (r *run) after(d time.Duration, f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timers == nil {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		r.mu.Lock()
		_, live := r.timers[t]
		delete(r.timers, t)
		r.mu.Unlock()
		if live {
			f()
		}
	})
	r.timers[t] = struct{}{}
}

func (r *run) stopTimers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.timers {
		t.Stop()
	}
	r.timers = nil
}

// watch tells when the scheduler function leaves its messages unread.
func (r *run) watch(done <-chan struct{}) {
	t := time.NewTicker(r.p.cfg.Stall)
	defer t.Stop()
	var last uint64
	told := false
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		read := r.sched.took()
		switch {
		case read != last || !r.sched.inbox.Waiting():
			told = false
		case !told:
			told = true
			r.note(Event{Kind: Stalled, Text: fmt.Sprintf("the scheduler function has read nothing for %s; its tasks wait", r.p.cfg.Stall)})
		}
		last = read
	}
}

var errNoFunction = errors.New("no such task function")
