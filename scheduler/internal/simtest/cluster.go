package simtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/auth"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/scheduler"
	"github.com/rota-project/rota/scheduler/internal/service"
	"github.com/rota-project/rota/scheduler/source"
	"github.com/rota-project/rota/store/memory"
	"github.com/rota-project/rota/worker"
)

// cluster is everything that runs.
type cluster struct {
	seed    uint64
	lease   time.Duration
	rates   faulty.Rates
	history *history
	net     *network
	store   *memory.Store
	log     *slog.Logger

	mu         sync.Mutex
	calm       bool // no more faults
	calmed     chan struct{}
	schedulers []*node // by slot
	workers    []*proc
	starts     uint64 // of nodes and processes: names each
	list       []rota.Task
	listErr    error
	listed     int64          // how often list has changed
	ends       sync.WaitGroup // what ends by itself
}

// node is one start of a scheduler.
type node struct {
	slot  int
	name  string
	store *faulty.Store
	sched *scheduler.Scheduler
	api   *service.Service
	dead  chan struct{}
}

// proc is one start of a worker's process.
type proc struct {
	slot    int
	name    string
	id      string // name/incarnation
	w       *worker.Worker
	dead    chan struct{} // closed when the process is gone
	once    sync.Once
	leaving bool
}

// rng makes chance of what it is for alone, so that it does not depend on the
// order in which goroutines ask.
func (c *cluster) rng(words ...any) *rand.Rand {
	h := uint64(14695981039346656037)
	for _, b := range []byte(fmt.Sprint(words...)) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(c.seed, h))
}

func (c *cluster) isCalm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calm
}

// startScheduler starts a scheduler in a slot.
func (c *cluster) startScheduler(slot int) error {
	c.mu.Lock()
	c.starts++
	start := c.starts
	c.mu.Unlock()
	decide := faulty.Seeded(c.seed*1000+start, c.rates)
	n := &node{slot: slot, name: fmt.Sprintf("s%d", slot), dead: make(chan struct{})}
	n.store = faulty.New(c.store, func(call faulty.Call) faulty.Fault {
		if c.isCalm() {
			return faulty.Fault{}
		}
		return decide(call)
	})
	// A list that has not changed wakes nobody, and an interval is longer than all of
	// this: what the leader does not do of itself, it does not do.
	var last atomic.Int64
	read := source.Func("list", func(context.Context) ([]rota.Task, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.listErr == nil && last.Swap(c.listed) == c.listed {
			return nil, source.ErrUnchanged
		}
		return c.list, c.listErr
	})
	read.Every, read.Reset = 2*time.Second, func() { last.Store(-1) }
	var err error
	n.sched, err = scheduler.New(scheduler.Config{
		Store: n.store, Name: n.name, GRPC: n.name, Lease: c.lease, Interval: time.Hour,
		SuspectAfter: -1,                                                            // workers die all the time here, and no task is to blame
		SlowStart:    time.Duration(c.rng("slow start").IntN(2)) * 20 * time.Second, // or none
		Sources:      []*source.Source{read}, HoldFor: time.Second, Logger: c.log,
	})
	if err != nil {
		return err
	}
	n.api = n.sched.Service("")
	n.sched.Start()
	c.mu.Lock()
	c.schedulers[slot] = n
	c.mu.Unlock()
	c.history.note("scheduler %s started", n.name)
	return nil
}

// stopScheduler ends a scheduler: in order, or as kill -9 does.
func (c *cluster) stopScheduler(n *node, inOrder bool) {
	c.mu.Lock()
	c.schedulers[n.slot] = nil
	c.mu.Unlock()
	close(n.dead)
	c.history.note("scheduler %s ends, in order: %v", n.name, inOrder)
	if !inOrder {
		n.store.Set(faulty.Down) // for ever: what the process still does reaches nobody
		c.net.cut(func(p *pipe) bool { return p.scheduler == n.name })
	}
	c.ends.Go(func() {
		if err := n.sched.Stop(context.Background()); err != nil {
			c.history.fail("scheduler %s: %v", n.name, err)
		}
		n.api.Close()
		if !inOrder {
			c.ends.Go(func() { // a write on its way lands all the same
				time.Sleep(c.rates.MaxLate)
				n.store.Close()
			})
			return
		}
		n.store.Close()
	})
}

// node picks a living scheduler; nil if there is none.
func (c *cluster) node(at uint64) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.schedulers {
		if n := c.schedulers[(int(at%1024)+k)%len(c.schedulers)]; n != nil {
			return n
		}
	}
	return nil
}

// startWorker starts a process in a slot.
func (c *cluster) startWorker(slot int) error {
	c.mu.Lock()
	c.starts++
	start := c.starts
	c.mu.Unlock()
	p := &proc{slot: slot, name: fmt.Sprintf("w%d", slot), dead: make(chan struct{})}
	incarnation := fmt.Sprintf("i%d", start)
	p.id = p.name + "/" + incarnation
	chance := c.rng("worker", start)
	grace := time.Duration(0)
	if chance.IntN(2) == 0 {
		grace = time.Duration(chance.IntN(5000)) * time.Millisecond
	}
	calls := uint64(0)
	var err error
	p.w, err = worker.New(worker.Config{
		Name: p.name, Incarnation: incarnation, RestartGrace: grace, NameWait: time.Hour, Logger: c.log.With("incarnation", incarnation),
		Exit: func(code int) {
			c.history.count(func(n *Counts) { n.Fenced++ })
			c.history.note("%s ends itself with status %d", p.id, code)
			c.kill(p, false)
			runtime.Goexit()
		},
		Connect: func(ctx context.Context, _ []string) (worker.Stream, error) {
			calls++
			return c.connect(ctx, p, start, calls)
		},
	})
	if err != nil {
		return err
	}
	if err := p.w.HandleTask("", c.taskFunc(p)); err != nil {
		return err
	}
	// Among ends, so that a worker that ends itself finds the count above zero.
	c.ends.Go(func() { _ = p.w.Run(context.Background()) })
	c.mu.Lock()
	c.workers[slot] = p
	c.mu.Unlock()
	c.history.note("worker %s started, restart grace %v", p.id, grace)
	return nil
}

// connect is a worker's next connection, to a scheduler or to nobody.
func (c *cluster) connect(ctx context.Context, p *proc, start, call uint64) (worker.Stream, error) {
	chance := c.rng("connect", start, call)
	time.Sleep(time.Duration(chance.IntN(3_000_000)))
	select {
	case <-p.dead:
		return nil, errReset
	case <-ctx.Done():
		return nil, ctx.Err()
	default:
	}
	n := c.node(start + call)
	if n == nil {
		return nil, errReset
	}
	linger := time.Duration(0)
	if !c.isCalm() && chance.IntN(4) == 0 {
		linger = time.Duration(chance.Int64N(int64(c.lease)))
	}
	slow := chance.IntN(8) == 0
	c.history.note("%s connects to %s", p.id, n.name)
	var mu sync.Mutex // both directions ask
	latency := func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		d := 50_000 + chance.Int64N(1_000_000)
		if slow && !c.isCalm() && chance.IntN(4) == 0 {
			d += chance.Int64N(int64(c.lease / 4))
		}
		return time.Duration(d)
	}
	return c.net.dial(ctx, p.name, n.name, n.sched.Sessions(), latency, linger)
}

// kill ends a process at once, with all that it runs. Its last words may still
// arrive. A supervisor may say so.
func (c *cluster) kill(p *proc, report bool) {
	p.once.Do(func() {
		c.history.note("worker %s is dead", p.id)
		close(p.dead)
		c.history.killed(p.id)
		c.net.cut(func(q *pipe) bool { return q.worker == p.name })
		c.mu.Lock()
		if c.workers[p.slot] == p {
			c.workers[p.slot] = nil
		}
		c.mu.Unlock()
		// What is left of it in this process ends by itself, unheard.
		c.ends.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = p.w.Stop(ctx) // one that has ended itself never says so
		})
	})
	if !report {
		return
	}
	c.ends.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for k := uint64(0); ctx.Err() == nil; k++ {
			if n := c.node(k); n != nil {
				r := &rotav1.ReportExitRequest{Name: p.name, Incarnation: p.w.Incarnation()}
				if _, err := n.sched.Sessions().ReportExit(auth.Inside(ctx), r); err == nil {
					return
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// leave has a process end in order.
func (c *cluster) leave(p *proc) {
	c.mu.Lock()
	p.leaving = true
	c.mu.Unlock()
	c.history.note("worker %s leaves", p.id)
	c.ends.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c.ends.Go(func() {
			select {
			case <-p.dead:
				cancel()
			case <-ctx.Done():
			}
		})
		if err := p.w.Stop(ctx); err != nil {
			select {
			case <-p.dead:
			default:
				c.history.fail("worker %s: %v", p.id, err)
			}
		}
		c.kill(p, false)
	})
}

// taskFunc is what the tasks of a process do: tell the history, and stop
// quickly, slowly or hardly.
func (c *cluster) taskFunc(p *proc) worker.TaskFunc {
	return func(ctx context.Context, a worker.Assigned) error {
		select {
		case <-p.dead:
			return nil
		default:
		}
		r := &run{
			instance: a.Instance(), process: p.id, worker: p.name, generation: a.Generation(), exclusive: a.Task.Mode == rota.Exclusive,
			declared: func() rota.Task { t, _ := a.Current(); return t },
		}
		chance := c.rng("task", p.id, r.instance, r.generation)
		c.history.start(r)
		defer c.history.stop(r)
		var failing <-chan time.Time
		// Not for ever: the pause before the next call doubles.
		if fails := chance.IntN(10) == 0; fails && !c.isCalm() && c.history.calls(r) <= 3 {
			timer := time.NewTimer(time.Duration(chance.Int64N(int64(5 * time.Second))))
			defer timer.Stop()
			failing = timer.C
		}
		select {
		case <-ctx.Done():
		case <-p.dead:
			return nil
		case <-failing:
			if c.isCalm() {
				break
			}
			if chance.IntN(4) == 0 {
				panic("by chance")
			}
			return errors.New("by chance")
		}
		stop := time.Duration(chance.Int64N(int64(20 * time.Millisecond)))
		switch x := chance.IntN(40); {
		case x == 0:
			stop = c.lease + time.Duration(chance.Int64N(int64(10*time.Second)))
		case x < 6:
			stop = time.Duration(chance.Int64N(int64(c.lease / 5)))
		}
		timer := time.NewTimer(stop)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.dead:
		case <-c.calmed:
		}
		return nil
	}
}
