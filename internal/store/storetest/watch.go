package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/store"
)

func watchOld(t *testing.T, s store.Store) {
	first := txn(t, s, put("a", "1"))
	second := txn(t, s, put("b", "1"))
	third := txn(t, s, put("a", "2"))
	all := s.Watch(t.Context(), "", first)
	late := s.Watch(t.Context(), "", second+1)
	evs := events(t, all, 3)
	for i, want := range []store.KV{
		{Key: "a", Value: []byte("1"), Create: first, Mod: first},
		{Key: "b", Value: []byte("1"), Create: second, Mod: second},
		{Key: "a", Value: []byte("2"), Create: first, Mod: third},
	} {
		if ev := evs[i]; ev.Deleted || fmt.Sprint(ev.KV) != fmt.Sprint(want) {
			t.Errorf("event %d is %+v, want %+v", i, ev, want)
		}
	}
	if evs := events(t, late, 1); evs[0].Mod != third {
		t.Errorf("from %d on there is %+v", second+1, evs[0])
	}
	fourth := txn(t, s, put("c", "1"))
	for _, ch := range []<-chan store.Batch{all, late} {
		if evs := events(t, ch, 1); evs[0].Key != "c" || evs[0].Mod != fourth {
			t.Errorf("then comes %+v, want c at %d", evs[0], fourth)
		}
	}
}

func watchPrefix(t *testing.T, s store.Store) {
	start := txn(t, s, put("a/1", "v"), put("b/1", "v"), put("a", "v"))
	ch := s.Watch(t.Context(), "a/", start)
	txn(t, s, put("b/2", "v"))
	txn(t, s, put("a/2", "v"))
	evs := events(t, ch, 2)
	if evs[0].Key != "a/1" || evs[1].Key != "a/2" {
		t.Errorf("below a/ there are %+v", evs)
	}
}

func watchDeleted(t *testing.T, s store.Store) {
	start := txn(t, s, put("a", "v"))
	gone := txn(t, s, store.Op{Key: "a", Delete: true}, store.Op{Key: "never", Delete: true})
	ev := events(t, s.Watch(t.Context(), "", start+1), 1)[0]
	if !ev.Deleted || ev.Key != "a" || ev.Mod != gone || ev.Value != nil || ev.Create != 0 || ev.Lease != 0 {
		t.Errorf("the deletion at %d is %+v", gone, ev)
	}
}

// watchUntorn writes many long revisions and checks that none is divided.
func watchUntorn(t *testing.T, s store.Store) {
	const revisions, each = 60, 100
	var first int64
	for r := range revisions {
		ops := make([]store.Op, each)
		for i := range ops {
			ops[i] = put(fmt.Sprintf("k%03d", i), fmt.Sprint(r))
		}
		if revision := txn(t, s, ops...); r == 0 {
			first = revision
		}
	}
	for _, ch := range []<-chan store.Batch{s.Watch(t.Context(), "", first), s.Watch(t.Context(), "", first)} {
		total := 0
		for total < revisions*each {
			b, closed := next(t, ch)
			if closed || b.Err != nil {
				t.Fatalf("the watch ends: %v", b.Err)
			}
			byRevision := map[int64]int{}
			for _, ev := range b.Events {
				byRevision[ev.Mod]++
			}
			for revision, n := range byRevision {
				if n != each {
					t.Fatalf("a batch has %d events of revision %d, want all %d", n, revision, each)
				}
			}
			total += len(b.Events)
		}
	}
}

// watchFuture waits for a revision that is yet to come.
func watchFuture(t *testing.T, s store.Store) {
	start := txn(t, s, put("a", "1"))
	const ahead = 40
	ch := s.Watch(t.Context(), "", start+ahead)
	var want int64
	for want == 0 {
		if revision := txn(t, s, put("a", "n")); revision >= start+ahead {
			want = revision
		}
	}
	if b, closed := next(t, ch); closed || b.Err != nil || b.Events[0].Mod != want {
		t.Errorf("from %d on the first is %+v, want %d", start+ahead, b, want)
	}
}

func watchEnds(t *testing.T, s store.Store) {
	start := txn(t, s, put("a", "1"))
	ctx, cancel := context.WithCancel(t.Context())
	idle, busy := s.Watch(ctx, "none", start), s.Watch(ctx, "", start)
	cancel()
	for _, ch := range []<-chan store.Batch{idle, busy} {
		for {
			b, closed := next(t, ch)
			if closed {
				break
			}
			if b.Err != nil {
				t.Errorf("a watch whose context ends says %v", b.Err)
			}
		}
	}
}

func compaction(t *testing.T, target Target) {
	s := target.Open(t, "test/compaction/")
	first := txn(t, s, put("a", "1"))
	second := txn(t, s, put("a", "2"))
	third := txn(t, s, put("a", "3"))
	live := s.Watch(t.Context(), "", first)
	events(t, live, 3)
	if err := target.Compact(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	for _, revision := range []int64{first, second} {
		ch := s.Watch(t.Context(), "", revision)
		b, closed := next(t, ch)
		if closed || !errors.Is(b.Err, store.ErrCompacted) || len(b.Events) != 0 {
			t.Errorf("a watch from %d begins with %+v, want ErrCompacted", revision, b)
		}
		if b, closed := next(t, ch); !closed {
			t.Errorf("after its end the watch brings %+v", b)
		}
	}
	if evs := events(t, s.Watch(t.Context(), "", third), 1); evs[0].Mod != third {
		t.Errorf("from %d on there is %+v", third, evs)
	}
	wants(t, s, "a", "3")
	kvs, revision := list(t, s, "")
	if len(kvs) != 1 || kvs[0].Create != first || kvs[0].Mod != third {
		t.Errorf("the listing is %+v", kvs)
	}
	ch := s.Watch(t.Context(), "", revision+1)
	fourth := txn(t, s, put("b", "1"))
	for _, ch := range []<-chan store.Batch{live, ch} {
		if evs := events(t, ch, 1); evs[0].Mod != fourth {
			t.Errorf("a watch goes on with %+v, want %d", evs, fourth)
		}
	}
}

type record struct {
	key, value string
}

// tables keeps a table of many pages, and follows it by a watch and by listings.
func tables(t *testing.T, s store.Store) {
	codec := table.Codec[record]{
		Key:   func(r *record) string { return r.key },
		Size:  func(r *record) int { return len(r.key) + len(r.value) + 2 },
		Equal: func(a, b *record) bool { return *a == *b },
		Encode: func(rs []record, gone []string) (out []byte, err error) {
			out = append(out, byte(len(gone)))
			for _, key := range gone {
				out = append(append(out, byte(len(key))), key...)
			}
			for _, r := range rs {
				out = append(append(append(append(out, byte(len(r.key))), r.key...), byte(len(r.value))), r.value...)
			}
			return out, nil
		},
		Decode: func(b []byte) (rs []record, gone []string, err error) {
			text := func() (s string) {
				n := 1 + int(b[0])
				s, b = string(b[1:n]), b[n:]
				return s
			}
			n := b[0]
			for b = b[1:]; n > 0; n-- {
				gone = append(gone, text())
			}
			for len(b) > 0 {
				rs = append(rs, record{text(), text()})
			}
			return rs, gone, nil
		},
	}
	const n = 5000
	writer, follower := table.New("t/", 1024, codec), table.New("t/", 1024, codec)
	start := txn(t, s, put("begin", "x"))
	ch := s.Watch(t.Context(), "t/", start+1)
	w := commit.Writer{
		Txn: s.Txn, Reserve: 1,
		Guard: func(context.Context, int, int) ([]store.Cond, []store.Op, error) {
			return []store.Cond{{Key: "fence"}}, []store.Op{put("beside", "x")}, nil
		},
		Done: func(units []table.Unit, revision int64) { writer.Apply(table.Events(units, revision)) },
	}
	write := func(set []record, del []string) {
		t.Helper()
		for {
			units, err := writer.Stage(set, del)
			if err != nil {
				t.Fatal(err)
			}
			if len(units) == 0 {
				return
			}
			for r := range w.Write(t.Context(), units) {
				if !r.OK {
					t.Fatal(r.Err)
				}
			}
		}
	}
	var set []record
	for i := range n {
		set = append(set, record{fmt.Sprintf("key-%05d", i), "a value of some length"})
	}
	write(set, nil)
	var del []string
	for i := 0; i < n; i += 3 {
		del = append(del, set[i].key)
		set[i+1].value = "another"
	}
	write(set, nil)
	write(nil, del)
	for i := 1; i < n; i += 600 { // patches
		set[i].value = "changed"
		write(set[i:i+1], nil)
	}
	set[n-1].value = "the last"
	write(set[n-1:], nil)
	seen := map[string]string{}
	for len(seen) != n-len(del) || seen[set[n-1].key] != set[n-1].value {
		b, closed := next(t, ch)
		if closed || b.Err != nil {
			t.Fatalf("the watch ends: %v", b.Err)
		}
		changes := follower.Apply(b.Events)
		follower.Advance(b.Revision)
		for _, c := range changes {
			if c.New == nil {
				delete(seen, c.Key)
			} else {
				seen[c.Key] = c.New.value
			}
		}
	}
	listed := table.New("t/", 1024, codec)
	kvs, revision, err := s.Range(t.Context(), "t/")
	if err != nil {
		t.Fatal(err)
	}
	listed.Reset(kvs)
	listed.Advance(revision)
	for _, tab := range []*table.Table[record]{writer, follower, listed} {
		if tab.Len() != len(seen) {
			t.Errorf("%d records, want %d", tab.Len(), len(seen))
		}
		for r := range tab.All() {
			if seen[r.key] != r.value {
				t.Errorf("%q is %q, want %q", r.key, r.value, seen[r.key])
			}
		}
	}
}
