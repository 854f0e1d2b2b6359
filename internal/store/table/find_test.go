package table

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFind: with hints, a page finds what a search of its records finds.
func TestFind(t *testing.T) {
	t.Parallel()
	table := New("t/", 8<<10, codec)
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		b := []byte("task-"[:rnd.IntN(6)])
		for range 1 + rnd.IntN(9) {
			b = append(b, "\x00\x010a\xff"[rnd.IntN(5)])
		}
		return string(b)
	}
	for range 2000 {
		begin := word()[:1]
		if rnd.IntN(2) == 0 {
			begin = word()
		}
		var keys []string
		for range rnd.IntN(20) {
			keys = append(keys, begin+word())
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		p := &page[rec]{}
		for _, key := range keys {
			p.recs = append(p.recs, rec{key, 1, 20})
		}
		p.hints = table.hinted(p.recs)
		for _, key := range append(slices.Clone(keys), "", begin, begin[:len(begin)-1], begin+"\x00", word(), begin+word(), begin+word(), "zzz") {
			i, ok := table.find(p, key)
			if want, found := slices.BinarySearch(keys, key); i != want || ok != found {
				t.Fatalf("%q in %q: %d, %v; want %d, %v", key, keys, i, ok, want, found)
			}
		}
	}
}
