package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/sessions"
	"github.com/rota-project/rota/view"
)

// Scheduler is one control-plane node.
type Scheduler struct {
	cfg      Config
	log      *slog.Logger
	view     *view.View
	sessions *sessions.Server
	stats    stats
	late     atomic.Bool // a loop of the leader stood still

	mu     sync.Mutex
	ran    bool
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

// stats are what the leader counts; they are zero while this node does not lead.
type stats struct {
	passes, moves, txns, refusedTxns atomic.Uint64 // since the start
	moving                           atomic.Int64
}

// Late reports whether the leader's loop was found standing still. Such a
// process has given up leadership, and is best started again.
func (s *Scheduler) Late() bool { return s.late.Load() }

// New returns a scheduler that has not started.
func New(c Config) (*Scheduler, error) {
	c, err := c.normalize()
	if err != nil {
		return nil, err
	}
	v := view.New(c.Store, c.Logger)
	return &Scheduler{
		cfg: c, log: c.Logger, view: v, ended: make(chan struct{}),
		sessions: sessions.New(sessions.Config{
			Store: c.Store, View: v, Scheduler: c.Name, Lease: c.Lease, MaxWorkers: c.MaxWorkers, Logger: c.Logger,
		}),
	}, nil
}

// Name is the scheduler's name.
func (s *Scheduler) Name() string { return s.cfg.Name }

// View is the scheduler's picture of the store.
func (s *Scheduler) View() *view.View { return s.view }

// Sessions serves workers.
func (s *Scheduler) Sessions() *sessions.Server { return s.sessions }

// Run schedules until ctx ends or Stop is called, then resigns: another
// scheduler leads at once, and the workers go to it. It returns an error only if
// the store holds what this version cannot read. It can be called once.
func (s *Scheduler) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.ran {
		s.mu.Unlock()
		return errors.New("scheduler: Run was called before")
	}
	s.ran = true
	ctx, s.cancel = context.WithCancel(ctx)
	s.mu.Unlock()
	defer s.cancel()

	// The view outlives everything that looks at it.
	viewCtx, stopView := context.WithCancel(context.WithoutCancel(ctx))
	viewed := make(chan error, 1)
	go func() {
		err := s.view.Run(viewCtx)
		if err != nil {
			s.log.Error("the store cannot be read", "error", err)
			s.cancel()
		}
		viewed <- err
	}()
	if s.view.Wait(ctx, 1) == nil {
		s.serve(ctx)
	}
	s.sessions.Close()
	stopView()
	err := <-viewed
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	close(s.ended)
	if err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	return nil
}

// Start is Run in the background.
func (s *Scheduler) Start() { go func() { _ = s.Run(context.Background()) }() }

// Stop ends Run and waits for it, or for ctx. It may be called before Start,
// twice, and from several goroutines.
func (s *Scheduler) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.ran {
		s.ran = true // it will never run
		close(s.ended)
		s.sessions.Close()
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	select {
	case <-s.ended:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("scheduler: stop: %w", ctx.Err())
	}
}

// Ready returns when the scheduler has read the store.
func (s *Scheduler) Ready(ctx context.Context) error { return s.view.Wait(ctx, 1) }

// Age is how long ago this scheduler's picture was surely that of the store. It is
// stale when that is longer ago than a lease: whatever is told of the cluster is as
// of then, and what runs may have changed.
func (s *Scheduler) Age() (age time.Duration, stale bool) {
	age = time.Since(s.view.AsOf())
	return age, age > s.cfg.Lease
}
