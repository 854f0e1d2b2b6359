// Package faulty puts faults between a store and who uses it: calls that are
// delayed, refused, done without an answer or done long after they seemed to have
// failed, watches that stall, end or lose their history, and outages. Tests and
// simulations use it, with decisions that follow from a seed, so that a failure
// can be run again.
//
// It never does what a real store does not: transactions stay atomic, watches
// stay in order and whole. It runs in a bubble of testing/synctest; everything
// that it started ends with Close.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rota-project/rota/store"
)

// ErrInjected is what calls fail with.
var ErrInjected = errors.New("faulty: injected failure")

// Kind is what is decided on.
type Kind uint8

// The calls of store.Store, and Batch for each batch of a watch.
const (
	Range Kind = iota
	Get
	Txn
	Watch
	Batch
	Grant
	KeepAlive
	Revoke
)

func (k Kind) String() string {
	return [...]string{"range", "get", "txn", "watch", "batch", "grant", "keepalive", "revoke"}[k]
}

// Call is what is decided on.
type Call struct {
	Kind Kind
	// Key is the key of a Get, the prefix of a Range, a Watch or its Batch, the
	// first key that a Txn writes, the lease of a KeepAlive or a Revoke.
	Key string
	// Seq counts the calls of this kind and key from 0. So what a Decide makes of
	// a call need not depend on how goroutines take turns.
	Seq uint64
}

// Fault is what becomes of a call. The zero value is none.
type Fault struct {
	// Delay comes before everything else.
	Delay time.Duration
	// Refuse fails the call before it is done.
	Refuse bool
	// Lose does the call and fails it all the same.
	Lose bool
	// Late fails a Txn or Revoke at once and does it this much later. Other calls
	// fail.
	Late time.Duration
	// Compact ends a watch with store.ErrCompacted, in place of a batch or at its
	// beginning.
	Compact bool
}

// Decide says what becomes of a call. It is called for one call at a time, and
// must not call the store.
type Decide func(Call) Fault

// State is that of the connection to the store.
type State uint8

const (
	// Up is as usual.
	Up State = iota
	// Down refuses all calls and brings no batches.
	Down
	// Hung answers nothing until it is over.
	Hung
)

// Store is a store with faults. It is safe for concurrent use.
type Store struct {
	under  store.Store
	decide Decide
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	seqs    map[Call]uint64
	state   State
	changed chan struct{} // closed and replaced when state changes
}

var _ store.Store = (*Store)(nil)

// New puts faults before a store. A nil decide makes none, which leaves outages.
func New(under store.Store, decide Decide) *Store {
	if decide == nil {
		decide = func(Call) Fault { return Fault{} }
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Store{under: under, decide: decide, ctx: ctx, cancel: cancel, seqs: map[Call]uint64{}, changed: make(chan struct{})}
}

// Close drops what is to be done late, ends the watches and waits for both. The
// store below stays open.
func (s *Store) Close() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.work.Wait()
}

// Set begins or ends an outage. Leases go on ending meanwhile.
func (s *Store) Set(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != state {
		s.state = state
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// next is what becomes of a call.
func (s *Store) next(kind Kind, key string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Call{Kind: kind, Key: key}
	seq := s.seqs[c]
	s.seqs[c]++
	c.Seq = seq
	return s.decide(c)
}

// pass waits until a call may go on. What holds it up is the fault's delay, then
// an outage.
func (s *Store) pass(ctx context.Context, f Fault) error {
	if err := s.sleep(ctx, f.Delay); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		state, changed := s.state, s.changed
		s.mu.Unlock()
		switch state {
		case Up:
			return nil
		case Down:
			return fmt.Errorf("%w: the store is down", ErrInjected)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return fmt.Errorf("%w: closed", ErrInjected)
		}
	}
}

func (s *Store) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return fmt.Errorf("%w: closed", ErrInjected)
	}
}

// call does one call with its fault.
func (s *Store) call(ctx context.Context, kind Kind, key string, do func(ctx context.Context) error) error {
	f := s.next(kind, key)
	if err := s.pass(ctx, f); err != nil {
		return fmt.Errorf("%s %q: %w", kind, key, err)
	}
	switch {
	case f.Refuse:
		return fmt.Errorf("%s %q: %w: refused", kind, key, ErrInjected)
	case f.Late > 0:
		if kind == Txn || kind == Revoke {
			s.later(f.Late, do)
		}
		return fmt.Errorf("%s %q: %w: timed out", kind, key, ErrInjected)
	case f.Lose:
		_ = do(ctx) // nobody will know
		return fmt.Errorf("%s %q: %w: answer lost", kind, key, ErrInjected)
	}
	return do(ctx)
}

// later does a call whose caller has gone, unless Close comes first.
func (s *Store) later(d time.Duration, do func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	s.work.Go(func() {
		if s.sleep(s.ctx, d) == nil {
			_ = do(s.ctx) // nobody will know
		}
	})
}

// Range implements store.Store.
func (s *Store) Range(ctx context.Context, prefix string) (kvs []store.KV, revision int64, err error) {
	err = s.call(ctx, Range, prefix, func(ctx context.Context) (err error) {
		kvs, revision, err = s.under.Range(ctx, prefix)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return kvs, revision, nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (kv store.KV, ok bool, revision int64, err error) {
	err = s.call(ctx, Get, key, func(ctx context.Context) (err error) {
		kv, ok, revision, err = s.under.Get(ctx, key)
		return err
	})
	if err != nil {
		return store.KV{}, false, 0, err
	}
	return kv, ok, revision, nil
}

// Txn implements store.Store.
func (s *Store) Txn(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
	if err := store.CheckTxn(conds, ops); err != nil {
		return false, 0, err
	}
	key := ""
	if len(ops) > 0 {
		key = ops[0].Key
	}
	// A late transaction is done after its caller may have changed its slices.
	conds, ops = append([]store.Cond(nil), conds...), append([]store.Op(nil), ops...)
	type answer struct {
		ok       bool
		revision int64
	}
	var a answer
	err := s.call(ctx, Txn, key, func(ctx context.Context) error {
		ok, revision, err := s.under.Txn(ctx, conds, ops)
		if ctx != s.ctx { // else it is late, and nobody waits for the answer
			a = answer{ok, revision}
		}
		return err
	})
	if err != nil {
		return false, 0, err
	}
	return a.ok, a.revision, nil
}

// Grant implements store.Store. A lease whose answer is lost ends by itself.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (id store.LeaseID, got time.Duration, err error) {
	err = s.call(ctx, Grant, "", func(ctx context.Context) (err error) {
		id, got, err = s.under.Grant(ctx, ttl)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	return id, got, nil
}

// KeepAlive implements store.Store.
func (s *Store) KeepAlive(ctx context.Context, id store.LeaseID) (ttl time.Duration, err error) {
	err = s.call(ctx, KeepAlive, fmt.Sprintf("%x", int64(id)), func(ctx context.Context) (err error) {
		ttl, err = s.under.KeepAlive(ctx, id)
		return err
	})
	if err != nil {
		return 0, err
	}
	return ttl, nil
}

// LeaseLeft implements store.Store. It is as late as a KeepAlive, and changes nothing.
func (s *Store) LeaseLeft(ctx context.Context, id store.LeaseID) (left time.Duration, err error) {
	err = s.call(ctx, KeepAlive, fmt.Sprintf("%x", int64(id)), func(ctx context.Context) (err error) {
		left, err = s.under.LeaseLeft(ctx, id)
		return err
	})
	if err != nil {
		return 0, err
	}
	return left, nil
}

// Revoke implements store.Store.
func (s *Store) Revoke(ctx context.Context, id store.LeaseID) error {
	return s.call(ctx, Revoke, fmt.Sprintf("%x", int64(id)), func(ctx context.Context) error {
		return s.under.Revoke(ctx, id)
	})
}
