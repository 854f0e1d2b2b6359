package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rota-project/rota/store"
)

type lease struct {
	id    store.LeaseID
	ttl   time.Duration
	ends  time.Time
	timer *time.Timer
	keys  map[string]struct{}
}

// Grant implements store.Store. As etcd's, leases last whole seconds, at least one.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (store.LeaseID, time.Duration, error) {
	d := s.db
	if err := d.enter(ctx); err != nil {
		return 0, 0, fmt.Errorf("memory: grant: %w", err)
	}
	defer d.mu.Unlock()
	ttl = max(ttl+time.Second-1, time.Second).Truncate(time.Second)
	d.lastLease++
	l := &lease{id: d.lastLease, ttl: ttl, ends: time.Now().Add(ttl), keys: map[string]struct{}{}}
	l.timer = time.AfterFunc(ttl, func() { d.expire(l) })
	d.leases[l.id] = l
	return l.id, ttl, nil
}

// KeepAlive implements store.Store.
func (s *Store) KeepAlive(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	d := s.db
	if err := d.enter(ctx); err != nil {
		return 0, fmt.Errorf("memory: keep alive %x: %w", id, err)
	}
	defer d.mu.Unlock()
	l := d.leases[id]
	if l == nil || !time.Now().Before(l.ends) {
		return 0, fmt.Errorf("memory: keep alive %x: %w", id, store.ErrLeaseNotFound)
	}
	l.ends = time.Now().Add(l.ttl)
	l.timer.Reset(l.ttl)
	return l.ttl, nil
}

// LeaseLeft implements store.Store.
func (s *Store) LeaseLeft(ctx context.Context, id store.LeaseID) (time.Duration, error) {
	d := s.db
	if err := d.enter(ctx); err != nil {
		return 0, fmt.Errorf("memory: look at lease %x: %w", id, err)
	}
	defer d.mu.Unlock()
	l := d.leases[id]
	if l == nil || !time.Now().Before(l.ends) {
		return 0, fmt.Errorf("memory: look at lease %x: %w", id, store.ErrLeaseNotFound)
	}
	return time.Until(l.ends), nil
}

// Revoke implements store.Store.
func (s *Store) Revoke(ctx context.Context, id store.LeaseID) error {
	d := s.db
	if err := d.enter(ctx); err != nil {
		return fmt.Errorf("memory: revoke %x: %w", id, err)
	}
	defer d.mu.Unlock()
	if l := d.leases[id]; l != nil {
		d.end(l)
	}
	return nil
}

// expire is called by the timer of a lease, perhaps just after a renewal.
func (d *db) expire(l *lease) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.done:
		return
	default:
	}
	if d.leases[l.id] == l && !time.Now().Before(l.ends) {
		d.end(l)
	}
}

// end removes a lease and its keys, all at one revision.
func (d *db) end(l *lease) {
	l.timer.Stop()
	delete(d.leases, l.id)
	var events []store.Event
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		events = d.remove(events, key)
	}
	d.publish(events)
}
