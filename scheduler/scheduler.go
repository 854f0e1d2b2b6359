package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/scheduler/internal/capacity"
	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/relay"
	"github.com/rota-project/rota/scheduler/internal/sessions"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// DefaultLease is the lease of workers and schedulers.
const DefaultLease = sessions.DefaultLease

type (
	// View is a picture of the whole store in memory, true up to a revision.
	View = view.View
	// Delta is what changed in a View at once.
	Delta = view.Delta
	// EventLimits are how much of what happened is kept.
	EventLimits = events.Limits
)

// Scheduler is one control-plane node.
type Scheduler struct {
	cfg      Config
	log      *slog.Logger
	view     *view.View
	store    timed
	measures *measures
	sessions *sessions.Server
	desk     *relay.Desk
	peers    *relay.Peers
	capacity *capacity.Account
	happened *events.Log
	events   *events.Recorder
	stats    stats
	lease    atomic.Int64 // the latest that it has registered with; 0 before
	late     atomic.Bool  // a loop of the leader stood still
	members  atomic.Pointer[[]store.Member]
	full     chan struct{} // has one when the store has refused a write for want of space

	mu     sync.Mutex
	ran    bool
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

// stats are what the leader counts; they are zero while this node does not lead.
type stats struct {
	refusedTxns atomic.Uint64 // since the start
	moving      atomic.Int64
}

// Late reports whether the leader's loop was found hanging. Such a process has given up
// leadership, and should be restarted.
func (s *Scheduler) Late() bool { return s.late.Load() }

// New returns a scheduler that has not started.
func New(c Config) (*Scheduler, error) {
	c, err := c.normalize()
	if err != nil {
		return nil, err
	}
	m := newMeasures()
	full := make(chan struct{}, 1)
	st := timed{c.Store, m.store, full}
	v := view.New(st, c.Logger)
	s := &Scheduler{
		cfg: c, log: c.Logger, view: v, store: st, measures: m, capacity: capacity.New(v), ended: make(chan struct{}), desk: relay.NewDesk(), peers: relay.NewPeers(c.Peer), full: full,
		happened: events.NewLog(c.Events, c.Logger),
	}
	s.happened.Follow(v)
	s.events = events.NewRecorder(events.Config{Store: c.Store, Log: s.happened, Scheduler: c.Name, Leads: s.leads, Logger: c.Logger})
	s.sessions = sessions.New(sessions.Config{
		Store: st, View: v, Scheduler: c.Name, Lease: c.Lease, MaxWorkers: c.MaxWorkers, Desk: s.desk, Good: c.Good, Events: s.events,
		Logger: c.Logger,
	})
	m.registry.MustRegister(&collector{s})
	return s, nil
}

// leads reports whether this scheduler leads, as far as it knows.
func (s *Scheduler) leads() (yes bool) {
	s.view.Read(func() { yes = s.view.Leader != nil && s.view.Leader.Name == s.cfg.Name })
	return yes
}

// Events returns the recorder of events.
func (s *Scheduler) Events() *events.Recorder { return s.events }

// Name is the scheduler's name.
func (s *Scheduler) Name() string { return s.cfg.Name }

// View returns the scheduler's view of the store.
func (s *Scheduler) View() *view.View { return s.view }

// Capacity is the account of what is taken of workers, as far as this scheduler knows.
func (s *Scheduler) Capacity() *capacity.Account { return s.capacity }

// Sessions serves workers.
func (s *Scheduler) Sessions() *sessions.Server { return s.sessions }

// Desk returns the desk to which workers deliver output for readers.
func (s *Scheduler) Desk() *relay.Desk { return s.desk }

// Peers are the connections to other schedulers.
func (s *Scheduler) Peers() *relay.Peers { return s.peers }

// Run schedules until ctx ends or Stop is called, then resigns: another scheduler leads at
// once, and the workers move to other schedulers. It returns an error if the store has gone
// back (store.ErrWentBack), if at the start the store has values of a newer version
// (rota.ErrNewerVersion), or if it was called before.
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
			s.log.Error("cannot read the store", "error", err)
			s.cancel()
		}
		viewed <- err
	}()
	epoch := int64(0)
	leaders := s.view.Subscribe(nil, func(*view.Delta) {
		if l := s.view.Leader; l != nil && l.Epoch != epoch {
			epoch = l.Epoch
			s.measures.changes.Inc()
		}
	})
	defer leaders.Close()
	var mending sync.WaitGroup
	var newer error
	if s.view.Wait(ctx, 1) == nil {
		newer = s.newer()
	}
	if newer == nil && ctx.Err() == nil {
		mending.Go(func() { s.mend(ctx) })
		mending.Go(func() { s.inspect(ctx) })
		s.serve(ctx)
	}
	mending.Wait()
	s.sessions.Close()
	s.peers.Close()
	s.capacity.Close()
	s.events.Close()
	stopView()
	err := <-viewed
	if err == nil {
		err = newer
	}
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	close(s.ended)
	if err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	return nil
}

// newer is an error if something in the store was written by a newer version. Who
// begins beside such schedulers would take what it cannot read for gone; who runs
// already knows what was there, and sets it aside.
func (s *Scheduler) newer() (err error) {
	s.view.Read(func() {
		for _, u := range s.view.Unread() {
			if errors.Is(u.Err, rota.ErrNewerVersion) {
				err = fmt.Errorf("key %q: %w", u.Key, u.Err)
				return
			}
		}
	})
	return err
}

// Start calls Run in the background.
func (s *Scheduler) Start() { go func() { _ = s.Run(context.Background()) }() }

// Stop ends Run and waits for it, or for ctx. It may be called before Start,
// twice, and from several goroutines.
func (s *Scheduler) Stop(ctx context.Context) error {
	s.mu.Lock()
	if !s.ran {
		s.ran = true // it will never run
		close(s.ended)
		s.sessions.Close()
		s.events.Close()
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

// Age is the time since the store last confirmed this scheduler's view. stale is true if
// that is more than one lease: answers about the cluster are then as of that time, and the
// instances that run may have changed.
func (s *Scheduler) Age() (age time.Duration, stale bool) {
	age = time.Since(s.view.AsOf())
	return age, age > s.cfg.Lease
}
