package table

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rota-project/rota/store"
)

// patchOf is what the patch of the draft's page is to hold, and whether writing it
// is better than writing the page.
func (t *Table[R]) patchOf(d *draft[R]) (edits []edit[R], ok bool) {
	if d.index < 0 || len(d.items) == 0 {
		return nil, false
	}
	p := t.pages[d.index]
	if p.bad != nil || p.mod == 0 {
		return nil, false
	}
	size := 0
	add := func(e edit[R]) {
		edits = append(edits, e)
		if size += len(e.key) + 4; e.rec != nil {
			size += t.codec.Size(e.rec)
		}
	}
	old := p.edits
	fresh := slices.DeleteFunc(slices.Clone(d.edits), func(e edit[R]) bool { return t.same(p.recs, []edit[R]{e}) })
	for len(old)+len(fresh) > 0 {
		switch order := compareEdits(old, fresh); {
		case order < 0:
			add(old[0])
			old = old[1:]
			continue
		case order == 0:
			old = old[1:]
		}
		add(fresh[0])
		fresh = fresh[1:]
	}
	return edits, float64(size) <= patchShare(len(d.items))*float64(d.size)
}

func compareEdits[R any](a, b []edit[R]) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return strings.Compare(a[0].key, b[0].key)
}

// patchShare is how much of a page of n records its patch may be. A patch grows by a
// record with each change, and is written whole; then the page is, once. Of all
// that is written, the least is so if the patch may have sqrt(2n) records.
func patchShare(n int) float64 { return min(math.Sqrt(2/float64(n)), 0.5) }

// writePatch appends the write of a patch to u.
func (t *Table[R]) writePatch(u *Unit, bound string, edits []edit[R]) error {
	var recs []R
	var gone []string
	for _, e := range edits {
		if e.rec != nil {
			recs = append(recs, *e.rec)
		} else {
			gone = append(gone, e.key)
		}
	}
	value, err := t.codec.Encode(recs, gone)
	if err != nil {
		return fmt.Errorf("key %q: %w", t.patchKey(bound), err)
	}
	u.Ops = append(u.Ops, store.Op{Key: t.patchKey(bound), Value: value})
	// A patch is there until its page is written, which the page's condition is about.
	u.Conds[len(u.Conds)-1].Final = true
	return nil
}
