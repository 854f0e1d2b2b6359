package control

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
	"github.com/rota-project/rota/internal/text"
	"github.com/rota-project/rota/internal/uuid"
	"github.com/rota-project/rota/job"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/view"
)

// Defaults of a Config.
const (
	DefaultMaxQueued = 50_000
	DefaultMaxKept   = 20_000
)

// Errors by which a caller decides.
var (
	// ErrFull is the answer to a job that would be one too many in the queue.
	ErrFull = errors.New("as many jobs are queued as may")
	// ErrClosed is the answer of a scheduler that is stopping.
	ErrClosed = errors.New("the scheduler is stopping")
	// ErrBusy says that others changed the same job all the time.
	ErrBusy = errors.New("others change the same job; try again")
)

// Config of a Control. Store, View and Scheduler must be set.
type Config struct {
	Store store.Store
	View  *view.View
	// Scheduler is the name of the scheduler that this is part of.
	Scheduler string
	// Peer connects to another scheduler's gRPC address, for output that its
	// workers have. Nil: such output cannot be read here.
	Peer func(address string) (*grpc.ClientConn, error)
	// MaxQueued bounds the jobs that are not done. Zero means DefaultMaxQueued.
	MaxQueued int
	// MaxKept bounds the jobs that are done and kept, whatever time they may be
	// kept; the oldest go first. Zero means DefaultMaxKept.
	MaxKept int
	// Logger gets what happens. Nil is silent.
	Logger *slog.Logger
}

// Control is the jobs of one scheduler.
type Control struct {
	rotav1.UnimplementedJobsServer
	rotav1.UnimplementedJobWorkServer
	cfg Config
	sub *view.Subscription

	mu       sync.Mutex
	p        picture
	dirty    map[string]struct{} // workers whose jobs may be lost
	watchers map[*watcher]struct{}
	streams  map[string]*stream // job workers whose stream is here
	reads    map[string]*read
	asked    []*update
	closed   bool
	moved    chan struct{} // closed when the standing of workers changes
	peers    map[string]*grpc.ClientConn

	signal chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

// New returns a control that runs until Close.
func New(cfg Config) *Control {
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = DefaultMaxQueued
	}
	if cfg.MaxKept == 0 {
		cfg.MaxKept = DefaultMaxKept
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Control{
		cfg: cfg, p: newPicture(), dirty: map[string]struct{}{}, watchers: map[*watcher]struct{}{}, streams: map[string]*stream{},
		reads: map[string]*read{}, moved: make(chan struct{}), peers: map[string]*grpc.ClientConn{},
		signal: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.sub = cfg.View.Subscribe(c.load, c.learn)
	go c.run()
	return c
}

// Close ends it. Workers go to another scheduler; calls under way are answered.
func (c *Control) Close() {
	c.sub.Close()
	c.mu.Lock()
	c.closed = true
	for _, s := range c.streams {
		s.cancel()
	}
	for _, r := range c.reads {
		r.fail(ErrClosed)
	}
	peers := c.peers
	c.peers = map[string]*grpc.ClientConn{}
	c.mu.Unlock()
	for _, conn := range peers {
		_ = conn.Close()
	}
	c.cancel()
	<-c.ended
}

// Register adds the services to a gRPC server.
func (c *Control) Register(r grpc.ServiceRegistrar) {
	rotav1.RegisterJobsServer(r, c)
	rotav1.RegisterJobWorkServer(r, c)
}

// wake has the loop look. It never blocks.
func (c *Control) wake() {
	select {
	case c.signal <- struct{}{}:
	default:
	}
}

// stir tells whoever waits for a worker. c.mu is held.
func (c *Control) stir() {
	close(c.moved)
	c.moved = make(chan struct{})
}

// update is something that changes one job.
type update struct {
	id string
	// declare, if set, is a job that is to be.
	declare *job.Spec
	created time.Time
	// remove forgets the job.
	remove bool
	// change is what becomes of the job. It is pure, and may be called again.
	change func(job.Job, job.Spec) (job.Job, error)
	// conds must hold too.
	conds []store.Cond
	tries int
	done  chan error // buffered
}

// ask hands an update to the loop.
func (c *Control) ask(u *update) {
	u.done = make(chan error, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		u.done <- ErrClosed
		return
	}
	c.asked = append(c.asked, u)
	c.mu.Unlock()
	c.wake()
}

// do hands an update to the loop and waits until it is in the store.
func (c *Control) do(ctx context.Context, u *update) error {
	c.ask(u)
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("what was asked may be done or not: %w", ctx.Err())
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
		return nil, fmt.Errorf("store: %w", gerr)
	case !ok:
		return nil, err
	}
	if err := c.cfg.View.Wait(ctx, kv.Mod); err != nil {
		return nil, err
	}
	return c.get(id)
}
