package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rota-project/rota/store"
)

// mendPause is how long to wait before a watch that etcd ended is opened again.
const mendPause = 100 * time.Millisecond

// Watch implements store.Store. A revision of zero or less is the next one.
func (s *Store) Watch(ctx context.Context, prefix string, revision int64) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		w := watch{store: s, prefix: s.root + prefix, next: max(revision, 0), out: out}
		for w.run(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-s.client.Ctx().Done():
				return
			case <-time.After(mendPause):
			}
		}
	}()
	return out
}

// watch goes on from where it was when etcd ends it, as it does when the member
// has no leader.
type watch struct {
	store  *Store
	prefix string
	next   int64 // the revision to go on from; 0 is not known yet
	out    chan<- store.Batch
}

// run opens the watch and passes it on until it breaks. again says whether to
// open it once more.
func (w *watch) run(ctx context.Context) (again bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := w.store.client.Watch(clientv3.WithRequireLeader(ctx), w.prefix,
		clientv3.WithPrefix(), clientv3.WithRev(w.next), clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
	for resp := range ch {
		b, ok := w.batch(&resp)
		if ok {
			select {
			case w.out <- b:
			case <-ctx.Done():
				return false
			}
		}
		if b.Err != nil {
			return false
		}
	}
	return ctx.Err() == nil && w.store.client.Ctx().Err() == nil
}

// batch is what resp brings; ok is false if that is nothing for the caller.
func (w *watch) batch(resp *clientv3.WatchResponse) (b store.Batch, ok bool) {
	err := resp.Err()
	switch {
	case resp.CompactRevision != 0:
		return store.Batch{Revision: resp.CompactRevision, Err: store.ErrCompacted}, true
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return store.Batch{Err: wrap(err, "watch %q", w.prefix)}, true
	case err != nil:
		return store.Batch{}, false // the channel closes, and the watch is opened again
	}
	if resp.Created || resp.IsProgressNotify() {
		// All up to this revision has been sent. A watch from an old or a future
		// revision has that of the moment in its created response: of no use.
		if w.next == 0 || resp.IsProgressNotify() && !resp.Created {
			w.next = max(w.next, resp.Header.Revision+1)
		}
		if len(resp.Events) == 0 {
			return store.Batch{}, false
		}
	}
	for _, ev := range resp.Events {
		e := store.Event{KV: w.store.relative(ev.Kv), Deleted: ev.Type == clientv3.EventTypeDelete}
		if e.Deleted {
			e.KV = store.KV{Key: e.Key, Mod: e.Mod}
		}
		b.Events = append(b.Events, e)
	}
	if len(b.Events) == 0 {
		return store.Batch{}, false
	}
	b.Revision = b.Events[len(b.Events)-1].Mod
	w.next = max(w.next, b.Revision+1)
	return b, true
}
