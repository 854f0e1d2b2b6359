package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rota-project/rota"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// rec is a record of the tests: its value says how long it is, too.
type rec struct {
	key string
	val uint16
	pad int
}

var errGarbage = errors.New("garbage")

var codec = Codec[rec]{
	Key:   func(r *rec) string { return r.key },
	Size:  func(r *rec) int { return len(r.key) + r.pad + 6 },
	Equal: func(a, b *rec) bool { return *a == *b },
	Encode: func(recs []rec, gone []string) ([]byte, error) {
		out := []byte{codecVersion}
		for _, key := range gone {
			out = binary.AppendUvarint(out, uint64(len(key)))
			out = append(out, key...)
		}
		out = append(out, 0)
		for _, r := range recs {
			out = binary.AppendUvarint(out, uint64(len(r.key)))
			out = append(out, r.key...)
			out = binary.AppendUvarint(out, uint64(r.val))
			out = binary.AppendUvarint(out, uint64(r.pad))
			out = append(out, make([]byte, r.pad)...)
		}
		return out, nil
	},
	Decode: func(b []byte) (recs []rec, gone []string, err error) {
		if len(b) == 0 || b[0] != codecVersion {
			if len(b) > 0 && b[0] == codecVersion+1 {
				return nil, nil, rota.ErrNewerVersion
			}
			return nil, nil, errGarbage
		}
		b = b[1:]
		number := func() (v uint64) {
			v, n := binary.Uvarint(b)
			if n <= 0 {
				err, b = errGarbage, nil
				return 0
			}
			b = b[n:]
			return v
		}
		text := func() string {
			n := number()
			if uint64(len(b)) < n {
				err, b = errGarbage, nil
				return ""
			}
			s := string(b[:n])
			b = b[n:]
			return s
		}
		for key := text(); key != ""; key = text() {
			gone = append(gone, key)
		}
		for len(b) > 0 {
			r := rec{key: text(), val: uint16(number()), pad: int(number())}
			if len(b) < r.pad || r.pad < 0 {
				return nil, nil, errGarbage
			}
			b = b[r.pad:]
			recs = append(recs, r)
		}
		return recs, gone, err
	},
}

// codecVersion begins the values of the tests.
const codecVersion = 1

// contents are the records of a table, and proof that its parts agree.
func contents(tb testing.TB, t *Table[rec]) map[string]rec {
	tb.Helper()
	got := map[string]rec{}
	last := ""
	for r := range t.All() {
		if r.key <= last {
			tb.Fatalf("record %q comes after %q", r.key, last)
		}
		last = r.key
		got[r.key] = *r
		if p, ok := t.Get(r.key); !ok || *p != *r {
			tb.Fatalf("Get(%q) = %v, %v; All has %v", r.key, p, ok, *r)
		}
	}
	if t.Len() != len(got) {
		tb.Fatalf("Len() = %d, All has %d", t.Len(), len(got))
	}
	return got
}

// shape checks that pages are neither overfull nor needlessly many.
func shape(tb testing.TB, t *Table[rec]) {
	tb.Helper()
	for i, p := range t.pages {
		if p.size > t.pageBytes && len(p.recs) > 1 {
			tb.Fatalf("page %q holds %d bytes in %d records, more than %d", p.bound, p.size, len(p.recs), t.pageBytes)
		}
		if len(p.recs) == 0 && p.bound != "" {
			tb.Fatalf("page %q is empty", p.bound)
		}
		if i == 0 && p.bound != "" {
			tb.Fatalf("there is no root; the first page is %q", p.bound)
		}
	}
}

func load(tb testing.TB, s store.Store, pageBytes int) *Table[rec] {
	tb.Helper()
	t := New("t/", pageBytes, codec)
	list(tb, s, t)
	return t
}

// list brings t up to date.
func list(tb testing.TB, s store.Store, t *Table[rec]) []Change[rec] {
	tb.Helper()
	kvs, revision, err := s.Range(tb.Context(), t.Prefix())
	if err != nil {
		tb.Fatal(err)
	}
	changes := t.Reset(kvs)
	t.Advance(revision)
	return changes
}

// commitAll writes set and del, and returns what changed.
func commitAll(tb testing.TB, s store.Store, t *Table[rec], set []rec, del ...string) []Change[rec] {
	tb.Helper()
	return commitBy(tb, t, set, del, func(c []store.Cond, o []store.Op) (bool, int64, error) { return s.Txn(tb.Context(), c, o) })
}

// commitBy writes set and del through txn, unit by unit.
func commitBy(tb testing.TB, t *Table[rec], set []rec, del []string, txn func([]store.Cond, []store.Op) (bool, int64, error)) (changes []Change[rec]) {
	tb.Helper()
	for {
		units, err := t.Stage(set, del)
		if err != nil {
			tb.Fatal(err)
		}
		if len(units) == 0 {
			return changes
		}
		for _, u := range units {
			ok, revision, err := txn(u.Conds, u.Ops)
			if err != nil || !ok {
				tb.Fatal(ok, err)
			}
			changes = append(changes, t.Apply(Events([]Unit{u}, revision))...)
		}
	}
}

var genKey = rapid.OneOf(
	rapid.StringMatching(`[a-c]{1,4}`),
	rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, '!', '"', '/', 'a', '}', '~', 0x7f, 0xff}), 1, 4).Draw(t, "bytes"))
	}),
)

var genRec = rapid.Custom(func(t *rapid.T) rec {
	r := rec{key: genKey.Draw(t, "key"), val: uint16(rapid.IntRange(0, 3).Draw(t, "val"))}
	if rapid.IntRange(0, 9).Draw(t, "long") == 0 {
		r.pad = rapid.IntRange(0, 200).Draw(t, "pad")
	}
	return r
})

// TestOneWriter holds a table to a map.
func TestOneWriter(t *testing.T) {
	// Not parallel: generators that tests share remember their names without a lock.
	rapid.Check(t, func(rt *rapid.T) {
		s := memory.New()
		defer s.Close()
		pageBytes := rapid.SampledFrom([]int{64, 100, 300}).Draw(rt, "page")
		tab := New("t/", pageBytes, codec)
		model := map[string]rec{}
		for range rapid.IntRange(1, 25).Draw(rt, "rounds") {
			set := rapid.SliceOfN(genRec, 0, 30).Draw(rt, "set")
			del := rapid.SliceOfN(genKey, 0, 30).Draw(rt, "del")
			if rapid.IntRange(0, 9).Draw(rt, "clear") == 0 {
				del = slices.Collect(maps.Keys(model))
			}
			old := maps.Clone(model)
			for _, k := range del {
				delete(model, k)
			}
			for _, r := range set {
				model[r.key] = r
			}
			for _, c := range commitAll(t, s, tab, set, del...) {
				if have, ok := old[c.Key]; ok != (c.Old != nil) || ok && have != *c.Old {
					rt.Fatalf("change of %q from %v, it was %v", c.Key, c.Old, have)
				}
				if c.New == nil {
					delete(old, c.Key)
				} else {
					old[c.Key] = *c.New
				}
			}
			if !maps.Equal(old, model) {
				rt.Fatalf("changes lead to %v, want %v", old, model)
			}
			if got := contents(t, tab); !maps.Equal(got, model) {
				rt.Fatalf("table has %v, want %v", got, model)
			}
			if got := contents(t, load(t, s, pageBytes)); !maps.Equal(got, model) {
				rt.Fatalf("store has %v, want %v", got, model)
			}
			shape(t, tab)
			if kvs, _, _ := s.Range(t.Context(), ""); len(model) == 0 && len(kvs) != 0 {
				rt.Fatalf("an empty table leaves %d keys", len(kvs))
			}
			from := genKey.Draw(rt, "from")
			for r := range tab.From(from) {
				if r.key < from {
					rt.Fatalf("From(%q) yields %q", from, r.key)
				}
				delete(old, r.key)
			}
			for k := range old {
				if k >= from {
					rt.Fatalf("From(%q) leaves %q out", from, k)
				}
			}
		}
	})
}

// view is a writer: a table that has applied the history up to a point, and
// beyond it its own transactions.
type view struct {
	tab  *Table[rec]
	seen int
	late []store.Event // own events that are not applied yet
}

// TestStaleWriters lets several writers commit from views of different ages.
// Whatever they do: each overwrites only what it knew, and the pages in the store
// hold exactly what was committed, each record once and in its place.
func TestStaleWriters(t *testing.T) {
	// Not parallel: generators that tests share remember their names without a lock.
	committed, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s := memory.New()
		defer s.Close()
		const pageBytes = 64
		views := make([]view, rapid.IntRange(2, 4).Draw(rt, "writers"))
		for i := range views {
			views[i].tab = New("t/", pageBytes, codec)
		}
		var history []store.Batch
		model := map[string]rec{}

		feed := func(v *view, to int) {
			var events []store.Event
			for _, b := range history[v.seen:to] {
				events = append(events, b.Events...)
			}
			v.tab.Apply(events)
			if u := v.tab.Unread(); u != nil {
				rt.Fatalf("apply history %d to %d: %v", v.seen, to, u)
			}
			if v.seen = to; to > 0 && len(v.late) == 0 {
				v.tab.Advance(history[to-1].Revision)
			}
		}
		for range rapid.IntRange(10, 60).Draw(rt, "steps") {
			v := &views[rapid.IntRange(0, len(views)-1).Draw(rt, "writer")]
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0, 1: // the watch brings some news
				feed(v, rapid.IntRange(v.seen, len(history)).Draw(rt, "to"))
			case 2: // and some old ones again
				from := rapid.IntRange(0, v.seen).Draw(rt, "from")
				for _, b := range history[from:v.seen] {
					if changes := v.tab.Apply(b.Events); len(changes) > 0 {
						rt.Fatalf("old news are %v", changes)
					}
				}
			case 3: // its own news come late
				v.tab.Apply(v.late)
				v.late = nil
			case 4: // it starts over
				*v = view{tab: load(t, s, pageBytes), seen: len(history)}
			default:
				set := rapid.SliceOfN(genRec, 0, 12).Draw(rt, "set")
				del := rapid.SliceOfN(genKey, 0, 12).Draw(rt, "del")
				if rapid.IntRange(0, 9).Draw(rt, "clear") == 0 {
					for r := range v.tab.All() {
						del = append(del, r.key)
					}
				}
				units, err := v.tab.Stage(set, del)
				if err != nil {
					rt.Fatal(err)
				}
				for _, u := range units {
					ok, revision, err := s.Txn(t.Context(), u.Conds, u.Ops)
					if err != nil {
						rt.Fatal(err)
					}
					if !ok {
						refused++
						continue
					}
					committed++
					events := Events([]Unit{u}, revision)
					history = append(history, store.Batch{Revision: revision, Events: events})
					lateIt := len(v.late) > 0 || rapid.IntRange(0, 4).Draw(rt, "late") == 0
					if lateIt {
						v.late = append(v.late, events...)
						// What it changed shows in a view that is not late.
						fresh := New("t/", pageBytes, codec)
						for _, b := range history[:len(history)-1] {
							fresh.Apply(b.Events)
						}
						commit(rt, fresh, events, model)
					} else {
						commit(rt, v.tab, events, model)
					}
					if got := contents(t, load(t, s, pageBytes)); !maps.Equal(got, model) {
						rt.Fatalf("store has %v, want %v", got, model)
					}
				}
			}
		}
		for i := range views {
			feed(&views[i], len(history))
			if got := contents(t, views[i].tab); !maps.Equal(got, model) {
				rt.Fatalf("view %d has %v in the end, want %v", i, got, model)
			}
			views[i].tab.Apply(views[i].late)
			if got := contents(t, views[i].tab); !maps.Equal(got, model) {
				rt.Fatalf("view %d has %v after late news, want %v", i, got, model)
			}
		}
	})
	if committed < 300 || refused < 100 {
		t.Errorf("%d transactions were committed and %d refused: too few to mean anything", committed, refused)
	}
}

// commit applies what a transaction wrote and checks that it overwrote what was there.
func commit(rt *rapid.T, tab *Table[rec], events []store.Event, model map[string]rec) {
	changes := tab.Apply(events)
	if u := tab.Unread(); u != nil {
		rt.Fatal(u)
	}
	for _, c := range changes {
		have, ok := model[c.Key]
		if ok != (c.Old != nil) || ok && have != *c.Old {
			rt.Fatalf("lost update: %q was %v, the writer replaced %v", c.Key, have, c.Old)
		}
		if c.New == nil {
			delete(model, c.Key)
		} else {
			model[c.Key] = *c.New
		}
	}
}

// TestBound holds the written form of bounds to its order.
func TestBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		a := string(rapid.SliceOf(rapid.Byte()).Draw(rt, "a"))
		b := string(rapid.SliceOf(rapid.Byte()).Draw(rt, "b"))
		wa, wb := string(appendBound(nil, a)), string(appendBound(nil, b))
		if strings.Compare(a, b) != strings.Compare(wa, wb) {
			rt.Fatalf("%q and %q are written %q and %q", a, b, wa, wb)
		}
		if got, err := parseBound(wa); err != nil || got != a {
			rt.Fatalf("%q is read back as %q, %v", wa, got, err)
		}
		if a < b {
			if s := separator(a, b); s <= a || s > b {
				rt.Fatalf("separator of %q and %q is %q", a, b, s)
			}
		}
	})
}

func FuzzBound(f *testing.F) {
	for _, s := range []string{"", "a", "!00", "~ff", "!", "~7", "!41", "a b", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if bound, err := parseBound(s); err == nil && string(appendBound(nil, bound)) != s {
			t.Errorf("%q is read as %q, which is written %q", s, bound, appendBound(nil, bound))
		}
	})
}

// TestBulkLoad loads far more than fits one transaction.
func TestBulkLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, pad, pageBytes int }{{20_000, 20, 512}, {60_000, 40, 8 << 10}, {100, 60 << 10, 4 << 10}, {30, 200 << 10, 1 << 20}} {
		t.Run(fmt.Sprintf("%d of %d", c.n, c.pad), func(t *testing.T) {
			t.Parallel()
			s := memory.New()
			defer s.Close()
			tab := New("t/", c.pageBytes, codec)
			set := make([]rec, c.n)
			for i := range set {
				set[i] = rec{fmt.Sprintf("task-%06d", i), 1, c.pad}
			}
			txns, most := 0, 0
			txn := func(conds []store.Cond, ops []store.Op) (bool, int64, error) {
				txns++
				most = max(most, len(ops))
				conds = append(conds, make([]store.Cond, 4)...)
				ops = append(ops, make([]store.Op, 4)...)
				for i := range 4 {
					conds[len(conds)-1-i].Key = fmt.Sprintf("x%d", i)
					ops[len(ops)-1-i] = store.Op{Key: fmt.Sprintf("y%d", i), Value: make([]byte, 10<<10)}
				}
				return s.Txn(t.Context(), conds, ops)
			}
			changes := commitBy(t, tab, set, nil, txn)
			if len(changes) != c.n || len(contents(t, tab)) != c.n {
				t.Fatalf("%d changes, %d records, want %d", len(changes), tab.Len(), c.n)
			}
			shape(t, tab)
			size := 0
			for _, p := range tab.pages {
				size += p.size
			}
			if full := float64(size) / float64(tab.Pages()*tab.pageBytes); full < 0.4 {
				t.Errorf("%d pages are %.0f%% full", tab.Pages(), 100*full)
			}
			t.Logf("%d transactions of at most %d operations, %d pages", txns, most, tab.Pages())
			keys := make([]string, c.n)
			for i := range set {
				keys[i] = set[i].key
			}
			commitBy(t, tab, nil, keys, txn)
			if kvs, _, _ := s.Range(t.Context(), "t/"); len(kvs) != 0 || tab.Len() != 0 {
				t.Errorf("%d pages and %d records are left", len(kvs), tab.Len())
			}
		})
	}
}

// TestLateWriterOfAnEmptyTable: the first write of a table whose root stays is refused
// however late it comes, if the table has had records since that are gone.
func TestLateWriterOfAnEmptyTable(t *testing.T) {
	t.Parallel()
	for _, stays := range []bool{true, false} {
		c := codec
		c.Stays = stays
		st := memory.New()
		t.Cleanup(func() { st.Close() })
		tb := New("t/", 1024, c)
		stage := func(set []rec, del ...string) []Unit {
			units, err := tb.Stage(set, del)
			if err != nil || len(units) == 0 {
				t.Fatalf("%d units, %v", len(units), err)
			}
			return units
		}
		write := func(units []Unit) bool {
			var all Unit
			for _, u := range units {
				all.Conds, all.Ops = append(all.Conds, u.Conds...), append(all.Ops, u.Ops...)
			}
			ok, rev, err := st.Txn(t.Context(), all.Conds, all.Ops)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				tb.Apply(Events(units, rev))
			}
			return ok
		}
		late := stage([]rec{{key: "late"}})[0]
		many := make([]rec, 200)
		var keys []string
		for n := range many {
			many[n].key = fmt.Sprintf("k%03d", n)
			keys = append(keys, many[n].key)
		}
		if !write(stage(many)) || !write(stage(nil, keys...)) {
			t.Fatal("not written")
		}
		if tb.Len() != 0 {
			t.Fatalf("%d records left", tb.Len())
		}
		if ok, _, err := st.Txn(t.Context(), late.Conds, late.Ops); ok == stays || err != nil {
			t.Errorf("root stays: %v; done late: %v, %v", stays, ok, err)
		}
		if kvs, _, err := st.Range(t.Context(), "t/"); len(kvs) != 1 || err != nil {
			t.Errorf("root stays: %v; %d keys, %v", stays, len(kvs), err)
		}
	}
}
