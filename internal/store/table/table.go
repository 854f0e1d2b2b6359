package table

import (
	"fmt"
	"iter"
	"strings"
)

// Codec says how records of type R are named, sized and written. All fields are
// needed.
type Codec[R any] struct {
	// Key is unique among the records and orders them as strings are ordered.
	// It is never empty.
	Key func(*R) string
	// Size is about the number of bytes that the record takes in a page, rather
	// too many than too few.
	Size func(*R) int
	// Encode makes a page's value of records in order of their keys, or a patch's,
	// which has the keys that are gone, too, in their order.
	Encode func(recs []R, gone []string) ([]byte, error)
	// Decode reads what Encode made. It must not keep the value.
	Decode func([]byte) (recs []R, gone []string, err error)
	// Equal reports whether two records of one key say the same.
	Equal func(a, b *R) bool
	// Stays keeps the root of a table that has become empty. Where it does not stay, a
	// transaction of unknown outcome that made the root may land after the root has come
	// and gone, and its records are back: what writes such a table needs a guard of its own.
	Stays bool
}

// Change is what became of a record. Old is nil if it is new, New is nil if it
// is gone. Both are read-only and stay as they are for ever.
type Change[R any] struct {
	Key      string
	Old, New *R
}

// Last is the record as it is, or as it was when it went.
func (c Change[R]) Last() *R {
	if c.New != nil {
		return c.New
	}
	return c.Old
}

// page is immutable once it is in a table.
type page[R any] struct {
	bound string
	mod   int64     // the revision of its key; 0 if only the patch's is there
	patch int64     // the revision of its patch's key; 0 if there is none
	seen  int64     // the revision up to which its history is known
	base  []R       // what its key holds
	edits []edit[R] // what its patch holds
	recs  []R       // what both hold together
	hints hints     // of recs
	size  int       // estimated bytes of recs
	bad   *Unread   // not nil if it cannot be read: recs is what it held before
}

// Table is a view of an ordered set of records that is kept in pages; see the
// package comment. It is not safe for concurrent use.
type Table[R any] struct {
	prefix    string
	pageBytes int
	codec     Codec[R]

	pages []*page[R] // in order of bound
	hints hints      // of the bounds of all but the first, which is mostly empty
	n     int        // records in all pages

	// tombs has the mod revisions of deleted pages by bound, so that a late event
	// of an earlier life of the page is known as late. Those up to floor are
	// forgotten: every event up to floor has been applied.
	tombs map[string]int64
	floor int64

	bad    int               // pages that cannot be read
	aliens map[string]Unread // keys that no table has written
}

// minPageBytes and maxPageBytes bound the size of pages. A record that is greater
// than a page has one of its own.
const (
	minPageBytes = 64
	maxPageBytes = maxUnitBytes / 4
)

// New makes an empty view of the pages below prefix that are about pageBytes
// long when full. pageBytes is brought between minPageBytes and maxPageBytes.
func New[R any](prefix string, pageBytes int, c Codec[R]) *Table[R] {
	return &Table[R]{
		prefix:    prefix,
		pageBytes: min(max(pageBytes, minPageBytes), maxPageBytes),
		codec:     c,
		tombs:     map[string]int64{},
		aliens:    map[string]Unread{},
	}
}

// Prefix is what the keys of all pages begin with.
func (t *Table[R]) Prefix() string { return t.prefix }

// Len is the number of records.
func (t *Table[R]) Len() int { return t.n }

// Blank reports whether nothing is in the table and nothing is remembered of what was
// beyond a revision: one that is new and Advanced to there is its equal. An owner that
// has Applied writes of its own may know more than that, and forgets it only when the
// watch has told as much: it would take for news what the watch has still to say of the
// time before.
func (t *Table[R]) Blank(revision int64) bool {
	return len(t.pages)+len(t.tombs)+len(t.aliens) == 0 && t.floor <= revision
}

// Pages is the number of pages.
func (t *Table[R]) Pages() int { return len(t.pages) }

// Get returns the record of a key. It is read-only and stays as it is for ever,
// whatever becomes of the table.
func (t *Table[R]) Get(key string) (*R, bool) {
	i := t.cover(key)
	if i < 0 {
		return nil, false
	}
	p := t.pages[i]
	j, ok := t.find(p, key)
	if !ok {
		return nil, false
	}
	return &p.recs[j], true
}

// All yields all records in order of key. The table may change meanwhile: the
// records are those of when the iteration began.
func (t *Table[R]) All() iter.Seq[*R] { return t.From("") }

// From yields the records from the first whose key is not less than key on, in
// order. The table may change meanwhile: the records are those of when the
// iteration began.
func (t *Table[R]) From(key string) iter.Seq[*R] {
	return func(yield func(*R) bool) {
		i := max(t.cover(key), 0)
		// install never changes a slice of pages that is installed.
		pages := t.pages[min(i, len(t.pages)):]
		for n, p := range pages {
			j := 0
			if n == 0 {
				j, _ = t.find(p, key)
			}
			for ; j < len(p.recs); j++ {
				if !yield(&p.recs[j]) {
					return
				}
			}
		}
	}
}

// cover is the index of the page that covers key, or -1 if there is none.
func (t *Table[R]) cover(key string) int {
	i, ok := t.findPage(key)
	if ok {
		return i
	}
	return i - 1
}

func (t *Table[R]) search(recs []R, key string) (int, bool) {
	lo, hi := 0, len(recs)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if t.codec.Key(&recs[mid]) < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(recs) && t.codec.Key(&recs[lo]) == key
}

// pageKey is the store's key of the page with this bound.
func (t *Table[R]) pageKey(bound string) string {
	return string(appendBound(append(make([]byte, 0, len(t.prefix)+len(bound)+8), t.prefix...), bound))
}

// patchKey is the store's key of that page's patch.
func (t *Table[R]) patchKey(bound string) string { return t.pageKey(bound) + patchSuffix }

// patchSuffix ends the keys of patches. No written bound has it: two digits follow
// each '!' there.
const patchSuffix = "!+"

// boundOf is the bound in a key, and whether the key is a patch's.
func (t *Table[R]) boundOf(key string) (bound string, patch bool, err error) {
	rest := strings.TrimPrefix(key, t.prefix)
	rest, patch = strings.CutSuffix(rest, patchSuffix)
	if bound, err = parseBound(rest); err != nil {
		return "", false, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return bound, patch, nil
}
