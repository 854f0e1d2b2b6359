package view

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

// The tables of the picture.
type (
	// Tasks are all declared tasks.
	Tasks = table.Table[record.Task]
	// Grants are those of one worker.
	Grants = table.Table[record.Grant]
	// Acks are what one worker said of its grants.
	Acks = table.Table[record.Ack]
)

// Session is a living worker.
type Session struct {
	ID  int64 // the revision at which the key was created
	Mod int64 // the revision at which it was written last
	*storepb.Session
}

// GetLeaving reports whether the worker takes nothing new. It may be called on nil.
func (s *Session) GetLeaving() bool { return s != nil && s.Session.GetLeaving() }

// Leader is who leads: Epoch is the revision at which the leader's key was created.
type Leader struct {
	Name  string
	Epoch int64
}

// View is the picture. Fields are read inside Read, Subscribe's first call and
// subscribers only, and never changed there.
type View struct {
	store store.Store
	log   *slog.Logger

	mu       sync.RWMutex
	revision int64         // everything up to here is in
	asOf     time.Time     // the picture was that of the store at this moment
	moved    chan struct{} // closed when revision grows
	subs     map[*Subscription]struct{}
	listing  bool          // a listing is under way
	meantime []store.Event // what was Applied since it began

	Tasks      *Tasks
	Grants     map[string]*Grants // by worker
	Acks       map[string]*Acks   // by worker
	Sessions   map[string]*Session
	Nodes      map[string]*storepb.Node
	Schedulers map[string]*storepb.Scheduler
	Sources    map[string]*storepb.Source
	Programs   map[string]*storepb.Program
	Takers     map[*Kind]map[string]Taker    // who takes work of a kind, by worker
	OldWorkers map[string]*storepb.OldWorker // by id
	SignIns    map[string]*storepb.SignIn    // by the hash of what the browser has
	Pools      map[string]*storepb.Pool
	PoolStates map[string]*storepb.PoolState
	// PoolWorkers are the workers that engines were asked to start, by name.
	PoolWorkers map[string]*storepb.PoolWorker
	Engines     *storepb.Engines
	Leader      *Leader // nil while there is none
	Cluster     *storepb.Cluster
	Suspects    map[string]*storepb.Suspect // tasks that may be killing their workers, by id

	holders map[rota.Instance]*[]string // workers with a grant, by instance
	single  map[string]*[]string        // one shared list a worker, for holders
	counts  counts
	kinds   []*Kind
	keys    map[string]int64          // modification revisions of keys that are no pages
	unread  map[string][]table.Unread // by the prefix of their table, or key
}

// Delta is what changed between one look at the picture and the next.
type Delta struct {
	Tasks      []table.Change[record.Task]
	Grants     map[string][]table.Change[record.Grant]
	Acks       map[string][]table.Change[record.Ack]
	Sessions   []SessionChange
	Nodes      []string
	Schedulers bool
	Sources    bool
	Leader     bool
	Cluster    bool
	Suspects   bool
	Kick       bool // somebody asked for a pass
	Unread     bool // what cannot be read
	Programs   []string
	Ended      []*storepb.Program // as they were last
	OldWorkers []string
	// Records are events of keys of kinds of work as they come, Events are those of the log
	// of what happened: the kinds, and package events, have the pictures of that. With Reset
	// they are all that there was at that revision.
	Records map[*Kind][]store.Event
	Events  []store.Event
	Reset   int64
	// Takers are the workers of which it has changed whether they take work of a kind.
	Takers map[*Kind][]string
	// Pools says that something of pools or of their workers.
	Pools bool
}

// SessionChange is a worker that came (Old nil), went (New nil), or changed.
type SessionChange struct {
	Name     string
	Old, New *Session
}

// Subscription is told every Delta, in order.
type Subscription struct {
	v *View
	f func(*Delta)
}

// New returns an empty picture of s.
func New(s store.Store, log *slog.Logger) *View {
	v := &View{store: s, log: log, moved: make(chan struct{}), subs: map[*Subscription]struct{}{}, Takers: map[*Kind]map[string]Taker{}}
	v.clear()
	return v
}

func (v *View) clear() {
	v.Tasks = record.NewTasks()
	v.Grants = map[string]*Grants{}
	v.Acks = map[string]*Acks{}
	v.Sessions = map[string]*Session{}
	v.Nodes = map[string]*storepb.Node{}
	v.Schedulers = map[string]*storepb.Scheduler{}
	v.Sources = map[string]*storepb.Source{}
	v.Programs = map[string]*storepb.Program{}
	v.OldWorkers = map[string]*storepb.OldWorker{}
	v.SignIns = map[string]*storepb.SignIn{}
	v.Pools = map[string]*storepb.Pool{}
	v.PoolStates = map[string]*storepb.PoolState{}
	v.PoolWorkers = map[string]*storepb.PoolWorker{}
	v.Engines = &storepb.Engines{}
	v.Cluster = &storepb.Cluster{}
	v.Suspects = map[string]*storepb.Suspect{}
	v.holders = map[rota.Instance]*[]string{}
	v.single = map[string]*[]string{}
	v.counts = counts{weights: map[string]*sum{}}
	v.keys = map[string]int64{}
	v.unread = map[string][]table.Unread{}
}

// Run keeps the picture true until ctx ends. It returns early only if the store has
// gone back (store.ErrWentBack). What cannot be read is set aside; see Unread.
func (v *View) Run(ctx context.Context) error {
	v.mu.Lock()
	v.asOf = time.Now() // from here on it should be heard of
	v.mu.Unlock()
	outer := ctx
	ctx, stop := context.WithCancelCause(outer)
	beaten := make(chan struct{})
	go func() {
		defer close(beaten)
		v.confirm(ctx, stop)
	}()
	defer func() {
		stop(nil)
		<-beaten
	}()
	for outer.Err() == nil {
		err := v.follow(ctx)
		if cause := context.Cause(ctx); errors.Is(cause, store.ErrWentBack) {
			return cause
		}
		switch {
		case ctx.Err() != nil:
			return nil // asked to end: whatever the store said then is of no interest
		case errors.Is(err, store.ErrWentBack):
			return err
		case errors.Is(err, store.ErrCompacted):
			v.log.Info("history compacted, reading everything again")
			continue
		}
		v.log.Warn("the store does not answer", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
	return nil
}

// retryEvery is the pause between attempts to read the store.
const retryEvery = 200 * time.Millisecond

// confirmEvery is how often the picture is compared with the store's revision.
const confirmEvery = 500 * time.Millisecond

// confirm asks the store again and again how far it is, and notes when the picture
// was that far. It also has the store notice a member that is ill while there is
// nothing to write.
// stop is told if the store has gone back.
func (v *View) confirm(ctx context.Context, stop context.CancelCauseFunc) {
	for ctx.Err() == nil {
		asked := time.Now()
		one, cancel := context.WithTimeout(ctx, 10*confirmEvery)
		before := v.Revision()
		_, _, rev, err := v.store.Get(one, store.LeaderKey)
		if err == nil && rev < before {
			cancel()
			stop(fmt.Errorf("%w: it is at %d, and was at %d", store.ErrWentBack, rev, before))
			return
		}
		if err == nil && v.Wait(one, rev) == nil {
			v.mu.Lock()
			v.asOf = asked
			v.mu.Unlock()
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(confirmEvery - time.Since(asked)):
		}
	}
}

// AsOf is the latest moment at which the picture is known to have been that of the
// store; before the first, when Run was called.
func (v *View) AsOf() time.Time {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.asOf
}

// follow lists everything, then watches until the watch ends.
func (v *View) follow(ctx context.Context) error {
	v.mu.Lock()
	v.listing, v.meantime = true, nil
	v.mu.Unlock()
	kvs, rev, err := v.store.Range(ctx, "")
	if err != nil {
		return fmt.Errorf("read all: %w", err)
	}
	if have := v.Revision(); rev < have {
		return fmt.Errorf("%w: it is at %d, and was at %d", store.ErrWentBack, rev, have)
	}
	v.reset(kvs, rev)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for b := range v.store.Watch(ctx, "", rev+1) {
		if b.Err != nil {
			return b.Err
		}
		v.apply(b.Events, b.Revision)
	}
	return ctx.Err()
}

// reset replaces the picture by a listing, and tells subscribers the difference.
// What was Applied while it was made is in the picture before and after.
func (v *View) reset(kvs []store.KV, rev int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	late := v.sorted(v.meantime)
	v.listing, v.meantime = false, nil
	var tasks []store.KV
	grants, acks := map[string][]store.KV{}, map[string][]store.KV{}
	for worker := range v.Grants {
		grants[worker] = nil
	}
	for worker := range v.Acks {
		acks[worker] = nil
	}
	gone := maps.Clone(v.keys)
	var events []store.Event
	for _, kv := range kvs {
		if strings.HasPrefix(kv.Key, store.TasksPrefix) {
			tasks = append(tasks, kv)
		} else if name, ok := store.NameIn(store.GrantsPrefix, kv.Key); ok {
			grants[name] = append(grants[name], kv)
		} else if name, ok := store.NameIn(store.AcksPrefix, kv.Key); ok {
			acks[name] = append(acks[name], kv)
		} else {
			delete(gone, kv.Key)
			events = append(events, store.Event{KV: kv})
		}
	}
	for key := range gone {
		events = append(events, store.Event{KV: store.KV{Key: key, Mod: rev}, Deleted: true})
	}
	d := v.take(events, 0)
	d.Reset = rev
	d.Tasks = v.Tasks.ResetThen(tasks, rev, late.tasks)
	v.setAside(d, v.Tasks.Prefix(), v.Tasks.Unread())
	v.countTasks(d.Tasks)
	for worker, kvs := range grants {
		v.granted(d, worker, v.grantsOf(worker).ResetThen(kvs, rev, late.grants[worker]))
		v.drop(worker, rev)
	}
	for worker, kvs := range acks {
		v.acked(d, worker, v.acksOf(worker).ResetThen(kvs, rev, late.acks[worker]))
		v.drop(worker, rev)
	}
	v.tell(d, rev)
}

// Applied tells the picture of pages that a transaction of this process wrote
// at a revision.
func (v *View) Applied(units []table.Unit, rev int64) {
	v.apply(table.Events(units, rev), 0)
}

// apply takes events in; with a revision, the picture is then whole up to there.
func (v *View) apply(events []store.Event, rev int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.listing && rev == 0 {
		v.meantime = append(v.meantime, events...)
	}
	v.tell(v.take(events, rev), rev)
}

// tell passes a delta to the subscribers and moves the revision on.
func (v *View) tell(d *Delta, rev int64) {
	if !d.empty() {
		for s := range v.subs {
			s.f(d)
		}
	}
	if rev > v.revision {
		v.revision = rev
		close(v.moved)
		v.moved = make(chan struct{})
	}
}

// Read calls f while the picture stands still. f must be quick and keep nothing
// but records, which never change.
func (v *View) Read(f func()) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	f()
}

// Revision is the revision up to which the picture is whole.
func (v *View) Revision() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.revision
}

// Wait returns when the picture is whole up to rev.
func (v *View) Wait(ctx context.Context, rev int64) error {
	for {
		v.mu.RLock()
		at, moved := v.revision, v.moved
		v.mu.RUnlock()
		if at >= rev {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", rev, ctx.Err())
		}
	}
}

// catchUpTimeout bounds CatchUp: whoever asked is told before they go.
const catchUpTimeout = 10 * time.Second

// CatchUp returns when the picture has all that the store had when it was called. A call
// that answers by the picture that there is nothing to do, or that it cannot be done,
// catches up first: another scheduler may have done something a moment ago.
func (v *View) CatchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	_, _, rev, err := v.store.Get(ctx, store.LeaderKey)
	if err != nil {
		return err
	}
	return v.Wait(ctx, rev)
}

// Subscribe calls first while the picture stands still, and from then on each
// for every change after that. each runs while the picture stands still, must
// be quick and must not call the View's methods but those that say so.
func (v *View) Subscribe(first func(), each func(*Delta)) *Subscription {
	v.mu.Lock()
	defer v.mu.Unlock()
	if first != nil {
		first()
	}
	s := &Subscription{v, each}
	v.subs[s] = struct{}{}
	return s
}

// Close ends the subscription: no call runs or begins after it returns.
func (s *Subscription) Close() {
	s.v.mu.Lock()
	defer s.v.mu.Unlock()
	delete(s.v.subs, s)
}

// Mod is the revision at which a key that is no page was written last; 0 if it
// is absent. Call it inside Read.
func (v *View) Mod(key string) int64 { return v.keys[key] }

// Holders are the workers that have a grant of i; call it inside Read.
func (v *View) Holders(i rota.Instance) []string {
	if have := v.holders[i]; have != nil {
		return *have
	}
	return nil
}

// Grant answers the grant of i on worker; call it inside Read.
func (v *View) Grant(worker string, i rota.Instance) (*record.Grant, bool) {
	t := v.Grants[worker]
	if t == nil {
		return nil, false
	}
	return t.Get(record.InstanceKey(i))
}

// Ack answers what worker said of i; call it inside Read.
func (v *View) Ack(worker string, i rota.Instance) (*record.Ack, bool) {
	t := v.Acks[worker]
	if t == nil {
		return nil, false
	}
	return t.Get(record.InstanceKey(i))
}
