package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/worker"
)

var errCut = errors.New("connection reset")

type simKey struct {
	id         string
	generation rota.Generation
}

// simAttempt is what a simulated worker has of an attempt.
type simAttempt struct {
	key   simKey
	rerun bool
	state string        // starting, running, or how it ended
	skew  time.Duration // of the process's clock
	began time.Time     // by the true one
	ended time.Time
	told  bool // a scheduler has its end in the store
	done  chan struct{}
}

// simHost is one start of a worker's process: the worker itself, and a stand-in
// for package internal/worker/agent that keeps to the same rules and runs nothing.
type simHost struct {
	sim    *sim
	slot   int
	name   string
	skew   time.Duration // of its clock
	id     string        // name and incarnation
	worker *worker.Worker
	dead   context.Context // ended when the process is
	die    context.CancelFunc
	once   sync.Once
	cpus   float64 // that are taken; the sim's mutex guards it

	mu       sync.Mutex
	attempts map[simKey]*simAttempt
	session  context.CancelFunc // cuts the session's connection
	work     context.CancelFunc // cuts that of the jobs
	pipe     *simPipe
	node     [2]*simNode // where they go
}

func (s *sim) startHost(slot int) {
	s.mu.Lock()
	s.starts++
	incarnation := fmt.Sprintf("i%d", s.starts)
	s.mu.Unlock()
	h := &simHost{sim: s, slot: slot, name: fmt.Sprintf("w%d", slot), skew: s.upTo(48*time.Hour) - 24*time.Hour, attempts: map[simKey]*simAttempt{}}
	h.id = h.name + "/" + incarnation
	h.dead, h.die = context.WithCancel(context.Background())
	var err error
	h.worker, err = worker.New(worker.Config{
		Name: h.name, Incarnation: incarnation, NameWait: time.Hour, LeaseEnded: h.fence, Logger: s.log.With("incarnation", incarnation),
		Exit: func(int) { runtime.Goexit() }, Capacity: map[string]float64{"cpus": simCPUs},
		Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			n, ctx, err := h.connect(ctx, 0, h.name)
			if err != nil {
				return nil, err
			}
			return n.sched.Sessions().Dial(ctx), nil
		},
	})
	if err == nil {
		err = h.worker.HandleTask("sim", h.task)
	}
	if err != nil {
		panic(err) // a mistake in here
	}
	s.note("%s starts", h.id)
	s.mu.Lock()
	s.hosts[slot] = h
	s.mu.Unlock()
	s.wg.Go(func() { _ = h.worker.Run(context.Background()) })
	s.wg.Go(h.serve)
}

// task takes cpus until it is stopped, and a little longer.
func (h *simHost) task(ctx context.Context, a worker.Assigned) error {
	cpus := taskCPUs(a.Task.ID)
	h.sim.count(func(c *simCounts) { c.Tasks++ })
	h.sim.occupy(h, a.Task.ID, cpus)
	<-ctx.Done()
	time.Sleep(h.sim.upTo(h.sim.lease / 40))
	h.sim.occupy(h, a.Task.ID, -cpus)
	return nil
}

// connect finds a scheduler for one of the two connections of a process, and a
// context that ends with it.
func (h *simHost) connect(ctx context.Context, which int, held string) (*simNode, context.Context, error) {
	time.Sleep(h.sim.upTo(3 * time.Millisecond))
	h.sim.mu.Lock()
	wait := time.Until(h.sim.held[held])
	h.sim.mu.Unlock()
	n := h.sim.node()
	if h.dead.Err() != nil || wait > 0 || n == nil {
		return nil, nil, errCut
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(h.dead, cancel)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.node[which] = n
	if which == 0 {
		h.session = cancel
	} else {
		h.work = cancel
	}
	return n, ctx, nil
}

// cut ends the connections of the session and of the jobs.
func (h *simHost) cut(session, work bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if session && h.session != nil {
		h.session()
	}
	if work && h.work != nil {
		h.work()
	}
}

func (h *simHost) cutFrom(n *simNode) {
	h.mu.Lock()
	at := h.node
	h.mu.Unlock()
	h.cut(at[0] == n, at[1] == n)
}

// kill ends the process at once, and with it all that it runs.
func (h *simHost) kill() {
	h.once.Do(func() {
		h.sim.note("%s is killed", h.id)
		h.sim.mu.Lock()
		h.sim.hosts[h.slot] = nil
		h.sim.mu.Unlock()
		h.mu.Lock()
		h.die()
		for _, a := range h.attempts {
			h.end(a, "")
		}
		h.mu.Unlock()
		h.sim.wg.Go(func() { _ = h.worker.Stop(context.Background()) }) // what is left of it ends unheard
	})
}

// fence is what package internal/worker/agent does when the lease is over.
func (h *simHost) fence() {
	h.sim.note("%s is fenced", h.id)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pipe != nil {
		h.pipe.cancel()
	}
	for _, a := range h.attempts {
		if a.rerun && (a.state == "starting" || a.state == string(job.Running)) {
			h.sim.count(func(c *simCounts) { c.Fenced++ })
			h.end(a, job.ReportFenced)
		}
	}
}

// serve keeps a job stream.
func (h *simHost) serve() {
	for h.dead.Err() == nil {
		if n, ctx, err := h.connect(h.dead, 1, "jobs "+h.name); err == nil {
			h.converse(ctx, n)
		}
		select {
		case <-time.After(20*time.Millisecond + h.sim.upTo(200*time.Millisecond)):
		case <-h.dead.Done():
		}
	}
}

// converse is one connection from its beginning to its end.
func (h *simHost) converse(ctx context.Context, n *simNode) {
	p := h.sim.newPipe(ctx)
	defer p.cancel()
	h.sim.wg.Go(func() {
		err := n.control.Connect(p)
		h.sim.note("job stream of %s at %s ended: %v", h.id, n.name, err)
		p.cancel()
	})
	hello := &rotav1.JobHello{Name: h.name, Incarnation: h.worker.Incarnation(), Session: h.worker.Session(), Any: true, Slots: 4}
	h.mu.Lock()
	for _, a := range h.attempts {
		if !a.told {
			hello.Held = append(hello.Held, a.report())
		}
	}
	h.pipe = p
	p.say(&rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Hello{Hello: hello}})
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.pipe = nil
		h.mu.Unlock()
	}()
	for {
		select {
		case m := <-p.down:
			if p.ctx.Err() == nil {
				h.order(m)
			}
		case <-p.ctx.Done():
			return
		}
	}
}

func (h *simHost) order(m *rotav1.ToJobWorker) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch b := m.GetBody().(type) {
	case *rotav1.ToJobWorker_Start:
		h.start(simKey{b.Start.GetId(), rota.Generation(b.Start.GetGeneration())}, b.Start.GetSession(), b.Start.GetSpec().GetRerun())
	case *rotav1.ToJobWorker_Stop:
		if a := h.attempts[simKey{b.Stop.GetId(), rota.Generation(b.Stop.GetGeneration())}]; a != nil {
			grace := time.Duration(0)
			if !b.Stop.GetKill() {
				grace = h.sim.upTo(time.Second)
			}
			h.sim.wg.Go(func() {
				select {
				case <-time.After(grace):
				case <-a.done:
				}
				h.mu.Lock()
				defer h.mu.Unlock()
				h.end(a, string(job.Stopped))
			})
		}
	case *rotav1.ToJobWorker_Ask:
		k := simKey{b.Ask.GetId(), rota.Generation(b.Ask.GetGeneration())}
		if h.attempts[k] == nil {
			h.attempts[k] = &simAttempt{key: k, state: job.ReportRefused}
			h.sim.count(func(c *simCounts) { c.Never++ })
		}
		if a := h.attempts[k]; a.state != string(job.Starting) {
			h.tell(a.report())
		}
	case *rotav1.ToJobWorker_Kept:
		k := simKey{b.Kept.GetId(), rota.Generation(b.Kept.GetGeneration())}
		if a := h.attempts[k]; a != nil && a.state != string(job.Running) && a.state != "starting" {
			a.told = true
		}
	case *rotav1.ToJobWorker_Forget:
		for k, a := range h.attempts {
			if k.id == b.Forget.GetId() && a.state != string(job.Running) && a.state != "starting" {
				delete(h.attempts, k)
			}
		}
	}
}

// start runs a job: nothing, for a while. h.mu is held.
func (h *simHost) start(k simKey, session int64, rerun bool) {
	if h.attempts[k] != nil || h.dead.Err() != nil {
		return
	}
	if h.sim.intn(10) == 0 || rerun && !h.worker.LeasedFor(session) {
		h.sim.count(func(c *simCounts) { c.Refused++ })
		a := &simAttempt{key: k, rerun: rerun, state: job.ReportRefused}
		h.attempts[k] = a
		h.tell(a.report())
		return
	}
	a := &simAttempt{key: k, rerun: rerun, state: "starting", skew: h.skew, done: make(chan struct{})}
	h.attempts[k] = a
	h.sim.ordered(k)
	launch, last := h.sim.upTo(20*time.Millisecond), 1+h.sim.upTo(200*time.Millisecond)
	if h.sim.intn(3) == 0 {
		last = h.sim.upTo(10 * time.Second)
	}
	how := job.Succeeded
	if h.sim.intn(4) == 0 {
		how = job.Failed
	}
	h.sim.wg.Go(func() {
		for _, step := range []struct {
			after time.Duration
			state job.State
		}{{launch, job.Running}, {last, how}} {
			select {
			case <-time.After(step.after):
			case <-a.done:
				return
			}
			h.mu.Lock()
			switch {
			case a.state == "starting" && step.state == job.Running:
				a.state, a.began = string(job.Running), time.Now()
				h.sim.note("%s begins %s/%d", h.id, k.id, k.generation)
				h.sim.begin(h, k)
				h.tell(a.report())
			case step.state != job.Running:
				h.end(a, string(step.state))
			}
			h.mu.Unlock()
		}
	})
}

// end ends an attempt and says so; without a state nobody is left to say it.
// h.mu is held.
func (h *simHost) end(a *simAttempt, state string) {
	if a.state != "starting" && a.state != string(job.Running) {
		return
	}
	if a.state == string(job.Running) {
		h.sim.finish(h, a.key)
	}
	a.state, a.ended = state, time.Now()
	close(a.done)
	h.sim.note("%s ends %s/%d: %q", h.id, a.key.id, a.key.generation, state)
	if state != "" {
		h.tell(a.report())
	}
}

func (a *simAttempt) report() *rotav1.JobReport {
	r := &rotav1.JobReport{Id: a.key.id, Generation: uint64(a.key.generation), State: a.state, NowUnixUs: time.Now().Add(a.skew).UnixMicro()}
	if !a.began.IsZero() {
		r.StartedUnixUs = a.began.Add(a.skew).UnixMicro()
	}
	if !a.ended.IsZero() {
		r.EndedUnixUs = a.ended.Add(a.skew).UnixMicro()
	}
	if a.state == string(job.Failed) {
		r.ExitCode = 1
	}
	return r
}

func (h *simHost) tell(r *rotav1.JobReport) {
	if h.pipe != nil {
		h.pipe.say(&rotav1.FromJobWorker{Body: &rotav1.FromJobWorker_Report{Report: r}})
	}
}

// simPipe is a job stream. What is sent arrives in order and later, sometimes
// much later; when the worker lets go of it the scheduler may not notice for a
// while.
type simPipe struct {
	grpc.ServerStream
	ctx    context.Context // the worker's end
	cancel context.CancelFunc
	far    context.Context // the scheduler's end
	queue  chan *rotav1.FromJobWorker
	up     chan *rotav1.FromJobWorker
	sent   chan *rotav1.ToJobWorker
	down   chan *rotav1.ToJobWorker
}

func (s *sim) newPipe(ctx context.Context) *simPipe {
	p := &simPipe{
		queue: make(chan *rotav1.FromJobWorker, 1<<12), up: make(chan *rotav1.FromJobWorker),
		sent: make(chan *rotav1.ToJobWorker, 1<<12), down: make(chan *rotav1.ToJobWorker),
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	far, drop := context.WithCancel(auth.Inside(context.Background()))
	p.far = far
	linger := time.Duration(0)
	if s.intn(4) == 0 {
		linger = s.upTo(s.lease)
	}
	s.wg.Go(func() {
		<-p.ctx.Done()
		if !s.isCalm() {
			time.Sleep(linger)
		}
		drop()
	})
	s.wg.Go(func() { carry(s, p.queue, p.up, far) })
	s.wg.Go(func() { carry(s, p.sent, p.down, p.ctx) })
	return p
}

// carry takes messages from one end to the other.
func carry[M any](s *sim, from <-chan M, to chan<- M, ctx context.Context) {
	for {
		select {
		case m := <-from:
			late := 50*time.Microsecond + s.upTo(time.Millisecond)
			if s.intn(50) == 0 && !s.isCalm() {
				late = s.upTo(3 * s.lease)
			}
			time.Sleep(late)
			select {
			case to <- m:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (p *simPipe) say(m *rotav1.FromJobWorker) {
	select {
	case p.queue <- m:
	default:
		p.cancel()
	}
}

func (p *simPipe) Context() context.Context { return p.far }

func (p *simPipe) Send(m *rotav1.ToJobWorker) error {
	select {
	case p.sent <- m:
		return nil
	case <-p.far.Done():
		return errCut
	}
}

func (p *simPipe) Recv() (*rotav1.FromJobWorker, error) {
	select {
	case m := <-p.up:
		return m, nil
	case <-p.far.Done():
		return nil, errCut
	}
}
