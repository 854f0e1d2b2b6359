package table

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rota-project/rota/store"
)

// fold is what becomes of a page by the events of its key and of its patch's, all
// of them news, in order of revision, and the page's before its patch's. What
// cannot be read is set aside, and what comes before it counts.
func (t *Table[R]) fold(was pageEvent[R], evs []*store.Event) pageEvent[R] {
	if len(evs) == 0 {
		return was
	}
	st, rest := was, evs
	// Whatever came before the page was written last is over.
	if n := lastPage(evs); n >= 0 {
		st, rest = t.written(was, evs, n), evs[n+1:]
	}
	if len(rest) == 0 {
		return st
	}
	ev := rest[len(rest)-1]
	switch {
	case ev.Mod <= st.seen: // the page's write ended its patch
		return st
	case st.page == nil && !ev.Deleted:
		t.alien(ev, fmt.Errorf("%w: a patch without its page", errCorrupt))
		return st
	case st.page == nil:
		return st
	case st.page.mod == 0 && ev.Deleted: // both are gone now
		return pageEvent[R]{bound: st.bound, seen: ev.Mod}
	case st.page.bad != nil: // somebody else can read it
		p := t.setAside(st.page, st.page.mod, patchRevision(ev), ev.Mod, ev.Key, t.judge(ev.Value, st.page.bad.Err))
		p.bad.Lost = true
		return pageEvent[R]{st.bound, ev.Mod, p}
	}
	var err error
	if ev.Deleted {
		if st.page.patch == 0 {
			return st
		}
		err = fmt.Errorf("%w: the patch was deleted, and its page not written", errCorrupt)
	} else {
		var p *page[R]
		if p, err = t.patched(st.page, &ev.KV); err == nil {
			return pageEvent[R]{st.bound, ev.Mod, p}
		}
	}
	if before := t.fold(st, rest[:len(rest)-1]); before.page != nil {
		st = before
	}
	return pageEvent[R]{st.bound, ev.Mod, t.setAside(st.page, st.page.mod, patchRevision(ev), ev.Mod, ev.Key, err)}
}

// written is a page after event n, which is the last of its key.
func (t *Table[R]) written(was pageEvent[R], evs []*store.Event, n int) pageEvent[R] {
	ev := evs[n]
	// What is left of its patch: nothing, if a table wrote this.
	left := int64(0)
	if was.page != nil {
		left = was.page.patch
	}
	for i, e := range evs {
		if isPatch(e) && (i < n || e.Mod == ev.Mod) {
			left = patchRevision(e)
		}
	}
	before := func() pageEvent[R] { return t.fold(was, evs[:n]) }
	if ev.Deleted {
		if left != 0 {
			if b := before(); b.page != nil {
				err := fmt.Errorf("%w: the page was deleted, and its patch not", errCorrupt)
				return pageEvent[R]{was.bound, ev.Mod, t.setAside(b.page, 0, left, ev.Mod, ev.Key, err)}
			}
		}
		return pageEvent[R]{bound: was.bound, seen: ev.Mod}
	}
	p, err := t.decode(was.bound, &ev.KV)
	if err == nil {
		p.patch = left
		return pageEvent[R]{was.bound, ev.Mod, p}
	}
	b := before()
	if b.page == nil {
		if !newer(err) {
			t.alien(ev, err)
			return b
		}
		b.page = &page[R]{bound: was.bound}
	}
	return pageEvent[R]{was.bound, ev.Mod, t.setAside(b.page, ev.Mod, left, ev.Mod, ev.Key, err)}
}

// listed is a page as a listing has it; either may be nil.
func (t *Table[R]) listed(bound string, kv, patch *store.KV) *page[R] {
	var mod, patchMod int64
	if kv != nil {
		mod = kv.Mod
	}
	if patch != nil {
		patchMod = patch.Mod
	}
	was := &page[R]{bound: bound}
	if i, ok := t.findPage(bound); ok {
		was = t.pages[i]
		if was.mod == mod && was.patch == patchMod {
			return was
		}
	}
	seen := max(mod, patchMod)
	key := t.pageKey(bound)
	var err error
	if kv == nil {
		if err = fmt.Errorf("%w: its page is not there", errCorrupt); patch != nil {
			if err = t.judge(patch.Value, err); newer(err) {
				key = patch.Key
			}
		}
	} else {
		var p *page[R]
		p, err = t.decode(bound, kv)
		if err == nil && patchMod > mod {
			key = patch.Key
			p, err = t.patched(p, patch)
		}
		if err == nil {
			p.patch, p.seen = patchMod, seen
			return p
		}
	}
	p := t.setAside(was, mod, patchMod, seen, key, err)
	p.bad.Lost = true
	return p
}

// decode makes a page of a key's value.
func (t *Table[R]) decode(bound string, kv *store.KV) (*page[R], error) {
	recs, gone, err := t.codec.Decode(kv.Value)
	if err != nil {
		return nil, err
	}
	if len(gone) > 0 {
		return nil, fmt.Errorf("%w: a page says what is gone, as only a patch does", errCorrupt)
	}
	p := &page[R]{bound: bound, mod: kv.Mod, seen: kv.Mod, base: recs, recs: recs}
	last := ""
	for i := range recs {
		key := t.codec.Key(&recs[i])
		if key == "" || key < bound || i > 0 && key <= last {
			return nil, fmt.Errorf("%w: record %q is not above %q", errCorrupt, key, max(last, bound))
		}
		last = key
		p.size += t.codec.Size(&recs[i])
	}
	p.hints = t.hinted(p.recs)
	return p, nil
}

// patched is a page with another patch.
func (t *Table[R]) patched(p *page[R], kv *store.KV) (*page[R], error) {
	recs, gone, err := t.codec.Decode(kv.Value)
	if err != nil {
		return nil, err
	}
	edits := make([]edit[R], 0, len(recs)+len(gone))
	for i := range recs {
		edits = append(edits, edit[R]{t.codec.Key(&recs[i]), &recs[i]})
	}
	for _, key := range gone {
		edits = append(edits, edit[R]{key: key})
	}
	slices.SortFunc(edits, func(a, b edit[R]) int { return strings.Compare(a.key, b.key) })
	for i, e := range edits {
		if e.key == "" || e.key < p.bound || i > 0 && e.key == edits[i-1].key {
			return nil, fmt.Errorf("%w: record %q is twice in a patch, or not above %q", errCorrupt, e.key, p.bound)
		}
	}
	q := &page[R]{bound: p.bound, mod: p.mod, patch: kv.Mod, seen: kv.Mod, base: p.base, edits: edits}
	q.recs = make([]R, 0, len(p.base)+len(recs))
	for i, j := 0, 0; i < len(p.base) || j < len(edits); {
		key := ""
		if i < len(p.base) {
			key = t.codec.Key(&p.base[i])
		}
		if j == len(edits) || i < len(p.base) && key < edits[j].key {
			q.recs = append(q.recs, p.base[i])
			i++
			continue
		}
		if i < len(p.base) && key == edits[j].key {
			i++
		}
		if edits[j].rec != nil {
			q.recs = append(q.recs, *edits[j].rec)
		}
		j++
	}
	for i := range q.recs {
		q.size += t.codec.Size(&q.recs[i])
	}
	q.hints = t.hinted(q.recs)
	return q, nil
}

func isPatch(ev *store.Event) bool { return strings.HasSuffix(ev.Key, patchSuffix) }

// patchRevision is the revision of a patch's key after an event of it.
func patchRevision(ev *store.Event) int64 {
	if ev.Deleted {
		return 0
	}
	return ev.Mod
}

// lastPage is the index of the last event that is of the page's own key, or -1.
func lastPage(evs []*store.Event) int {
	for n := len(evs) - 1; n >= 0; n-- {
		if !isPatch(evs[n]) {
			return n
		}
	}
	return -1
}
