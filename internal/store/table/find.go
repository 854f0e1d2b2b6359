package table

import (
	"cmp"
	"slices"
	"strings"
)

// hints narrow down where in a sorted list a key is, without reading the keys that are
// passed over: a binary search of a large table reads twenty of them, each somewhere else
// in memory. They are the first bytes of each key after what all begin with.
type hints struct {
	common string
	heads  []uint32
}

// hintsOf are those of n keys, in their order.
func hintsOf(n int, key func(int) string) (h hints) {
	if n < minHinted {
		return h
	}
	first, last := key(0), key(n-1)
	same := 0
	for same < len(first) && same < len(last) && first[same] == last[same] {
		same++
	}
	h.common, h.heads = first[:same], make([]uint32, n)
	for i := range n {
		h.heads[i] = head(key(i)[same:])
	}
	return h
}

// minHinted is how long a list is that needs hints.
const minHinted = 4

// hinted is the hints of records in order of key.
func (t *Table[R]) hinted(recs []R) hints {
	return hintsOf(len(recs), func(i int) string { return t.codec.Key(&recs[i]) })
}

// between is where in a list of n a key is, or would be put: all before from are less, and
// all from to on are greater.
func (h hints) between(n int, key string) (from, to int) {
	if len(h.heads) != n { // it is short, or was cut
		return 0, n
	}
	rest, ok := strings.CutPrefix(key, h.common)
	switch {
	case ok:
	case key < h.common:
		return 0, 0
	default:
		return n, n
	}
	at := head(rest)
	from, ok = slices.BinarySearch(h.heads, at)
	if !ok {
		return from, from
	}
	for to = from + 1; to < n && h.heads[to] == at; {
		more, _ := slices.BinarySearchFunc(h.heads[to:], at, func(have, at uint32) int {
			return cmp.Or(cmp.Compare(have, at), -1) // the first that is greater
		})
		to += more
	}
	return from, to
}

// head is the first four bytes of s as a number. Where that of a is less than that of b,
// so is a.
func head(s string) (n uint32) {
	for i := range min(len(s), 4) {
		n |= uint32(s[i]) << (24 - 8*i)
	}
	return n
}

// find is the index of the record of a key, or where it would be.
func (t *Table[R]) find(p *page[R], key string) (int, bool) {
	from, to := p.hints.between(len(p.recs), key)
	i, ok := t.search(p.recs[from:to], key)
	return from + i, ok
}

// findPage is the index of the page of this very bound, or where it would be.
func (t *Table[R]) findPage(bound string) (int, bool) {
	if len(t.pages) == 0 || bound <= t.pages[0].bound {
		return 0, len(t.pages) > 0 && bound == t.pages[0].bound
	}
	from, to := t.hints.between(len(t.pages)-1, bound)
	i, ok := slices.BinarySearchFunc(t.pages[1+from:1+to], bound, func(p *page[R], b string) int { return cmp.Compare(p.bound, b) })
	return 1 + from + i, ok
}

// turn makes next the pages of the table; same says that their bounds are those of before.
func (t *Table[R]) turn(next []*page[R], same bool) {
	t.pages = next
	if !same {
		t.hints = hintsOf(max(len(next)-1, 0), func(i int) string { return next[i+1].bound })
	}
}
