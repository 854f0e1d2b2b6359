package table

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/rota-project/rota/store"
)

const (
	// fill is how full pages are made when a page splits, so that the next
	// records find room.
	fill = 0.85
	// small is the part of a page below which it is merged with its neighbours,
	// if they are at most half a page together.
	small = 0.25
	// maxUnitPages and maxUnitBytes bound a unit, so that a transaction has room
	// for one and for its owner's own conditions and operations.
	maxUnitPages = store.MaxTxnOps * 3 / 4
	maxUnitBytes = store.MaxTxnBytes * 5 / 8
	// maxMerge is the most pages that become one at a time.
	maxMerge = 16
)

// edit is what Stage was asked for a key: the record to set, or nil to remove it.
type edit[R any] struct {
	key string
	rec *R
}

// item is a record that a page is to hold.
type item[R any] struct {
	key   string
	rec   *R
	old   *R // what stands in its place today, if it is fresh
	fresh bool
	size  int
}

// draft is a page that edits change, and what it would hold if a page could be
// as long as it likes. Index is the page's, -1 if there is no root yet.
type draft[R any] struct {
	index int
	items []item[R]
	size  int // of all items
	edits []edit[R]
}

// Stage plans the writes that put set and remove the keys of del, and leaves the
// table as it is. All writes of one unit belong into one transaction; units are
// disjoint, in order of key, and may be done in any order, in one transaction or
// in several, or not at all. A record that is there already causes no write. Of
// several records of one key the last is meant; a key in both set and del is set.
//
// Where set brings more into the range of one page than fits one transaction (a
// bulk load), Stage divides the range and writes what it can: such a unit is
// Partial. So the way to write is to stage, commit and Apply until Stage returns
// no unit. Each round of a load multiplies the pages; two or three do for
// millions of records.
//
// Of a page that cannot be read, what it held before is written with the change.
//
// An error says that a record has an empty key, is too large for any
// transaction, or does not encode, or that its page is of a newer version.
func (t *Table[R]) Stage(set []R, del []string) ([]Unit, error) {
	edits, err := t.edits(set, del)
	if err != nil {
		return nil, err
	}
	drafts, left := t.drafts(edits)
	if left == 0 && len(t.pages) > 0 && !t.codec.Stays && 2*len(t.pages) <= maxUnitPages && t.bad == 0 {
		return []Unit{t.dropAll()}, nil
	}
	units := make([]Unit, 0, len(drafts))
	claimed := -1 // the last page that is in a unit
	for len(drafts) > 0 {
		run, merged, taken := t.run(drafts, claimed)
		var u Unit
		if len(run) > 1 {
			u, err = t.merge(run, merged)
			claimed = run[len(run)-1]
		} else {
			u, err = t.change(&drafts[0])
			claimed = drafts[0].index
		}
		if err != nil {
			return nil, err
		}
		units = append(units, u)
		drafts = drafts[taken:]
	}
	return units, nil
}

// edits are set and del in order of key, one a key.
func (t *Table[R]) edits(set []R, del []string) ([]edit[R], error) {
	edits := make([]edit[R], 0, len(set)+len(del))
	for _, key := range del {
		edits = append(edits, edit[R]{key: key})
	}
	for i := range set {
		key := t.codec.Key(&set[i])
		if key == "" {
			return nil, fmt.Errorf("table %q: record %d has an empty key", t.prefix, i)
		}
		if size := t.codec.Size(&set[i]); size > maxRecordBytes {
			return nil, fmt.Errorf("table %q: record %q: %w: %d bytes, at most %d", t.prefix, key, store.ErrTooLarge, size, maxRecordBytes)
		}
		edits = append(edits, edit[R]{key, &set[i]})
	}
	byKey := func(a, b edit[R]) int { return cmp.Compare(a.key, b.key) }
	if !slices.IsSortedFunc(edits, byKey) {
		slices.SortStableFunc(edits, byKey)
	}
	kept := edits[:0]
	for i, e := range edits {
		if i+1 == len(edits) || edits[i+1].key != e.key {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

// drafts groups edits by page and leaves out pages that they do not change. left
// is the number of records that the table has after all of them.
func (t *Table[R]) drafts(edits []edit[R]) (drafts []draft[R], left int) {
	left = t.n
	for len(edits) > 0 {
		index := t.cover(edits[0].key)
		n := len(edits)
		if index+1 < len(t.pages) {
			bound := t.pages[index+1].bound
			n, _ = slices.BinarySearchFunc(edits, bound, func(e edit[R], b string) int { return cmp.Compare(e.key, b) })
		}
		var recs []R
		if index >= 0 {
			recs = t.pages[index].recs
		}
		d := draft[R]{index: index, edits: edits[:n:n]}
		if t.draft(&d, recs, edits[:n]) {
			drafts = append(drafts, d)
			left += len(d.items) - len(recs)
		}
		edits = edits[n:]
	}
	return drafts, left
}

// draft merges the records of a page with edits and says whether they change it.
func (t *Table[R]) draft(d *draft[R], recs []R, edits []edit[R]) (changed bool) {
	if t.same(recs, edits) && (d.index < 0 || t.pages[d.index].bad == nil) {
		return false
	}
	d.items = make([]item[R], 0, len(recs)+len(edits))
	add := func(it item[R]) {
		it.size = t.codec.Size(it.rec)
		d.size += it.size
		d.items = append(d.items, it)
	}
	for i, j := 0, 0; i < len(recs) || j < len(edits); {
		key := ""
		if i < len(recs) {
			key = t.codec.Key(&recs[i])
		}
		switch {
		case j == len(edits) || i < len(recs) && key < edits[j].key:
			add(item[R]{key: key, rec: &recs[i]})
			i++
		case i < len(recs) && key == edits[j].key:
			if rec := edits[j].rec; rec != nil {
				if t.codec.Equal(&recs[i], rec) {
					add(item[R]{key: key, rec: &recs[i]})
				} else {
					add(item[R]{key: key, rec: rec, old: &recs[i], fresh: true})
				}
			}
			i++
			j++
		default:
			if rec := edits[j].rec; rec != nil {
				add(item[R]{key: edits[j].key, rec: rec, fresh: true})
			}
			j++
		}
	}
	return true
}

// same reports whether edits change nothing of the records of a page.
func (t *Table[R]) same(recs []R, edits []edit[R]) bool {
	for _, e := range edits {
		j, ok := t.search(recs, e.key)
		if ok != (e.rec != nil) || ok && !t.codec.Equal(&recs[j], e.rec) {
			return false
		}
	}
	return true
}

// dropAll deletes all pages.
func (t *Table[R]) dropAll() Unit {
	var u Unit
	for i := range t.pages {
		t.condition(&u, i)
		t.remove(&u, i)
	}
	return u
}

// write appends the write of a page to u, and the end of its patch; index is -1 for
// a page that there has not been. A page without records is deleted, unless it is
// the root.
func (t *Table[R]) write(u *Unit, index int, bound string, recs []R) error {
	if len(recs) == 0 && bound != "" {
		t.remove(u, index)
		return nil
	}
	key := t.pageKey(bound)
	value, err := t.codec.Encode(recs, nil)
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	u.Ops = append(u.Ops, store.Op{Key: key, Value: value})
	if index >= 0 && t.pages[index].patch != 0 {
		u.Ops = append(u.Ops, store.Op{Key: t.patchKey(bound), Delete: true})
	}
	return nil
}

// remove appends the end of a page and its patch to u.
func (t *Table[R]) remove(u *Unit, index int) {
	if index < 0 {
		return
	}
	p := t.pages[index]
	if p.mod != 0 {
		u.Ops = append(u.Ops, store.Op{Key: t.pageKey(p.bound), Delete: true})
	}
	if p.patch != 0 {
		u.Ops = append(u.Ops, store.Op{Key: t.patchKey(p.bound), Delete: true})
	}
}

func records[R any](items []item[R]) []R {
	recs := make([]R, len(items))
	for i := range items {
		recs[i] = *items[i].rec
	}
	return recs
}

// condition appends to u that page index is as the view knows it. Where there is no
// root there is no patch of it either.
func (t *Table[R]) condition(u *Unit, index int) {
	if index < 0 {
		u.Conds = append(u.Conds, store.Cond{Key: t.pageKey(""), By: store.ByMod})
		return
	}
	p := t.pages[index]
	u.Conds = append(u.Conds,
		store.Cond{Key: t.pageKey(p.bound), By: store.ByMod, Revision: p.mod},
		store.Cond{Key: t.patchKey(p.bound), By: store.ByMod, Revision: p.patch})
}
