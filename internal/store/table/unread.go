package table

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store"
)

// errCorrupt says that pages contradict each other or do not hold what a page
// holds: something else wrote below the prefix.
var errCorrupt = errors.New("table: corrupt page")

// Unread is a key below the prefix that cannot be read. It is set aside: the table
// goes on with what was there before.
type Unread struct {
	Key      string
	Revision int64 // that wrote it last, or 0 if it was deleted
	Err      error
	// Lost says that it may have held something of which this table does not know.
	// It counts as what it held when it could be read, or as empty.
	Lost bool
}

// Unread are the keys that cannot be read, pages in order of key first. A page
// stops being one of them when it is written again: by Mend, by a Stage that
// touches it, or by hand.
func (t *Table[R]) Unread() []Unread {
	if t.bad == 0 && len(t.aliens) == 0 {
		return nil
	}
	var out []Unread
	for _, p := range t.pages {
		if p.bad != nil {
			out = append(out, *p.bad)
		}
	}
	n := len(out)
	for _, u := range t.aliens {
		out = append(out, u)
	}
	slices.SortFunc(out[n:], func(a, b Unread) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Lost reports whether there is a page of which nobody here knows what it holds.
func (t *Table[R]) Lost() bool {
	return t.bad > 0 && slices.ContainsFunc(t.pages, func(p *page[R]) bool { return p.bad != nil && p.bad.Lost })
}

// LostAt reports whether a record of this key may be there without the table's
// knowing: the page that covers it is lost.
func (t *Table[R]) LostAt(key string) bool {
	if t.bad == 0 {
		return false
	}
	i := t.cover(key)
	return i >= 0 && t.pages[i].bad != nil && t.pages[i].bad.Lost
}

// NewerAt reports whether the page that covers a key is of a later layout: Stage
// refuses to change it.
func (t *Table[R]) NewerAt(key string) bool {
	if t.bad == 0 {
		return false
	}
	i := t.cover(key)
	return i >= 0 && t.pages[i].bad != nil && newer(t.pages[i].bad.Err)
}

// Mend plans the writes that bring back what cannot be read and is known, and
// remove what no table has written. It leaves alone what is lost, and what is of a
// later layout: that may be a table's which knows more.
func (t *Table[R]) Mend() ([]Unit, error) {
	if t.bad == 0 && len(t.aliens) == 0 {
		return nil, nil
	}
	var units []Unit
	for i, p := range t.pages {
		if p.bad == nil || p.bad.Lost {
			continue
		}
		var u Unit
		t.condition(&u, i)
		if err := t.write(&u, i, p.bound, p.recs); err != nil {
			return nil, err
		}
		units = append(units, u)
	}
	for key, a := range t.aliens {
		if newer(a.Err) {
			continue
		}
		units = append(units, Unit{
			Conds: []store.Cond{{Key: key, By: store.ByMod, Revision: a.Revision}},
			Ops:   []store.Op{{Key: key, Delete: true}},
		})
	}
	return units, nil
}

// Forget plans the writes that remove the pages that are lost, with whatever they
// hold; with all, what Mend would bring back, too.
func (t *Table[R]) Forget(all bool) ([]Unit, error) {
	var units []Unit
	for i, p := range t.pages {
		if p.bad == nil || !p.bad.Lost && !all {
			continue
		}
		var u Unit
		t.condition(&u, i)
		if p.bound == "" && (len(t.pages) > 1 || p.mod == 0) { // the root goes last
			if err := t.write(&u, i, "", nil); err != nil {
				return nil, err
			}
		} else {
			t.remove(&u, i)
		}
		units = append(units, u)
	}
	return units, nil
}

func (p *page[R]) unread() int {
	if p.bad != nil {
		return 1
	}
	return 0
}

// alien notes an event of a key that no table has written.
func (t *Table[R]) alien(ev *store.Event, err error) {
	have, known := t.aliens[ev.Key]
	switch {
	case known && ev.Mod <= have.Revision:
	case ev.Deleted:
		delete(t.aliens, ev.Key)
	default:
		t.aliens[ev.Key] = Unread{Key: ev.Key, Revision: ev.Mod, Err: t.judge(ev.Value, err)}
	}
}

// judge is what is wrong with a value beside which something else is wrong: a later
// layout explains that.
func (t *Table[R]) judge(value []byte, err error) error {
	if _, _, e := t.codec.Decode(value); newer(e) {
		return e
	}
	return err
}

// newer reports whether a value is not malformed, but of a later layout: whoever
// wrote it knows what it holds.
func newer(err error) bool { return errors.Is(err, rota.ErrNewerVersion) }

// setAside is a page that cannot be read any more, as the keys stand that err is
// about: it keeps its records. What is of a later layout stays known as that.
func (t *Table[R]) setAside(p *page[R], mod, patch, seen int64, key string, err error) *page[R] {
	q := *p
	if p.bad != nil && newer(p.bad.Err) && p.mod == mod && p.patch == patch {
		key, err = p.bad.Key, p.bad.Err
	}
	q.mod, q.patch, q.seen = mod, patch, seen
	q.base, q.edits = p.recs, nil
	q.bad = &Unread{Key: key, Revision: max(mod, patch), Err: err, Lost: newer(err) || p.bad != nil && p.bad.Lost}
	return &q
}

// lose is setAside of a page that may have held something else meanwhile.
func (t *Table[R]) lose(p *page[R], err error) *page[R] {
	q := t.setAside(p, p.mod, p.patch, p.seen, t.pageKey(p.bound), err)
	q.bad.Lost = true
	return q
}

// overlap reports whether page i has records that belong to the next one.
func (t *Table[R]) overlap(pages []*page[R], i int) bool {
	if i < 0 || i+1 >= len(pages) || len(pages[i].recs) == 0 {
		return false
	}
	recs := pages[i].recs
	return t.codec.Key(&recs[len(recs)-1]) >= pages[i+1].bound
}

// cut is a page without the records from bound on.
func (t *Table[R]) cut(p *page[R], bound string) *page[R] {
	n, _ := t.search(p.recs, bound)
	if n == len(p.recs) {
		return p
	}
	q := *p
	q.recs, q.size = p.recs[:n:n], 0
	q.base, q.edits = q.recs, nil
	for i := range q.recs {
		q.size += t.codec.Size(&q.recs[i])
	}
	return &q
}

// contradict settles that page i and the next have records in one range: the one
// that was written later is taken for wrong, and both for lost.
func (t *Table[R]) contradict(pages []*page[R], i int) {
	p, q := pages[i], pages[i+1]
	err := fmt.Errorf("%w: records of %q belong to %q", errCorrupt, t.pageKey(p.bound), t.pageKey(q.bound))
	if p.seen > q.seen {
		pages[i] = t.lose(t.cut(p, p.bound), err)
		return
	}
	pages[i] = t.lose(t.cut(p, q.bound), err)
	pages[i+1] = t.lose(t.cut(q, q.bound), err)
}

// untangle has every record of pages in its place: what was written later and
// contradicts what was known is set aside. The pages of before agree.
func (t *Table[R]) untangle(pages []*page[R]) []*page[R] {
	for i := 0; i+1 < len(pages); {
		if !t.overlap(pages, i) {
			i++
			continue
		}
		at := i
		if pages[i+1].seen >= pages[i].seen {
			at = i + 1
		}
		p := pages[at]
		err := fmt.Errorf("%w: records of %q belong to %q", errCorrupt, t.pageKey(pages[i].bound), t.pageKey(pages[i+1].bound))
		was, known := t.findPage(p.bound)
		switch {
		case known && p.bad == nil:
			pages[at] = t.setAside(t.pages[was], p.mod, p.patch, p.seen, t.pageKey(p.bound), err)
		case !known: // whoever splits a page writes both of it
			key := t.pageKey(p.bound)
			if p.bad != nil && newer(p.bad.Err) {
				key, err = p.bad.Key, p.bad.Err
			}
			t.alien(&store.Event{KV: store.KV{Key: key, Mod: p.mod}}, err)
			pages = slices.Delete(pages, at, at+1)
		default:
			t.contradict(pages, i)
		}
		i = max(at-2, 0)
	}
	return pages
}
