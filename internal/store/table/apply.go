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
	seen  int64
	page  *page[R]
}

// Apply takes in events of pages: a batch of a watch, or all writes of a
// transaction of the owner's own that was done (see Events). Events of keys that
// are not below the prefix are ignored, and so are events that are no news: late
// or repeated ones. All events of one call are one step. Apply returns the net
// changes of records, in order of key: a record that only moved between pages is
// no change.
//
// A page that cannot be read keeps what it held before; see Unread.
//
// Cost is in proportion to the pages that change (and, when pages come and go,
// to the number of pages).
func (t *Table[R]) Apply(events []store.Event) []Change[R] {
	byBound := map[string][]*store.Event{}
	empty := t.emptyBefore(events)
	for i := range events {
		ev := &events[i]
		if !strings.HasPrefix(ev.Key, t.prefix) {
			continue
		}
		bound, _, err := t.boundOf(ev.Key)
		if err != nil {
			t.alien(ev, err)
			continue
		}
		if ev.Mod <= max(t.known(bound), empty) && (bound != "" || ev.Mod <= t.known("")) {
			continue
		}
		delete(t.aliens, ev.Key) // it is judged anew
		byBound[bound] = append(byBound[bound], ev)
	}
	news := make([]pageEvent[R], 0, len(byBound))
	for bound, evs := range byBound {
		slices.SortStableFunc(evs, func(a, b *store.Event) int {
			return cmp.Or(cmp.Compare(a.Mod, b.Mod), cmp.Compare(len(a.Key), len(b.Key))) // the page before its patch
		})
		news = append(news, t.fold(t.state(bound), evs))
	}
	if gone := t.rootGone(byBound[""]); gone != nil {
		// It is deleted when it is alone. Late events of the time before it have no say.
		if t.others(news, gone.Mod) {
			t.keepRoot(news, byBound[""], gone)
		} else {
			empty = gone.Mod
		}
	} else if empty > t.floor {
		for _, p := range t.pages {
			if p.seen <= empty && byBound[p.bound] == nil {
				news = append(news, pageEvent[R]{bound: p.bound, seen: empty})
			}
		}
	}
	slices.SortFunc(news, func(a, b pageEvent[R]) int { return cmp.Compare(a.bound, b.bound) })
	changes := t.install(news)
	t.Advance(empty)
	return changes
}

// state is a page as it is.
func (t *Table[R]) state(bound string) pageEvent[R] {
	st := pageEvent[R]{bound: bound}
	if i, ok := t.findPage(bound); ok {
		st.page = t.pages[i]
	}
	return st
}

// emptyBefore is the last revision at which events say that the table was empty:
// just before its root is made. What was until then has no say any more. That matters
// to an owner that made the root and hears of the time before only now. A root that
// somebody else had deleted, beside other pages, was not the last.
func (t *Table[R]) emptyBefore(events []store.Event) (empty int64) {
	if i, ok := t.findPage(""); ok && t.pages[i].mod == 0 {
		return 0
	}
	newest := t.known("")
	for i := range events {
		if ev := &events[i]; ev.Key == t.prefix && ev.Mod > newest {
			newest, empty = ev.Mod, 0
			if !ev.Deleted {
				empty = ev.Create - 1
			}
		}
	}
	for i := range events {
		if ev := &events[i]; ev.Key == t.prefix && ev.Deleted && ev.Mod > t.known("") {
			return 0 // whoever hears of its end hears of the other pages' ends, too
		}
	}
	return empty
}

// rootGone is the last event by which the root was deleted, of its events.
func (t *Table[R]) rootGone(evs []*store.Event) (gone *store.Event) {
	for _, ev := range evs {
		if ev.Deleted && !isPatch(ev) {
			gone = ev
		}
	}
	return gone
}

// others reports whether there is a page beside the root that was there at a revision.
func (t *Table[R]) others(news []pageEvent[R], revision int64) bool {
	fresh := make(map[string]bool, len(news))
	for _, e := range news {
		fresh[e.bound] = true
		if e.bound != "" && e.page != nil && e.page.seen <= revision {
			return true
		}
	}
	return slices.ContainsFunc(t.pages, func(p *page[R]) bool { return p.bound != "" && p.seen <= revision && !fresh[p.bound] })
}

// keepRoot puts the root of before in its place in news, if it was deleted last:
// somebody else did it, beside other pages.
func (t *Table[R]) keepRoot(news []pageEvent[R], evs []*store.Event, gone *store.Event) {
	for i, e := range news {
		if e.bound != "" || e.page != nil {
			continue
		}
		n := slices.Index(evs, gone)
		was := t.fold(t.state(""), evs[:n]).page
		if was == nil {
			was = &page[R]{}
		}
		err := fmt.Errorf("%w: the first page was deleted, and others were not", errCorrupt)
		news[i].page = t.setAside(was, 0, 0, gone.Mod, t.prefix, err)
	}
}

// Reset replaces everything by a listing, as after a watch that was compacted,
// and returns the net changes of records, in order of key. Say by Advance at
// which revision the listing was read. Of a page that cannot be read, and has
// changed since it could, nobody knows what it held last: it is Lost.
func (t *Table[R]) Reset(kvs []store.KV) []Change[R] {
	type listed struct{ page, patch *store.KV }
	byBound := map[string]*listed{}
	floor := t.floor
	t.aliens = map[string]Unread{}
	for i := range kvs {
		kv := &kvs[i]
		if !strings.HasPrefix(kv.Key, t.prefix) {
			continue
		}
		floor = max(floor, kv.Mod)
		bound, patch, err := t.boundOf(kv.Key)
		if err != nil {
			t.alien(&store.Event{KV: *kv}, err)
			continue
		}
		l := byBound[bound]
		if l == nil {
			l = &listed{}
			byBound[bound] = l
		}
		if patch {
			l.patch = kv
		} else {
			l.page = kv
		}
	}
	next := make([]*page[R], 0, len(byBound))
	for bound, l := range byBound {
		next = append(next, t.listed(bound, l.page, l.patch))
	}
	if len(next) > 0 && byBound[""] == nil {
		next = append(next, t.listed("", nil, nil))
	}
	slices.SortFunc(next, func(a, b *page[R]) int { return cmp.Compare(a.bound, b.bound) })
	for i, p := range next {
		if p.bad != nil && i+1 < len(next) {
			next[i] = t.cut(p, next[i+1].bound)
		}
	}
	for i := range next {
		if t.overlap(next, i) {
			t.contradict(next, i)
		}
	}
	before := t.pages
	t.put(next)
	t.tombs = map[string]int64{}
	// Whatever happened up to the newest listed page is in the listing.
	t.floor = floor
	return t.diff(before, next)
}

// ResetThen is Reset, Advance to the listing's revision, and Apply of events that
// may be later than it, as one step: an owner that wrote while it listed does not
// see its own writes undone for an instant.
func (t *Table[R]) ResetThen(kvs []store.KV, revision int64, later []store.Event) []Change[R] {
	before := t.pages
	t.Reset(kvs)
	t.Advance(revision)
	t.Apply(later)
	return t.diff(before, t.pages)
}

// put makes next the pages of the table.
func (t *Table[R]) put(next []*page[R]) {
	t.turn(next, false)
	t.n, t.bad = 0, 0
	for _, p := range next {
		t.n += len(p.recs)
		if p.bad != nil {
			t.bad++
		}
	}
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
		return max(t.pages[i].seen, t.floor)
	}
	return max(t.tombs[bound], t.floor)
}

// install puts news, in order of bound and each newer than what is known, in place.
func (t *Table[R]) install(news []pageEvent[R]) []Change[R] {
	if len(news) == 0 {
		return nil
	}
	next := make([]*page[R], 0, len(t.pages)+len(news))
	var before, after []*page[R]
	var fresh []int // indexes in next of pages that are new or beside a deleted one
	n, bad, i, same := t.n, t.bad, 0, true
	for _, e := range news {
		j, found := slices.BinarySearchFunc(t.pages[i:], e.bound, func(p *page[R], b string) int { return cmp.Compare(p.bound, b) })
		next = append(next, t.pages[i:i+j]...)
		i += j
		same = same && found == (e.page != nil)
		if found {
			before = append(before, t.pages[i])
			n -= len(t.pages[i].recs)
			bad -= t.pages[i].unread()
			i++
		}
		if e.page != nil {
			after = append(after, e.page)
			n += len(e.page.recs)
			bad += e.page.unread()
			fresh = append(fresh, len(next))
			next = append(next, e.page)
			delete(t.tombs, e.bound)
		} else if e.seen > 0 {
			t.tombs[e.bound] = e.seen
		}
	}
	next = append(next, t.pages[i:]...)
	if slices.ContainsFunc(fresh, func(i int) bool { return t.overlap(next, i) || t.overlap(next, i-1) }) {
		before, next = t.pages, t.untangle(next)
		t.put(next)
		return t.diff(before, next)
	}
	t.turn(next, same)
	t.n, t.bad = n, bad
	return t.diff(before, after)
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
