package table

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// filled is a store with a table of five pages, of which two have patches, and the
// keys of them.
func filled(tb testing.TB) (s *memory.Store, t *Table[rec], keys []string) {
	tb.Helper()
	s, t = memory.New(), New("t/", 512, codec)
	var set []rec
	for i := range 80 {
		set = append(set, rec{fmt.Sprintf("task-%03d", i), 1, 4})
	}
	commitAll(tb, s, t, set)
	commitAll(tb, s, t, []rec{{"task-001", 2, 4}, {"task-050", 2, 4}}, "task-002")
	kvs, _, err := s.Range(tb.Context(), "t/")
	if err != nil {
		tb.Fatal(err)
	}
	patches := 0
	for _, kv := range kvs {
		keys = append(keys, kv.Key)
		if strings.HasSuffix(kv.Key, patchSuffix) {
			patches++
		}
	}
	if len(keys) < 5 || patches != 2 {
		tb.Fatalf("keys %q", keys)
	}
	return s, t, keys
}

// wrong are values that no key of a table has, by name; value is what it had.
func wrong(value []byte) map[string][]byte {
	twice, _ := codec.Encode([]rec{{"task-000", 1, 1}, {"task-000", 2, 1}}, []string{"task-000"})
	below, _ := codec.Encode([]rec{{"a", 1, 1}}, []string{"a"})
	beyond, _ := codec.Encode([]rec{{"zz", 1, 1}}, nil)
	return map[string][]byte{
		"garbage": []byte("garbage"), "empty": {}, "cut off": value[:len(value)/2+1],
		"deleted": nil, "newer": {codecVersion + 1, 7}, "a record twice": twice, "a record below": below, "a record beyond": beyond,
	}
}

// TestUnreadPages has every key of a table hold every kind of wrong value. A table
// that has seen what was there before goes on with it and brings it back; one that
// has not says what is lost, and has the rest.
func TestUnreadPages(t *testing.T) {
	t.Parallel()
	_, _, keys := filled(t)
	last := keys[len(keys)-1]
	keys = append(keys, "t/nobody", "t/task-040", "t/task-040!+", "t/!zz", "t/a b")
	for _, key := range keys {
		for name := range wrong([]byte("x")) {
			t.Run(fmt.Sprintf("%s/%s", key, name), func(t *testing.T) {
				t.Parallel()
				s, warm, _ := filled(t)
				defer s.Close()
				before := contents(t, warm)
				kv, there, _, err := s.Get(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				value, deleted := wrong(append([]byte("x"), kv.Value...))[name], false
				if name == "deleted" {
					if deleted = key == "t/" || strings.HasSuffix(key, patchSuffix) && there; !deleted {
						return // as by a table
					}
				}
				if there && name == "cut off" {
					value = kv.Value[:len(kv.Value)/2]
				}
				_, rev, err := s.Txn(t.Context(), nil, []store.Op{{Key: key, Value: value, Delete: deleted}})
				if err != nil {
					t.Fatal(err)
				}
				put := store.KV{Key: key, Value: value, Mod: rev, Create: rev}
				if there {
					put.Create = kv.Create
				}
				if warm.Apply([]store.Event{{KV: put, Deleted: deleted}}); len(warm.Unread()) == 0 {
					if key != last || name != "a record beyond" { // which is in its place there
						t.Error("it is taken for good")
					}
					return
				}
				if got := contents(t, warm); !maps.Equal(got, before) {
					t.Errorf("%d records are left of %d", len(got), len(before))
				}
				cold := load(t, s, 512)
				contents(t, cold) // which agree with each other
				if len(cold.Unread()) == 0 && (!deleted || key == "t/") {
					t.Error("the key reads well to who sees it first")
				}
				if name == "newer" { // and left alone
					for who, tab := range map[string]*Table[rec]{"warm": warm, "cold": cold} {
						units, err := tab.Mend()
						if ops := keysOf(units); err != nil || slices.Contains(ops, key) {
							t.Errorf("%s mends %q: %v", who, ops, err)
						}
						if u := tab.Unread(); !slices.ContainsFunc(u, func(u Unread) bool { return u.Key == key && newer(u.Err) }) {
							t.Errorf("%s: %v", who, u)
						}
					}
					return
				}
				if warm.Lost() {
					t.Errorf("lost: %v", warm.Unread())
					return
				}
				for key, r := range contents(t, cold) {
					if before[key] != r && !cold.LostAt(key) && before[key].key != "" && !deleted {
						t.Errorf("%q is %v, was %v", key, r, before[key])
					}
				}
				for key := range before {
					if _, ok := cold.Get(key); !ok && !cold.LostAt(key) {
						t.Errorf("%q is gone, and not said to be lost", key)
					}
				}
				units, err := warm.Mend()
				if err != nil || len(units) == 0 {
					t.Fatalf("mend: %v, %v", units, err)
				}
				for _, u := range units {
					ok, rev, err := s.Txn(t.Context(), u.Conds, u.Ops)
					if err != nil || !ok {
						t.Fatalf("mend: %v, %v", ok, err)
					}
					warm.Apply(Events([]Unit{u}, rev))
				}
				if u := warm.Unread(); u != nil || !maps.Equal(contents(t, warm), before) {
					t.Errorf("mended: %v", u)
				}
				fresh := load(t, s, 512)
				if u := fresh.Unread(); u != nil || !maps.Equal(contents(t, fresh), before) {
					t.Errorf("mended, to who sees it first: %v", u)
				}
				commitAll(t, s, warm, []rec{{"task-041", 9, 4}}, "task-001")
				contents(t, warm)
			})
		}
	}
}

// keysOf are the keys that units write.
func keysOf(units []Unit) (keys []string) {
	for _, u := range units {
		for _, op := range u.Ops {
			keys = append(keys, op.Key)
		}
	}
	return keys
}

// TestBadHand has somebody write nonsense between two writers who go on. Whatever
// they end with is the same for both and for who comes later, each key is said to be
// unread or read, and they can go on writing.
func TestBadHand(t *testing.T) {
	// Not parallel: generators that tests share remember their names without a lock.
	mended := 0
	rapid.Check(t, func(rt *rapid.T) {
		s := memory.New()
		defer s.Close()
		tab := New("t/", 64, codec)
		model := map[string]rec{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "bad") {
				kvs, _, err := s.Range(t.Context(), "t/")
				if err != nil {
					rt.Fatal(err)
				}
				key := "t/" + rapid.SampledFrom([]string{"", "a", "b!+", "!", "!+", "!00"}).Draw(rt, "new")
				value := []byte{codecVersion, 0}
				if len(kvs) > 0 && rapid.Bool().Draw(rt, "there") {
					kv := rapid.SampledFrom(kvs).Draw(rt, "key")
					key, value = kv.Key, kv.Value
				}
				var op store.Op
				switch rapid.IntRange(0, 2).Draw(rt, "how") {
				case 0:
					op = store.Op{Key: key, Value: []byte("garbage")}
				case 1:
					op = store.Op{Key: key, Value: append(slices.Clone(value), 0xff)}
				default:
					op = store.Op{Key: key, Value: rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(rt, "value")}
				}
				create := int64(0)
				for _, kv := range kvs {
					if kv.Key == op.Key {
						create = kv.Create
					}
				}
				_, rev, err := s.Txn(t.Context(), nil, []store.Op{op})
				if err != nil {
					rt.Fatal(err)
				}
				if create == 0 {
					create = rev
				}
				changes := tab.Apply([]store.Event{{KV: store.KV{Key: op.Key, Value: op.Value, Mod: rev, Create: create}}})
				for _, c := range changes { // such as an empty page says well that nothing is there
					if c.New == nil {
						delete(model, c.Key)
					} else {
						model[c.Key] = *c.New
					}
				}
			}
			for range 3 {
				units, err := tab.Mend()
				if err != nil {
					rt.Fatal(err)
				}
				for _, u := range units {
					if ok, rev, err := s.Txn(t.Context(), u.Conds, u.Ops); err != nil {
						rt.Fatal(err)
					} else if ok {
						mended++
						tab.Apply(Events([]Unit{u}, rev))
					}
				}
			}
			if u := tab.Unread(); u != nil {
				for _, n := range u {
					if !newer(n.Err) {
						rt.Fatalf("not mended: %v", u)
					}
				}
				return // of a newer version: nobody writes there
			}
			if got := contents(t, tab); !maps.Equal(got, model) {
				rt.Fatalf("the table has %v, want %v", got, model)
			}
			fresh := New("t/", 64, codec)
			list(t, s, fresh)
			if got := contents(t, fresh); !maps.Equal(got, model) || fresh.Unread() != nil {
				rt.Fatalf("who comes later has %v, want %v; unread %v", got, model, fresh.Unread())
			}
			set := rapid.SliceOfN(genRec, 0, 5).Draw(rt, "set")
			for _, r := range set {
				model[r.key] = r
			}
			commitAll(t, s, tab, set)
		}
	})
	if mended < 50 {
		t.Errorf("%d were mended: too few to mean anything", mended)
	}
}

// FuzzPages gives a table two listed pages and an event of anything.
func FuzzPages(f *testing.F) {
	good, _ := codec.Encode([]rec{{"a", 1, 1}, {"m", 1, 1}}, nil)
	patch, _ := codec.Encode([]rec{{"a", 2, 1}}, []string{"m"})
	for _, key := range []string{"", "!+", "b", "b!+", "!"} {
		f.Add(good, patch, key, good)
		f.Add(good, good, key, patch)
		f.Add([]byte("x"), patch, key, []byte{})
	}
	f.Fuzz(func(t *testing.T, one, two []byte, key string, value []byte) {
		tab := New("t/", 64, codec)
		tab.Reset([]store.KV{{Key: "t/", Value: one, Mod: 5, Create: 5}, {Key: "t/b", Value: two, Mod: 6, Create: 6}, {Key: "t/b!+", Value: two, Mod: 7, Create: 7}})
		contents(t, tab)
		tab.Apply([]store.Event{{KV: store.KV{Key: "t/" + key, Value: value, Mod: 8, Create: 8}}})
		contents(t, tab)
		if _, err := tab.Stage([]rec{{"c", 1, 1}}, []string{"a"}); err != nil && !newer(err) {
			t.Error(err)
		}
		if _, err := tab.Mend(); err != nil {
			t.Error(err)
		}
		if _, err := tab.Forget(true); err != nil {
			t.Error(err)
		}
	})
}
