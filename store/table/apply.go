package table

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rota-project/rota/store"
)

// pageEvent is what becomes of a page; page is nil if it is deleted.
type pageEvent[R any] struct {
	bound string
	mod   int64
	page  *page[R]
}

// Apply takes in events of pages: a batch of a watch, or all writes of a
// transaction of the owner's own that was done (see Events). Events of keys that
// are not below the prefix are ignored, and so are events that are no news: late
// or repeated ones. All events of one call are one step. Apply returns the net
// changes of records, in order of key: a record that only moved between pages is
// no change.
//
// If a page does not decode, the table stays as it is. The error names the key;
// it wraps what the codec returned, or ErrCorrupt.
//
// Cost is in proportion to the pages that change (and, when pages come and go,
// to the number of pages).
func (t *Table[R]) Apply(events []store.Event) ([]Change[R], error) {
	var news []pageEvent[R]
	// The last event of each key is the one that counts.
	newest := make(map[string]int64, len(events))
	for i := range events {
		if strings.HasPrefix(events[i].Key, t.prefix) {
			newest[events[i].Key] = max(newest[events[i].Key], events[i].Mod)
		}
	}
	empty := t.emptyAt(events, newest)
	for i := range events {
		ev := &events[i]
		if mod, ours := newest[ev.Key]; !ours || ev.Mod < mod {
			continue
		}
		delete(newest, ev.Key) // the same event twice in one call counts once
		bound, err := t.boundOf(ev.Key)
		if err != nil {
			return nil, err
		}
		if ev.Mod <= max(t.known(bound), empty) && (bound != "" || ev.Mod <= t.known("")) {
			continue
		}
		e := pageEvent[R]{bound: bound, mod: ev.Mod}
		if !ev.Deleted {
			if e.page, err = t.decode(&ev.KV); err != nil {
				return nil, err
			}
		}
		news = append(news, e)
	}
	if empty > t.floor {
		isNews := make(map[string]bool, len(news))
		for _, e := range news {
			isNews[e.bound] = true
		}
		for _, p := range t.pages {
			if p.mod <= empty && !isNews[p.bound] {
				news = append(news, pageEvent[R]{bound: p.bound, mod: empty})
			}
		}
	}
	slices.SortFunc(news, func(a, b pageEvent[R]) int { return cmp.Compare(a.bound, b.bound) })
	changes, err := t.install(news)
	if err != nil {
		return nil, err
	}
	t.Advance(empty)
	return changes, nil
}

// emptyAt is the last revision at which events say that the table was empty: it
// is when its root is deleted, and just before its root is made. What was until
// then has no say any more. That matters to an owner that made or deleted the
// root and hears of the time before only now, or of its own deed only after it.
func (t *Table[R]) emptyAt(events []store.Event, newest map[string]int64) int64 {
	mod, ours := newest[t.prefix]
	if !ours || mod <= t.known("") {
		return 0
	}
	for i := range events {
		if ev := &events[i]; ev.Key == t.prefix && ev.Mod == mod {
			if ev.Deleted {
				return mod
			}
			return ev.Create - 1
		}
	}
	return 0
}

// Reset replaces everything by a listing, as after a watch that was compacted,
// and returns the net changes of records, in order of key. Say by Advance at
// which revision the listing was read. If a page does not decode, the table
// stays as it is.
func (t *Table[R]) Reset(kvs []store.KV) ([]Change[R], error) {
	news := make([]pageEvent[R], 0, len(kvs))
	floor := t.floor
	for i := range kvs {
		if !strings.HasPrefix(kvs[i].Key, t.prefix) {
			continue
		}
		p, err := t.sameOrDecode(&kvs[i])
		if err != nil {
			return nil, err
		}
		news = append(news, pageEvent[R]{bound: p.bound, mod: p.mod, page: p})
		floor = max(floor, p.mod)
	}
	slices.SortFunc(news, func(a, b pageEvent[R]) int { return cmp.Compare(a.bound, b.bound) })
	next := make([]*page[R], len(news))
	n := 0
	for i, e := range news {
		if i > 0 && e.bound == news[i-1].bound {
			return nil, fmt.Errorf("%w: key %q is listed twice", ErrCorrupt, t.pageKey(e.bound))
		}
		next[i] = e.page
		n += len(e.page.recs)
	}
	for i := range next {
		if err := t.checkSeam(next, i); err != nil {
			return nil, err
		}
	}
	changes := t.diff(t.pages, next)
	t.pages, t.n = next, n
	t.tombs = map[string]int64{}
	// Whatever happened up to the newest listed page is in the listing.
	t.floor = floor
	return changes, nil
}

// ResetThen is Reset, Advance to the listing's revision, and Apply of events that
// may be later than it, as one step: an owner that wrote while it listed does not
// see its own writes undone for an instant.
func (t *Table[R]) ResetThen(kvs []store.KV, revision int64, later []store.Event) ([]Change[R], error) {
	before := t.pages
	if _, err := t.Reset(kvs); err != nil {
		return nil, err
	}
	t.Advance(revision)
	if _, err := t.Apply(later); err != nil {
		return nil, err
	}
	return t.diff(before, t.pages), nil
}

// sameOrDecode is the page that is known already, if kv is that.
func (t *Table[R]) sameOrDecode(kv *store.KV) (*page[R], error) {
	bound, err := t.boundOf(kv.Key)
	if err != nil {
		return nil, err
	}
	if i, ok := t.findPage(bound); ok && t.pages[i].mod == kv.Mod {
		return t.pages[i], nil
	}
	return t.decode(kv)
}

// Advance says that every event up to revision has been applied: after a batch
// of the watch or a listing, its revision. The table then need not remember
// deleted pages that long. It is never wrong not to call it.
func (t *Table[R]) Advance(revision int64) {
	if revision <= t.floor {
		return
	}
	t.floor = revision
	maps.DeleteFunc(t.tombs, func(_ string, mod int64) bool { return mod <= revision })
}

// known is the revision up to which the page's history is known.
func (t *Table[R]) known(bound string) int64 {
	if i, ok := t.findPage(bound); ok {
		return max(t.pages[i].mod, t.floor)
	}
	return max(t.tombs[bound], t.floor)
}

// install puts news, in order of bound and each newer than what is known, in place.
func (t *Table[R]) install(news []pageEvent[R]) ([]Change[R], error) {
	if len(news) == 0 {
		return nil, nil
	}
	next := make([]*page[R], 0, len(t.pages)+len(news))
	var before, after []*page[R]
	var fresh []int // indexes in next of pages that are new or beside a deleted one
	n, i := t.n, 0
	for _, e := range news {
		j, found := slices.BinarySearchFunc(t.pages[i:], e.bound, func(p *page[R], b string) int { return cmp.Compare(p.bound, b) })
		next = append(next, t.pages[i:i+j]...)
		i += j
		if found {
			before = append(before, t.pages[i])
			n -= len(t.pages[i].recs)
			i++
		}
		if e.page != nil {
			after = append(after, e.page)
			n += len(e.page.recs)
			fresh = append(fresh, len(next))
			next = append(next, e.page)
		}
	}
	next = append(next, t.pages[i:]...)
	for _, i := range fresh {
		if err := t.checkSeam(next, i); err != nil {
			return nil, err
		}
		if err := t.checkSeam(next, i-1); err != nil {
			return nil, err
		}
	}
	for _, e := range news {
		if e.page == nil {
			t.tombs[e.bound] = e.mod
		} else {
			delete(t.tombs, e.bound)
		}
	}
	t.pages, t.n = next, n
	return t.diff(before, after), nil
}

// checkSeam says whether page i ends before the next begins.
func (t *Table[R]) checkSeam(pages []*page[R], i int) error {
	if i < 0 || i+1 >= len(pages) || len(pages[i].recs) == 0 {
		return nil
	}
	p, next := pages[i], pages[i+1]
	if key := t.codec.Key(&p.recs[len(p.recs)-1]); key >= next.bound {
		return fmt.Errorf("%w: key %q: record %q belongs to %q", ErrCorrupt, t.pageKey(p.bound), key, t.pageKey(next.bound))
	}
	return nil
}

// diff compares the records of two runs of pages. Pages that are the same in
// both cost nothing.
func (t *Table[R]) diff(before, after []*page[R]) []Change[R] {
	var changes []Change[R]
	b, a := cursor[R]{pages: before}, cursor[R]{pages: after}
	for {
		for b.record == 0 && a.record == 0 && len(b.pages) > 0 && len(a.pages) > 0 && b.pages[0] == a.pages[0] {
			b.pages, a.pages = b.pages[1:], a.pages[1:]
		}
		old, now := b.peek(), a.peek()
		switch {
		case old == nil && now == nil:
			return changes
		case now == nil:
			changes = append(changes, Change[R]{Key: t.codec.Key(old), Old: old})
			b.next()
			continue
		case old == nil:
			changes = append(changes, Change[R]{Key: t.codec.Key(now), New: now})
			a.next()
			continue
		}
		oldKey, nowKey := t.codec.Key(old), t.codec.Key(now)
		switch {
		case oldKey < nowKey:
			changes = append(changes, Change[R]{Key: oldKey, Old: old})
			b.next()
		case oldKey > nowKey:
			changes = append(changes, Change[R]{Key: nowKey, New: now})
			a.next()
		default:
			if !t.codec.Equal(old, now) {
				changes = append(changes, Change[R]{Key: nowKey, Old: old, New: now})
			}
			b.next()
			a.next()
		}
	}
}

// cursor walks the records of a run of pages.
type cursor[R any] struct {
	pages  []*page[R]
	record int
}

func (c *cursor[R]) peek() *R {
	for len(c.pages) > 0 && c.record >= len(c.pages[0].recs) {
		c.pages, c.record = c.pages[1:], 0
	}
	if len(c.pages) == 0 {
		return nil
	}
	return &c.pages[0].recs[c.record]
}

func (c *cursor[R]) next() { c.record++ }
