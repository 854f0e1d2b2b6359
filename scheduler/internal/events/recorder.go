package events

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rota-project/rota/internal/backoff"
	"github.com/rota-project/rota/scheduler/internal/record"
	"github.com/rota-project/rota/scheduler/internal/storepb"
	"github.com/rota-project/rota/store"
)

const (
	// gather is the least time between two writes: what happens meanwhile goes into
	// the next.
	gather = 500 * time.Millisecond
	// settle is how long the first of them waits for what happens together with it.
	settle = 100 * time.Millisecond
	// pageBytes is about the most that a page takes.
	pageBytes = 48 << 10
	// maxWaiting is how many events may wait to be written.
	maxWaiting = 4096
	// storeTimeout bounds each attempt to write.
	storeTimeout = 5 * time.Second
	// closeTimeout bounds the last ones.
	closeTimeout = time.Second
	// retryFirst and retryMost are the pauses after a write that was not confirmed.
	retryFirst, retryMost = time.Second, 15 * time.Second
	// tellLeftOut is how often it is told at most what was left out.
	tellLeftOut = 10 * time.Second
	// pruneEvery is how often what is too old is removed while nothing happens.
	pruneEvery = time.Minute
	// pruneOps is how many pages one transaction removes.
	pruneOps = store.MaxTxnOps - 8
)

// Config is what a Recorder needs.
type Config struct {
	Store store.Store
	// Log is the picture of the same store. It says what is to be removed.
	Log *Log
	// Scheduler is the name of the scheduler whose events these are.
	Scheduler string
	// Leads says whether it is for this scheduler to remove what is too old.
	Leads func() bool
	// Logger gets what goes wrong.
	Logger *slog.Logger
}

// Recorder writes events into the log. It never holds anybody up. A nil one does nothing.
type Recorder struct {
	cfg  Config
	boot string // makes the keys its own

	mu      sync.Mutex
	waiting []Event
	budget  budget
	repeats repeater
	left    map[string]int // by kind
	closed  bool
	counts  Counts

	signal chan struct{}
	cancel context.CancelFunc
	ended  chan struct{}
}

// Counts are what a recorder has done since it began.
type Counts struct {
	Recorded, LeftOut, Writes, Bytes uint64
}

// NewRecorder returns a recorder. Close it.
func NewRecorder(cfg Config) *Recorder {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Recorder{
		cfg: cfg, boot: strings.ToLower(rand.Text()[:10]), left: map[string]int{}, signal: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go r.run(ctx)
	return r
}

// Close writes what waits, within a second, and ends it.
func (r *Recorder) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	<-r.ended
}

// Counts answers what was done.
func (r *Recorder) Counts() Counts {
	if r == nil {
		return Counts{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// Wants reports whether an event of a kind would be recorded now. If not, it counts as
// left out. Whoever may have very many asks before making each.
func (r *Recorder) Wants(kind string) bool {
	if r == nil || r.cfg.Log.limits.Keep == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if len(r.waiting) < maxWaiting && r.budget.room(kind, time.Now(), false) {
		return true
	}
	r.leave(kind, 1)
	return false
}

// Leave counts events of a kind that are not recorded.
func (r *Recorder) Leave(kind string, n int) {
	if r == nil || n <= 0 || r.cfg.Log.limits.Keep == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(kind, n)
}

// leave counts; r.mu is held.
func (r *Recorder) leave(kind string, n int) {
	r.left[kind] += n
	r.counts.LeftOut += uint64(n)
	r.wake()
}

// Record has an event written down soon, or counts it as left out.
func (r *Recorder) Record(e Event) {
	if r == nil || r.cfg.Log.limits.Keep == 0 {
		return
	}
	now := time.Now()
	if e.Time.IsZero() {
		e.Time = now
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.repeats.hold(e, now) {
		return
	}
	r.put(e, now)
	r.wake()
}

// put has an event wait, if there is room; r.mu is held.
func (r *Recorder) put(e Event, now time.Time) {
	if len(r.waiting) >= maxWaiting || !r.budget.room(e.Kind, now, true) {
		r.leave(e.Kind, max(1, e.Count))
		return
	}
	r.counts.Recorded++
	r.waiting = append(r.waiting, e)
}

func (r *Recorder) wake() {
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// run writes.
func (r *Recorder) run(ctx context.Context) {
	defer close(r.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var told time.Time // when it was last told what was left out
	var unsure *write
	pruned, number := time.Now(), 0
	for ctx.Err() == nil {
		pages, at := r.batch(time.Now(), &told, false)
		if len(pages) > 0 {
			number++
			w := r.stage(pages, number)
			if !r.write(ctx, w) {
				unsure = w
				break
			}
			pruned = time.Now()
			_ = backoff.Sleep(ctx, gather)
			continue
		}
		if time.Since(pruned) >= pruneEvery {
			pruned = time.Now()
			r.prune(ctx)
		}
		if next := pruned.Add(pruneEvery); at.IsZero() || next.Before(at) {
			at = next
		}
		timer.Reset(max(0, time.Until(at)))
		select {
		case <-r.signal:
			_ = backoff.Sleep(ctx, settle)
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if unsure != nil && !r.write(last, unsure) {
		return
	}
	for {
		pages, _ := r.batch(time.Now(), &told, true)
		number++
		if len(pages) == 0 || !r.write(last, r.stage(pages, number)) {
			return
		}
	}
}

// batch takes what is to be written next: a page for each shelf that has something. at
// is when there may be more, zero if nobody knows.
func (r *Recorder) batch(now time.Time, told *time.Time, closing bool) (pages map[shelf]*storepb.EventPage, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.repeats.due(now, closing) {
		r.put(e, now)
	}
	at = r.repeats.next()
	if len(r.left) > 0 {
		if next := told.Add(tellLeftOut); closing || !now.Before(next) {
			r.waiting = append(r.waiting, leftOut(r.left, now))
			clear(r.left)
			*told = now
		} else if at.IsZero() || next.Before(at) {
			at = next
		}
	}
	pages = map[shelf]*storepb.EventPage{}
	var size [shelves]int
	taken := 0
	for _, e := range r.waiting {
		s, m := shelfOf(e.Kind), encode(e, uint32(taken))
		n := proto.Size(m) + 8
		if size[s] > 0 && size[s]+n > pageBytes {
			break
		}
		size[s] += n
		if pages[s] == nil {
			pages[s] = &storepb.EventPage{Version: record.Version, Scheduler: r.cfg.Scheduler}
		}
		pages[s].Events = append(pages[s].Events, m)
		taken++
	}
	r.waiting = slices.Delete(r.waiting, 0, taken)
	return pages, at
}

// leftOut is the event that says what was left out.
func leftOut(left map[string]int, now time.Time) Event {
	var words []string
	sum := 0
	for _, kind := range slices.Sorted(maps.Keys(left)) {
		words = append(words, fmt.Sprintf("%d %s", left[kind], kind))
		sum += left[kind]
	}
	return Event{Kind: LeftOut, Time: now, Text: "more happened at once than is recorded one by one; left out: " + strings.Join(words, ", "), LeftOut: sum}
}

// write is a transaction that writes pages under keys of their own, and removes what is
// not kept any more. Done twice it does nothing the second time.
type write struct {
	conds []store.Cond
	ops   []store.Op
	bytes int // of the pages
}

func (r *Recorder) stage(pages map[shelf]*storepb.EventPage, number int) *write {
	w := &write{}
	for s, p := range pages {
		value, err := record.Encode(p)
		if err != nil {
			r.cfg.Logger.Error("events cannot be written", "error", err)
			continue
		}
		op := store.Op{Key: store.EventKey(shelfNames[s], fmt.Sprintf("%s-%06x", r.boot, number)), Value: value}
		w.conds = append(w.conds, store.Cond{Key: op.Key, By: store.ByCreate})
		w.ops = append(w.ops, op)
		w.bytes += op.Size()
	}
	for _, key := range r.cfg.Log.surplus(time.Now(), pruneOps) {
		w.ops = append(w.ops, store.Op{Key: key, Delete: true})
	}
	return w
}

// write tries until it is known that w is done, or ctx ends.
func (r *Recorder) write(ctx context.Context, w *write) (done bool) {
	retry := backoff.Backoff{First: retryFirst, Most: retryMost}
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, storeTimeout)
		_, _, err := r.cfg.Store.Txn(one, w.conds, w.ops) // refused: it was done before
		cancel()
		if err == nil {
			r.mu.Lock()
			r.counts.Writes++
			r.counts.Bytes += uint64(w.bytes)
			r.mu.Unlock()
			return true
		}
		r.cfg.Logger.Debug("events are not written yet", "error", err)
		_ = retry.Wait(ctx)
	}
	return false
}

// prune removes what is not kept any more, if that is for this scheduler to do.
func (r *Recorder) prune(ctx context.Context) {
	if r.cfg.Leads == nil || !r.cfg.Leads() {
		return
	}
	var ops []store.Op
	for _, key := range r.cfg.Log.surplus(time.Now(), pruneOps) {
		ops = append(ops, store.Op{Key: key, Delete: true})
	}
	if len(ops) == 0 {
		return
	}
	one, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if _, _, err := r.cfg.Store.Txn(one, nil, ops); err != nil {
		r.cfg.Logger.Debug("old events are not removed yet", "error", err)
	}
}
