package etcd

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/rota-project/rota/store"
)

// mendPause is how long to wait before a watch that etcd ended is opened again.
const mendPause = 100 * time.Millisecond

// Watch implements store.Store. A revision of zero or less is the next one.
func (s *Store) Watch(ctx context.Context, prefix string, revision int64) <-chan store.Batch {
	out := make(chan store.Batch)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	go func() {
		defer close(out)
		defer stop()
		defer cancel()
		w := watch{store: s, prefix: s.root + prefix, next: max(revision, 0), out: out, patience: s.patience}
		for w.run(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(mendPause):
			}
		}
	}()
	return out
}

// watch goes on from where it was when a member ends it, as one does that has no
// leader, and at another member when one falls behind what others have told of.
type watch struct {
	store  *Store
	prefix string
	next   int64 // the revision to go on from; 0 is not known yet
	out    chan<- store.Batch
	// patience is how long a member may be behind and say nothing. It grows while
	// no member says anything, for a long history takes a while.
	patience time.Duration
}

// run watches at one member until that fails. again says whether to watch once more.
func (w *watch) run(ctx context.Context) (again bool) {
	s := w.store
	at := s.watching.pick(s.members)
	client, _, err := s.members[at].connection()
	if err != nil {
		s.watching.leave(at, s.members)
		return ctx.Err() == nil
	}
	// Each watch has a stream of its own, so that its progress is told by itself.
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx),
		"rota-watch", strconv.FormatUint(watches.Add(1), 36)))
	defer cancel()
	opened := make(chan clientv3.WatchChan, 1) // which may have to wait for a connection
	go func() {
		opened <- client.Watch(ctx, w.prefix,
			clientv3.WithPrefix(), clientv3.WithRev(w.next), clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
	}()
	look := time.NewTicker(w.patience)
	defer look.Stop()
	var ch clientv3.WatchChan
	var owed int64               // a revision that should have come by the next look
	asked, spoke := false, false // since the last look
	for {
		select {
		case ch = <-opened:
		case resp, ok := <-ch:
			if !ok {
				s.watching.leave(at, s.members)
				return ctx.Err() == nil
			}
			spoke = true
			b, told := w.batch(&resp)
			if told {
				w.patience, owed = s.patience, 0
				select {
				case w.out <- b:
				case <-ctx.Done():
					return false
				}
			}
			if b.Err != nil {
				return false
			}
		case <-look.C:
			if asked && !spoke || owed >= w.next && w.next != 0 {
				s.watching.leave(at, s.members)
			}
			if s.watching.pick(s.members) != at { // or it is ill for other purposes
				w.patience = min(2*w.patience, s.timeout)
				return ctx.Err() == nil
			}
			owed, asked, spoke = s.heard.Load(), true, false
			if ch != nil {
				go func() { _ = client.RequestProgress(ctx) }() // what comes of it is seen
			}
		case <-ctx.Done():
			return false
		}
	}
}

// watches counts watches, to tell their streams apart.
var watches atomic.Uint64

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
	if resp.Created {
		// It has the revision of the moment: of use only if that is where the watch
		// begins. One from an old revision has all of that still to bring.
		if w.next == 0 {
			w.next = resp.Header.Revision + 1
		}
		return store.Batch{}, false
	}
	if resp.IsProgressNotify() { // all up to this revision has been sent
		if resp.Header.Revision < w.next {
			return store.Batch{}, false
		}
		w.next = resp.Header.Revision + 1
		return store.Batch{Revision: resp.Header.Revision}, true
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
