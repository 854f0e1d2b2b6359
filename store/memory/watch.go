package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/rota-project/rota/store"
)

// maxBatch is about the most events that one batch brings of several revisions.
const maxBatch = 1000

// Watch implements store.Store. A revision of zero or less is the next one.
func (s *Store) Watch(ctx context.Context, prefix string, revision int64) <-chan store.Batch {
	ch := make(chan store.Batch)
	d := s.db
	if d.enter(ctx) != nil {
		close(ch)
		return ch
	}
	defer d.mu.Unlock()
	if revision <= 0 {
		revision = d.revision + 1
	}
	d.watches.Go(func() {
		defer close(ch)
		for {
			b, next, changed := s.batch(prefix, revision)
			revision = next
			if changed != nil {
				select {
				case <-changed:
					continue
				case <-ctx.Done():
					return
				case <-d.done:
					return
				}
			}
			select {
			case ch <- b:
			case <-ctx.Done():
				return
			case <-d.done:
				return
			}
			if b.Err != nil {
				return
			}
		}
	})
	return ch
}

// batch is what there is to send from revision on, and the revision to go on
// from; if there is nothing, changed is closed at the next change.
func (s *Store) batch(prefix string, revision int64) (b store.Batch, next int64, changed <-chan struct{}) {
	d := s.db
	d.mu.Lock()
	defer d.mu.Unlock()
	if revision < d.compacted {
		return store.Batch{Revision: d.compacted, Err: store.ErrCompacted}, revision, nil
	}
	i, _ := slices.BinarySearchFunc(d.history, revision, func(c change, r int64) int { return cmp.Compare(c.revision, r) })
	full := s.root + prefix
	for ; i < len(d.history) && len(b.Events) < maxBatch; i++ {
		for _, ev := range d.history[i].events {
			if strings.HasPrefix(ev.Key, full) {
				ev.KV = s.relative(ev.KV)
				b.Events = append(b.Events, ev)
			}
		}
		b.Revision = d.history[i].revision
		revision = b.Revision + 1
	}
	if b.Revision > 0 { // also if only others were changed
		return b, revision, nil
	}
	return b, revision, d.changed
}
