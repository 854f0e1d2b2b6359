package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rota-project/rota"
	rotav1 "github.com/rota-project/rota/api/rota/v1"
	"github.com/rota-project/rota/internal/api/convert"
	"github.com/rota-project/rota/internal/job"
	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/scheduler/internal/kind"
	"github.com/rota-project/rota/scheduler/internal/relay"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// Defaults of a Config.
const (
	defaultMaxQueued = 50_000
	defaultMaxKept   = 20_000
)

// Errors by which a caller decides.
var (
	// errFull is the answer to a job that would be one too many in the queue.
	errFull = errors.New("the job queue is full")
	// errClosed is the answer of a scheduler that is stopping.
	errClosed = errors.New("the scheduler is stopping")
	// errBusy says that others changed the same job all the time.
	errBusy = errors.New("too much contention on the same job; try again")
)

// Config of a Control.
type Config struct {
	kind.Node
	// Pools says of each pool whether it would help a job that waits, and Named whether a
	// job names one that could. Nil: there are no pools.
	Pools func(s job.Spec) []*rotav1.WhyPool
	Named func(s job.Spec) bool
	// MaxQueued bounds the jobs that are not done. Zero means defaultMaxQueued.
	MaxQueued int
	// MaxKept bounds the jobs that are done and kept, whatever time they may be
	// kept; the oldest go first. Zero means defaultMaxKept.
	MaxKept int
}

// Control is the jobs of one scheduler.
type Control struct {
	rotav1.UnimplementedJobsServer
	rotav1.UnimplementedJobWorkServer
	rotav1.UnimplementedJobSchedulesServer
	cfg Config
	sub *view.Subscription
	// deaf ends the account's calls.
	deaf func()

	measures measures
	streams  *kind.Streams[rotav1.FromJobWorker, rotav1.ToJobWorker]

	fence *commit.Fence // of declarations and places

	// The loop's own: jobs that were promised a worker and of which nobody knows whether
	// they have it.
	unsure   map[string]struct{}
	unsureAt time.Time // when to look for them

	mu       sync.Mutex
	p        picture
	dirty    map[string]struct{}   // workers whose jobs may be lost
	unheard  map[unheard]time.Time // of workers that are gone, since when
	watchers map[*watcher]struct{}
	asked    []*update
	closed   bool

	signal chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

// New returns a control that runs until Close.
func New(cfg Config) *Control {
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = defaultMaxQueued
	}
	if cfg.MaxKept == 0 {
		cfg.MaxKept = defaultMaxKept
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Desk == nil {
		cfg.Desk = relay.NewDesk()
	}
	if cfg.Peers == nil {
		cfg.Peers = relay.NewPeers(nil)
	}
	c := &Control{
		cfg: cfg, p: newPicture(cfg.Capacity), dirty: map[string]struct{}{}, watchers: map[*watcher]struct{}{}, unsure: map[string]struct{}{},
		signal: make(chan struct{}, 1), ended: make(chan struct{}),
		fence: &commit.Fence{Store: cfg.Store, Key: store.FenceKey(store.JobFencesPrefix, cfg.Scheduler), Timeout: storeTimeout},
	}
	c.measures = newMeasures(c, cfg.Metrics)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.deaf = cfg.Capacity.Notify(c.wake)
	c.streams = kind.NewStreams[rotav1.FromJobWorker, rotav1.ToJobWorker](cfg.Node, keys)
	c.sub = cfg.View.Subscribe(c.load, c.learn)
	go c.run()
	return c
}

// Close ends it. Workers go to another scheduler; calls under way are answered.
func (c *Control) Close() {
	c.sub.Close()
	c.deaf()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.streams.Close()
	c.cancel()
	<-c.ended
}

// RegisterAPI adds what callers ask to a gRPC server.
func (c *Control) RegisterAPI(r grpc.ServiceRegistrar) {
	rotav1.RegisterJobsServer(r, c)
	rotav1.RegisterJobSchedulesServer(r, c)
}

// RegisterWork adds what workers say.
func (c *Control) RegisterWork(r grpc.ServiceRegistrar) { rotav1.RegisterJobWorkServer(r, c) }

// wake has the loop look. It never blocks.
func (c *Control) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// update is something that changes one job.
type update struct {
	id string
	// declare, if set, is a job that is to be.
	declare *job.Spec
	created time.Time
	trace   string // that it belongs to
	// schedule has declared it.
	schedule string
	// remove forgets the job.
	remove bool
	// change is what becomes of the job. It is pure, and may be called again.
	change func(job.Job, job.Spec) (job.Job, error)
	// conds must hold too.
	conds []store.Cond
	// last is the end of what an attempt wrote that has failed; events have it.
	last  string
	tries int
	done  chan error // buffered
}

// ask hands an update to the loop.
func (c *Control) ask(u *update) {
	u.done = make(chan error, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		u.done <- errClosed
		return
	}
	c.asked = append(c.asked, u)
	c.mu.Unlock()
	c.wake()
}

// do hands an update to the loop and waits until it is in the store, for doTime at the
// longest: what waits behind others of which the store says nothing may be done later.
func (c *Control) do(ctx context.Context, u *update) error {
	ctx, cancel := context.WithTimeout(ctx, doTime)
	defer cancel()
	c.ask(u)
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// get is a job as the picture has it.
func (c *Control) get(id string) (*entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.p.entries[id]
	if e == nil || e.specMod == 0 {
		return nil, fmt.Errorf("job %s: %w", text.Clip(id, text.Short), rota.ErrNotFound)
	}
	return e, nil
}

// find is get, but a job that another scheduler has just declared is waited for:
// what was acknowledged is there for everybody.
func (c *Control) find(ctx context.Context, id string) (*entry, error) {
	e, err := c.get(id)
	if err == nil || !uuid.Valid(id) {
		return e, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	kv, ok, _, gerr := c.cfg.Store.Get(ctx, store.JobKey(id))
	switch {
	case gerr != nil:
		return nil, convert.ReadError(gerr)
	case !ok:
		return nil, err
	}
	if err := c.cfg.View.Wait(ctx, kv.Mod); err != nil {
		return nil, convert.ReadError(err)
	}
	return c.get(id)
}

// Active is how many jobs a worker has.
func (c *Control) Active(worker string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.p.active[worker])
}
