package faulty

import (
	"context"
	"errors"

	"github.com/rota-project/rota/store"
)

// Watch implements store.Store. Refuse ends it with ErrInjected, Compact with
// store.ErrCompacted, at its beginning or in place of a batch; Delay holds up the
// batch and all after it. In an outage no batch comes; they come after it.
func (s *Store) Watch(ctx context.Context, prefix string, revision int64) <-chan store.Batch {
	out := make(chan store.Batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		close(out)
		return out
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	in := s.under.Watch(ctx, prefix, revision)
	s.work.Go(func() {
		defer close(out)
		defer func() {
			stop()
			cancel()
			for range in {
			}
		}()
		s.follow(ctx, prefix, revision, in, out)
	})
	return out
}

func (s *Store) follow(ctx context.Context, prefix string, revision int64, in <-chan store.Batch, out chan<- store.Batch) {
	fault := s.next(Watch, prefix)
	for first := true; ; first = false {
		b := store.Batch{Revision: revision}
		if !first {
			var ok bool
			if b, ok = <-in; !ok {
				return
			}
			fault = s.next(Batch, prefix)
		}
		if s.hold(ctx, fault) != nil {
			return
		}
		switch {
		case fault.Compact:
			b = store.Batch{Revision: b.Revision, Err: store.ErrCompacted}
		case fault.Refuse || fault.Lose || fault.Late > 0:
			b = store.Batch{Revision: b.Revision, Err: ErrInjected}
		case first:
			continue
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return
		}
		if b.Err != nil {
			return
		}
	}
}

// hold waits until a batch may come: in an outage, until that is over.
func (s *Store) hold(ctx context.Context, f Fault) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		err := s.pass(ctx, f)
		if !errors.Is(err, ErrInjected) || s.ctx.Err() != nil {
			return err
		}
		f.Delay = 0
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
