package events

import (
	"cmp"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota/scheduler/internal/view"
	"github.com/rota-project/rota/store"
)

// Defaults of Limits.
const (
	DefaultKeep = 10_000
	DefaultAge  = 7 * 24 * time.Hour
)

// Limits are how much of what happened is kept.
type Limits struct {
	// Keep is how many events: so many of tasks and jobs, and so many of all else.
	// Zero means DefaultKeep; negative: none is recorded, and none is kept.
	Keep int
	// Age is for how long. Zero means DefaultAge.
	Age time.Duration
}

func (l Limits) normalize() Limits {
	l.Keep, l.Age = cmp.Or(l.Keep, DefaultKeep), cmp.Or(l.Age, DefaultAge)
	l.Keep = max(l.Keep, 0)
	return l
}

// page is what one key holds.
type page struct {
	key    string
	first  int64 // the number of its first event, as this log has counted those of the shelf
	events []Kept
}

// rack is what a log has of one shelf.
type rack struct {
	pages []*page // in the order in which they were written
	held  int     // events on pages
	seen  int64   // events that ever were
	// gone is the latest event that is known not to be kept any more, or may once
	// have been.
	gone ID
}

// Log is a picture of what all schedulers recorded. It is safe for concurrent use.
type Log struct {
	limits Limits
	log    *slog.Logger
	sub    *view.Subscription

	mu     sync.RWMutex
	racks  [shelves]rack
	by     map[string]*page // by key
	latest ID
	moved  chan struct{} // closed when there is more
}

// NewLog returns an empty log. It takes in nothing until Follow.
func NewLog(limits Limits, log *slog.Logger) *Log {
	return &Log{limits: limits.normalize(), log: log, by: map[string]*page{}, moved: make(chan struct{})}
}

// Follow has the log take in what a picture of the store says, until Close. The picture
// must not run yet.
func (l *Log) Follow(v *view.View) {
	l.sub = v.Subscribe(nil, func(d *view.Delta) {
		if d.Reset != 0 {
			l.Reset(d.Events)
		} else {
			l.Take(d.Events)
		}
	})
}

// Close ends the interest in what Follow was given.
func (l *Log) Close() {
	if l.sub != nil {
		l.sub.Close()
	}
}

// Take takes in changes of keys below store.EventsPrefix, in their order.
func (l *Log) Take(changes []store.Event) {
	if len(changes) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		if c.Deleted {
			l.remove(c.Key)
		} else {
			l.add(c.KV)
		}
	}
	l.wake()
}

// Reset takes in all keys that there are.
func (l *Log) Reset(all []store.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	there := make(map[string]bool, len(all))
	for _, c := range all {
		there[c.Key] = true
	}
	for key := range l.by {
		if !there[key] {
			l.remove(key)
		}
	}
	var empty [shelves]bool
	for s := range l.racks {
		empty[s] = l.racks[s].seen == 0
	}
	for _, c := range slices.SortedFunc(slices.Values(all), func(a, b store.Event) int { return cmp.Compare(a.Create, b.Create) }) {
		l.add(c.KV)
	}
	for s := range l.racks {
		if r := &l.racks[s]; empty[s] && r.held > 0 {
			r.gone = r.pages[0].id() // nobody knows what was before
		}
	}
	l.wake()
}

// id is that of the first event, if there is one.
func (p *page) id() ID {
	if len(p.events) == 0 {
		return ID{}
	}
	return p.events[0].ID
}

func (l *Log) wake() {
	close(l.moved)
	l.moved = make(chan struct{})
}

// add takes a page in. What cannot be read is passed over: it is nothing to decide by.
func (l *Log) add(kv store.KV) {
	name, _, _ := strings.Cut(strings.TrimPrefix(kv.Key, store.EventsPrefix), "/")
	s, ok := shelfIn(name)
	if !ok || l.by[kv.Key] != nil {
		return // of a later version; or written anew, and pages never change
	}
	r := &l.racks[s]
	p := &page{key: kv.Key, first: r.seen}
	l.by[kv.Key] = p // a page that cannot be read is to be removed in its time like any other
	events, err := decode(kv.Value, kv.Create)
	if err != nil {
		l.log.Warn("a page of events cannot be read", "key", kv.Key, "error", err)
	}
	p.events = events
	r.pages = append(r.pages, p)
	r.held += len(events)
	r.seen += int64(len(events))
	for _, e := range events {
		if l.latest.Less(e.ID) {
			l.latest = e.ID
		}
	}
}

func (l *Log) remove(key string) {
	p := l.by[key]
	if p == nil {
		return
	}
	delete(l.by, key)
	for s := range l.racks {
		r := &l.racks[s]
		n := slices.Index(r.pages, p)
		if n < 0 {
			continue
		}
		r.pages = slices.Delete(r.pages, n, n+1)
		r.held -= len(p.events)
		for _, e := range p.events {
			if r.gone.Less(e.ID) {
				r.gone = e.ID
			}
		}
	}
}

// surplus are keys that need not be kept any more, at most so many.
func (l *Log) surplus(now time.Time, most int) (keys []string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for s := range l.racks {
		r := &l.racks[s]
		held := r.held
		for _, p := range r.pages {
			if len(keys) == most {
				return keys
			}
			if held-len(p.events) < l.limits.Keep && !l.old(p, now) {
				break
			}
			held -= len(p.events)
			keys = append(keys, p.key)
		}
	}
	return keys
}

// old reports whether all of a page is older than what is kept.
func (l *Log) old(p *page, now time.Time) bool {
	for _, e := range p.events {
		if now.Sub(e.Time) <= l.limits.Age {
			return false
		}
	}
	return len(p.events) > 0 || l.limits.Keep == 0
}
