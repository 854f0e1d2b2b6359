package table

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/rota-project/rota/store"
)

// ErrCorrupt says that the pages in the store contradict each other or do not
// hold what a page holds: something else wrote below the prefix.
var ErrCorrupt = errors.New("table: corrupt page")

// Codec says how records of type R are named, sized and written. All fields are
// needed.
type Codec[R any] struct {
	// Key is unique among the records and orders them as strings are ordered.
	// It is never empty.
	Key func(*R) string
	// Size is about the number of bytes that the record takes in a page, rather
	// too many than too few.
	Size func(*R) int
	// Encode makes a page's value of records in order of their keys.
	Encode func([]R) ([]byte, error)
	// Decode reads what Encode made. It must not keep the value.
	Decode func([]byte) ([]R, error)
	// Equal reports whether two records of one key say the same.
	Equal func(a, b *R) bool
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
	mod   int64
	recs  []R
	size  int // estimated bytes of recs
}

// Table is a view of an ordered set of records that is kept in pages; see the
// package comment. It is not safe for concurrent use.
type Table[R any] struct {
	prefix    string
	pageBytes int
	codec     Codec[R]

	pages []*page[R] // in order of bound
	n     int        // records in all pages

	// tombs has the mod revisions of deleted pages by bound, so that a late event
	// of an earlier life of the page is known as late. Those up to floor are
	// forgotten: every event up to floor has been applied.
	tombs map[string]int64
	floor int64
}

// MinPageBytes and MaxPageBytes bound the size of pages. A record that is greater
// than a page has one of its own.
const (
	MinPageBytes = 64
	MaxPageBytes = maxUnitBytes / 4
)

// New makes an empty view of the pages below prefix that are about pageBytes
// long when full. pageBytes is brought between MinPageBytes and MaxPageBytes.
func New[R any](prefix string, pageBytes int, c Codec[R]) *Table[R] {
	return &Table[R]{
		prefix:    prefix,
		pageBytes: min(max(pageBytes, MinPageBytes), MaxPageBytes),
		codec:     c,
		tombs:     map[string]int64{},
	}
}

// Prefix is what the keys of all pages begin with.
func (t *Table[R]) Prefix() string { return t.prefix }

// Len is the number of records.
func (t *Table[R]) Len() int { return t.n }

// Blank reports whether nothing is in the table and nothing is remembered of what
// was: one that is new and Advanced as far is its equal.
func (t *Table[R]) Blank() bool { return len(t.pages)+len(t.tombs) == 0 }

// Pages is the number of pages.
func (t *Table[R]) Pages() int { return len(t.pages) }

// Get returns the record of a key. It is read-only and stays as it is for ever,
// whatever becomes of the table.
func (t *Table[R]) Get(key string) (*R, bool) {
	i := t.cover(key)
	if i < 0 {
		return nil, false
	}
	recs := t.pages[i].recs
	j, ok := t.search(recs, key)
	if !ok {
		return nil, false
	}
	return &recs[j], true
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
				j, _ = t.search(p.recs, key)
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

// findPage is the index of the page of this very bound, or where it would be.
func (t *Table[R]) findPage(bound string) (int, bool) {
	return slices.BinarySearchFunc(t.pages, bound, func(p *page[R], b string) int { return cmp.Compare(p.bound, b) })
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

// decode makes a page of a key and its value.
func (t *Table[R]) decode(kv *store.KV) (*page[R], error) {
	bound, err := t.boundOf(kv.Key)
	if err != nil {
		return nil, err
	}
	recs, err := t.codec.Decode(kv.Value)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", kv.Key, err)
	}
	p := &page[R]{bound: bound, mod: kv.Mod, recs: recs}
	last := ""
	for i := range recs {
		key := t.codec.Key(&recs[i])
		if key == "" || key < bound || i > 0 && key <= last {
			return nil, fmt.Errorf("%w: key %q: record %q is not above %q", ErrCorrupt, kv.Key, key, max(last, bound))
		}
		last = key
		p.size += t.codec.Size(&recs[i])
	}
	return p, nil
}

func (t *Table[R]) boundOf(key string) (string, error) {
	rest, ok := strings.CutPrefix(key, t.prefix)
	if !ok {
		return "", fmt.Errorf("%w: key %q is not below %q", ErrCorrupt, key, t.prefix)
	}
	bound, err := parseBound(rest)
	if err != nil {
		return "", fmt.Errorf("%w: key %q: %w", ErrCorrupt, key, err)
	}
	return bound, nil
}
