package table

import (
	"fmt"
	"math"

	"github.com/rota-project/rota/store"
)

// maxRecordBytes is the most that one record may take.
const maxRecordBytes = store.MaxTxnBytes / 4

// change is the unit that writes a draft: as a patch of its page if that is less,
// else as one page or as the pages that it splits into.
func (t *Table[R]) change(d *draft[R]) (Unit, error) {
	var u Unit
	bound := ""
	if d.index >= 0 {
		p := t.pages[d.index]
		if p.bad != nil && newer(p.bad.Err) {
			return u, fmt.Errorf("key %q: %w", p.bad.Key, p.bad.Err)
		}
		bound = p.bound
	}
	t.condition(&u, d.index)
	if d.size <= t.pageBytes || len(d.items) <= 1 {
		if edits, ok := t.patchOf(d); ok {
			return u, t.writePatch(&u, bound, edits)
		}
		return u, t.write(&u, d.index, bound, records(d.items))
	}
	parts := t.parts(d, max(2, int(math.Ceil(float64(d.size)/(fill*float64(t.pageBytes))))), true)
	if len(parts) > maxUnitPages || d.size > maxUnitBytes {
		parts = t.parts(d, min(max(maxUnitBytes/t.pageBytes, 2), maxUnitPages), false)
		parts, u.Partial = t.fit(parts)
	}
	for i, part := range parts {
		index := d.index
		if i > 0 {
			index = -1
			bound = separator(part.before, part.items[0].key)
			u.Conds = append(u.Conds, store.Cond{Key: t.pageKey(bound), By: store.ByCreate})
		}
		if err := t.write(&u, index, bound, records(part.items)); err != nil {
			return Unit{}, err
		}
	}
	return u, nil
}

// part is a page to be. before is the key before it, which may be one that is
// written later.
type part[R any] struct {
	before string
	items  []item[R]
}

// parts cuts a draft into about n runs of even size. With tight none is longer
// than a page, unless it is a single record.
func (t *Table[R]) parts(d *draft[R], n int, tight bool) []part[R] {
	parts := make([]part[R], 0, n)
	start, size, total := 0, 0, 0
	for i := range d.items {
		it := &d.items[i]
		due := total >= d.size*(len(parts)+1)/n
		if i > start && (due || tight && size+it.size > t.pageBytes) {
			parts = append(parts, d.part(start, i))
			start, size = i, 0
		}
		size += it.size
		total += it.size
	}
	return append(parts, d.part(start, len(d.items)))
}

func (d *draft[R]) part(from, to int) part[R] {
	p := part[R]{items: d.items[from:to]}
	if from > 0 {
		p.before = d.items[from-1].key
	}
	return p
}

// fit leaves of the parts of a wide split what one unit can write: all records
// that stand in the store, as they stand there, and fresh ones as long as there
// is room, but at least one, so that every round makes headway. left says that
// fresh ones were left out.
func (t *Table[R]) fit(parts []part[R]) (kept []part[R], left bool) {
	budget, started := maxUnitBytes, false
	standing := make([]int, len(parts))
	for i := range parts {
		for j := range parts[i].items {
			standing[i] += t.standing(&parts[i].items[j])
		}
		budget -= standing[i]
	}
	for i := range parts {
		p := part[R]{before: parts[i].before}
		room := int(fill*float64(t.pageBytes)) - standing[i]
		last := p.before
		for _, it := range parts[i].items {
			grows := it.size - t.standing(&it)
			lonely := standing[i] == 0 && len(p.items) == 0
			switch {
			case !it.fresh:
			case grows <= budget && (grows <= room || lonely):
				started = true
				room -= grows
				budget -= grows
			case !started: // a page of its own
				started = true
				budget -= grows
				if len(p.items) > 0 {
					kept = append(kept, p)
				}
				kept = append(kept, part[R]{last, []item[R]{it}})
				p = part[R]{before: it.key}
				last = it.key
				continue
			default:
				left = true
				if it.old != nil {
					it.rec = it.old
					p.items = append(p.items, it)
				}
				last = it.key
				continue
			}
			last = it.key
			p.items = append(p.items, it)
		}
		if len(p.items) > 0 {
			kept = append(kept, p)
		}
	}
	return kept, left
}

// standing is the size of what stands in the store in the item's place.
func (t *Table[R]) standing(it *item[R]) int {
	switch {
	case !it.fresh:
		return it.size
	case it.old != nil:
		return t.codec.Size(it.old)
	}
	return 0
}
