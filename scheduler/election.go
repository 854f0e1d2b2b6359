package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rota-project/rota/scheduler/internal/events"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// drift is the greatest difference in rate between this clock and the store's.
const drift = 0.1

// retryPause is the pause after the store did not answer.
const retryPause = 200 * time.Millisecond

// serve keeps this node known to the others, and campaigns for ever.
func (s *Scheduler) serve(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.reign(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.log.Warn("not part of the cluster at present", "error", err)
		sleep(ctx, retryPause)
	}
}

// reign lives as long as one lease: it registers the scheduler and leads
// whenever it is elected.
func (s *Scheduler) reign(parent context.Context) (err error) {
	st := s.cfg.Store
	ctx, cancel := context.WithCancelCause(parent)
	defer func() {
		if lost := context.Cause(ctx); errors.Is(lost, errLeaseLost) {
			err = lost // and not that what went on then was cancelled
		}
	}()
	defer cancel(nil)
	sent := time.Now()
	lease, ttl, err := st.Grant(ctx, s.cfg.Lease)
	if err != nil {
		return fmt.Errorf("make a lease: %w", err)
	}
	defer s.resign(lease) // whoever comes next need not wait for the lease
	if err := s.register(ctx, lease); err != nil {
		if errors.Is(err, errNameTaken) {
			sleep(ctx, s.cfg.Lease/5)
		}
		return err
	}
	s.lease.Store(int64(lease))
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		cancel(s.keep(ctx, lease, ttl, sent))
	}()
	defer func() {
		cancel(nil)
		<-kept
	}()
	for ctx.Err() == nil {
		epoch, err := s.campaign(ctx, lease)
		if err != nil {
			return err
		}
		if epoch == 0 {
			continue
		}
		s.log.Info("leading", "epoch", epoch)
		s.events.Record(events.Event{Kind: events.LeaderElected, Text: fmt.Sprintf("%s leads, epoch %d", s.cfg.Name, epoch)})
		err = s.lead(ctx, lease, epoch)
		s.log.Info("no longer leading", "epoch", epoch, "reason", err)
		s.events.Record(events.Event{Kind: events.LeaderResigned, Text: fmt.Sprintf("%s no longer leads, epoch %d: %v", s.cfg.Name, epoch, err)})
		if !errors.Is(err, errDeposed) {
			return err
		}
		// Its key may be there all the same: somebody else overwrote it, and its last
		// write came after.
		if _, _, err := st.Txn(ctx, []store.Cond{{Key: store.LeaderKey, By: store.ByCreate, Revision: epoch}},
			[]store.Op{{Key: store.LeaderKey, Delete: true}}); err != nil {
			return fmt.Errorf("abdicate: %w", err)
		}
	}
	return ctx.Err()
}

// register makes this scheduler known to the others for as long as its lease lasts.
// The key of a namesake that lives, or died less than a lease ago, is left alone
// (errNameTaken): it would go with this one's lease.
func (s *Scheduler) register(ctx context.Context, lease store.LeaseID) error {
	value, err := record.Encode(s.itself())
	if err != nil {
		return err
	}
	key := store.SchedulerKey(s.cfg.Name)
	ok, _, err := s.cfg.Store.Txn(ctx, []store.Cond{{Key: key, By: store.ByCreate}}, []store.Op{{Key: key, Value: value, Lease: lease}})
	switch {
	case err != nil:
		return fmt.Errorf("register: %w", err)
	case !ok:
		return fmt.Errorf("another scheduler named %q %w: each scheduler needs its own name", s.cfg.Name, errNameTaken)
	}
	return nil
}

// errLeaseLost is the end of a reign: others may count this scheduler as gone.
var errLeaseLost = errors.New("this scheduler's lease was not renewed in time")

var errNameTaken = errors.New("is alive, or died less than one lease ago")

// resign ends the lease, and with it whatever this scheduler is.
func (s *Scheduler) resign(lease store.LeaseID) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.cfg.Store.Revoke(ctx, lease) // else it ends by itself
}

// keep renews the lease, and returns when it can no longer be trusted, with why: that
// counts from when the last confirmed renewal was sent. It returns nil when ctx ends.
func (s *Scheduler) keep(ctx context.Context, lease store.LeaseID, ttl time.Duration, sent time.Time) error {
	until := sent.Add(trusted(ttl))
	var last error
	for {
		sleep(ctx, ttl/5)
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		now := time.Now()
		switch {
		case !now.Before(until) && last == nil: // this process stood still
			return fmt.Errorf("%w: the last renewal is %v ago", errLeaseLost, now.Sub(sent).Round(time.Millisecond))
		case !now.Before(until):
			return fmt.Errorf("%w: %w", errLeaseLost, last)
		}
		one, cancel := context.WithDeadline(ctx, until)
		t, err := s.cfg.Store.KeepAlive(one, lease)
		cancel()
		switch {
		case errors.Is(err, store.ErrLeaseNotFound):
			return fmt.Errorf("%w: it has ended in the store", errLeaseLost)
		case err != nil:
			last = err
		default:
			sent, until, last = now, now.Add(trusted(t)), nil
			s.stayKnown(ctx, lease)
		}
	}
}

// stayKnown writes the scheduler's key again if somebody deleted it: without it nobody
// finds this scheduler, nor the output of its workers.
func (s *Scheduler) stayKnown(ctx context.Context, lease store.LeaseID) {
	known := false
	s.view.Read(func() { known = s.view.Schedulers[s.cfg.Name] != nil })
	if known {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Lease/5)
	defer cancel()
	if err := s.register(ctx, lease); err != nil && !errors.Is(err, errNameTaken) { // else it is there, and the view learns it soon
		s.log.Warn("this scheduler's key is missing, and was not written again", "error", err)
	}
}

func trusted(ttl time.Duration) time.Duration { return time.Duration(float64(ttl) * (1 - drift)) }

// campaign waits until nobody leads and tries to. It answers the epoch, or 0
// if another was faster.
func (s *Scheduler) campaign(ctx context.Context, lease store.LeaseID) (int64, error) {
	if err := s.awaitVacancy(ctx); err != nil {
		return 0, err
	}
	value, err := s.leaderValue()
	if err != nil {
		return 0, err
	}
	ok, rev, err := s.cfg.Store.Txn(ctx,
		[]store.Cond{{Key: store.LeaderKey, By: store.ByCreate, Revision: 0}},
		[]store.Op{{Key: store.LeaderKey, Value: value, Lease: lease}})
	if err != nil {
		// It may have been done. The lease goes, and the key with it.
		return 0, fmt.Errorf("campaign: %w", err)
	}
	if !ok {
		if err := s.removeStray(ctx); err != nil {
			return 0, err
		}
		sleep(ctx, retryPause/10) // the view has the winner soon
		return 0, nil
	}
	return rev, s.view.Wait(ctx, rev)
}

// removeStray removes a leader's key that has no lease: somebody else wrote it, and it
// would stay for ever.
func (s *Scheduler) removeStray(ctx context.Context) error {
	kv, ok, _, err := s.cfg.Store.Get(ctx, store.LeaderKey)
	if err != nil || !ok || kv.Lease != 0 {
		return err
	}
	s.log.Error("the leader's key has no lease and is removed", "revision", kv.Mod)
	_, _, err = s.cfg.Store.Txn(ctx,
		[]store.Cond{{Key: store.LeaderKey, By: store.ByMod, Revision: kv.Mod}},
		[]store.Op{{Key: store.LeaderKey, Delete: true}})
	return err
}

func (s *Scheduler) leaderValue() ([]byte, error) {
	return record.Encode(&storepb.Leader{Version: record.Version, Name: s.cfg.Name})
}

func (s *Scheduler) awaitVacancy(ctx context.Context) error {
	vacant := make(chan struct{}, 1)
	look := func() {
		if s.view.Leader == nil {
			select {
			case vacant <- struct{}{}:
			default:
			}
		}
	}
	sub := s.view.Subscribe(look, func(d *view.Delta) {
		if d.Leader {
			look()
		}
	})
	defer sub.Close()
	select {
	case <-vacant:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
