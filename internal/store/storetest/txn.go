package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/rota-project/rota/store"
)

func empty(t *testing.T, s store.Store) {
	if kvs, revision := list(t, s, ""); len(kvs) != 0 || revision <= 0 {
		t.Errorf("an empty root has %d keys at revision %d", len(kvs), revision)
	}
	if kv, ok := get(t, s, "a"); ok {
		t.Errorf("an empty root has %+v", kv)
	}
	if _, _, _, err := s.Get(t.Context(), ""); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("the empty key: %v, want ErrInvalid", err)
	}
	if ok, _, err := s.Txn(t.Context(), nil, nil); !ok || err != nil {
		t.Errorf("an empty transaction: %v, %v", ok, err)
	}
	if ok, _, err := s.Txn(t.Context(), nil, []store.Op{{Key: "a", Delete: true}}); !ok || err != nil {
		t.Errorf("deleting what is not there: %v, %v", ok, err)
	}
}

func revisions(t *testing.T, s store.Store) {
	first := txn(t, s, put("a", "1"))
	second := txn(t, s, put("a", "2"), put("b", "1"))
	if second <= first {
		t.Fatalf("revision %d comes after %d", second, first)
	}
	if kv, _ := get(t, s, "a"); kv.Create != first || kv.Mod != second || string(kv.Value) != "2" || kv.Lease != 0 {
		t.Errorf("a is %+v, want it made at %d and written at %d", kv, first, second)
	}
	txn(t, s, store.Op{Key: "a", Delete: true})
	wants(t, s, "a", "")
	again := txn(t, s, put("a", "3"))
	if kv, _ := get(t, s, "a"); kv.Create != again || kv.Mod != again {
		t.Errorf("a is %+v, want it made again at %d", kv, again)
	}
	kvs, revision := list(t, s, "")
	if len(kvs) != 2 || kvs[0].Key != "a" || kvs[1].Key != "b" || kvs[1].Mod != second || revision < again {
		t.Errorf("the root has %+v at %d", kvs, revision)
	}
}

func conditions(t *testing.T, s store.Store) {
	made := txn(t, s, put("a", "1"))
	wrote := txn(t, s, put("a", "2"))
	for _, c := range []struct {
		name  string
		conds []store.Cond
		want  bool
	}{
		{"none", nil, true},
		{"made then", []store.Cond{{Key: "a", By: store.ByCreate, Revision: made}}, true},
		{"made at another time", []store.Cond{{Key: "a", By: store.ByCreate, Revision: wrote}}, false},
		{"written before", []store.Cond{{Key: "a", By: store.ByMod, Revision: made}}, false},
		{"there", []store.Cond{{Key: "a", By: store.ByCreate}}, false},
		{"there, by writing", []store.Cond{{Key: "a", By: store.ByMod}}, false},
		{"not there", []store.Cond{{Key: "x", By: store.ByCreate}}, true},
		{"not there, by writing", []store.Cond{{Key: "x", By: store.ByMod}}, true},
		{"one of two", []store.Cond{{Key: "x"}, {Key: "a"}}, false},
		{"both", []store.Cond{{Key: "x"}, {Key: "a", By: store.ByCreate, Revision: made}}, true},
	} {
		before, _ := get(t, s, "out")
		ok, revision, err := s.Txn(t.Context(), c.conds, []store.Op{put("out", c.name)})
		if err != nil || ok != c.want {
			t.Fatalf("%s: %v, %v; want %v", c.name, ok, err, c.want)
		}
		after, _ := get(t, s, "out")
		switch {
		case ok && (after.Mod != revision || string(after.Value) != c.name):
			t.Errorf("%s: done at %d, but it is %+v", c.name, revision, after)
		case !ok && (after.Mod != before.Mod || revision < before.Mod):
			t.Errorf("%s: refused at %d, but it was %+v and is %+v", c.name, revision, before, after)
		}
	}
	ok, _, err := s.Txn(t.Context(), []store.Cond{{Key: "a", By: store.ByMod, Revision: wrote}}, []store.Op{{Key: "a", Delete: true}})
	if err != nil || !ok {
		t.Fatalf("the last writing: %v, %v", ok, err)
	}
	wants(t, s, "a", "")
}

func atomic(t *testing.T, s store.Store) {
	txn(t, s, put("old", "1"))
	ops := []store.Op{{Key: "old", Delete: true}}
	for i := range store.MaxTxnOps - 1 {
		ops = append(ops, put(fmt.Sprintf("k%03d", i), "v"))
	}
	revision := txn(t, s, ops...)
	kvs, _ := list(t, s, "")
	if len(kvs) != len(ops)-1 {
		t.Fatalf("%d keys, want %d", len(kvs), len(ops)-1)
	}
	for _, kv := range kvs {
		if kv.Mod != revision || kv.Create != revision {
			t.Errorf("%+v, want revision %d", kv, revision)
		}
	}
}

func limits(t *testing.T, s store.Store) {
	ops := make([]store.Op, store.MaxTxnOps+1)
	conds := make([]store.Cond, store.MaxTxnOps+1)
	for i := range ops {
		ops[i] = put(fmt.Sprintf("k%03d", i), "v")
		conds[i] = store.Cond{Key: ops[i].Key}
	}
	half := bytes.Repeat([]byte("x"), store.MaxTxnBytes/2)
	for name, c := range map[string]struct {
		conds []store.Cond
		ops   []store.Op
		want  error
	}{
		"operations": {nil, ops, store.ErrTooLarge},
		"conditions": {conds, ops[:1], store.ErrTooLarge},
		"bytes":      {nil, []store.Op{{Key: "a", Value: half}, {Key: "b", Value: half}}, store.ErrTooLarge},
		"twice":      {nil, []store.Op{put("a", "1"), put("a", "2")}, store.ErrInvalid},
		"no key":     {nil, []store.Op{put("a", "1"), put("", "2")}, store.ErrInvalid},
	} {
		if ok, _, err := s.Txn(t.Context(), c.conds, c.ops); ok || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, ok, err, c.want)
		}
	}
	if kvs, _ := list(t, s, ""); len(kvs) != 0 {
		t.Errorf("refused transactions left %d keys", len(kvs))
	}
	if ok, _, err := s.Txn(t.Context(), conds[1:], ops[1:]); !ok || err != nil {
		t.Errorf("the most operations: %v, %v", ok, err)
	}
	txn(t, s, store.Op{Key: "a", Value: half}, store.Op{Key: "b", Value: half[:len(half)-1000]})
	if kv, _ := get(t, s, "a"); !bytes.Equal(kv.Value, half) {
		t.Errorf("%d bytes came back as %d", len(half), len(kv.Value))
	}
}

func oddBytes(t *testing.T, s store.Store) {
	keys := []string{"\x00", "\x00\x00", "a/b", "a\x00", "a\xff", "é", "\xff", "\xff\xff"}
	for i, key := range keys {
		txn(t, s, store.Op{Key: key, Value: []byte{0, 0xff, byte(i)}})
	}
	kvs, _ := list(t, s, "")
	if len(kvs) != len(keys) {
		t.Fatalf("%d keys, want %d: %+v", len(kvs), len(keys), kvs)
	}
	for i := 1; i < len(kvs); i++ {
		if kvs[i-1].Key >= kvs[i].Key {
			t.Errorf("%q comes before %q", kvs[i-1].Key, kvs[i].Key)
		}
	}
	if kvs, _ := list(t, s, "\xff"); len(kvs) != 2 {
		t.Errorf("below \\xff are %+v", kvs)
	}
	if kvs, _ := list(t, s, "a"); len(kvs) != 3 {
		t.Errorf("below a are %+v", kvs)
	}
	txn(t, s, put("empty", ""))
	if kv, ok := get(t, s, "empty"); !ok || len(kv.Value) != 0 {
		t.Errorf("an empty value is %q, %v", kv.Value, ok)
	}
}

// linearizable counts from many goroutines, each by read and conditional write.
func linearizable(t *testing.T, s store.Store) {
	const workers, each = 4, 25
	txn(t, s, put("n", "0"))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				kv, _, _, err := s.Get(t.Context(), "n")
				if err != nil {
					t.Errorf("get: %v", err)
					return
				}
				n, err := strconv.Atoi(string(kv.Value))
				if err != nil {
					t.Errorf("n is %q", kv.Value)
					return
				}
				ok, revision, err := s.Txn(t.Context(), []store.Cond{{Key: "n", By: store.ByMod, Revision: kv.Mod}}, []store.Op{put("n", strconv.Itoa(n+1))})
				if err != nil {
					t.Errorf("txn: %v", err)
					return
				}
				if ok {
					done++
					if kvs, at, err := s.Range(t.Context(), "n"); err != nil || at < revision || len(kvs) != 1 || kvs[0].Mod < revision {
						t.Errorf("a listing at %d, %v does not see the transaction of %d: %+v", at, err, revision, kvs)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	wants(t, s, "n", strconv.Itoa(workers*each))
}

// snapshot reads long listings while keys far apart are written together.
func snapshot(t *testing.T, s store.Store) {
	const n = 2000
	var ops []store.Op
	for i := range n {
		ops = append(ops, put(fmt.Sprintf("k%05d", i), "0"))
		if len(ops) == store.MaxTxnOps || i == n-1 {
			txn(t, s, ops...)
			ops = nil
		}
	}
	ends := func(value string) []store.Op {
		return []store.Op{put("k00000", value), put(fmt.Sprintf("k%05d", n-1), value)}
	}
	txn(t, s, ends("0")...)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; ctx.Err() == nil; i++ {
			if _, _, err := s.Txn(ctx, nil, ends(strconv.Itoa(i))); err != nil && ctx.Err() == nil {
				t.Errorf("txn: %v", err)
				return
			}
		}
	})
	seen := map[string]bool{} // until the writer has been at work between listings
	for len(seen) < 5 && !t.Failed() {
		kvs, revision := list(t, s, "k")
		if len(kvs) != n {
			t.Errorf("%d keys are listed, want %d", len(kvs), n)
			break
		}
		first, last := kvs[0], kvs[n-1]
		if string(first.Value) != string(last.Value) || first.Mod != last.Mod || first.Mod > revision {
			t.Errorf("a listing at %d has %+v and %+v, which were written together", revision, first, last)
		}
		seen[string(first.Value)] = true
	}
	stop()
	wg.Wait()
}

func ended(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Txn(ctx, nil, []store.Op{put("a", "1")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Txn: %v, want Canceled", err)
	}
	if _, _, _, err := s.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want Canceled", err)
	}
	if _, _, err := s.Range(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("Range: %v, want Canceled", err)
	}
	if _, _, err := s.Grant(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Grant: %v, want Canceled", err)
	}
	if _, err := s.KeepAlive(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("KeepAlive: %v, want Canceled", err)
	}
	if err := s.Revoke(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Revoke: %v, want Canceled", err)
	}
}

func roots(t *testing.T, a, b store.Store) {
	start := txn(t, a, put("k", "a"))
	txn(t, b, put("k", "b"), put("l", "b"))
	wants(t, a, "k", "a")
	wants(t, b, "k", "b")
	wants(t, a, "l", "")
	if kvs, _ := list(t, a, ""); len(kvs) != 1 || kvs[0].Key != "k" {
		t.Errorf("one root has %+v", kvs)
	}
	if evs := events(t, a.Watch(t.Context(), "", start), 1); evs[0].Key != "k" || string(evs[0].Value) != "a" {
		t.Errorf("one root sees %+v", evs)
	}
	txn(t, a, store.Op{Key: "k", Delete: true})
	wants(t, b, "k", "b")
	// Revisions and leases are those of the database.
	if ok, _, err := b.Txn(t.Context(), []store.Cond{{Key: "k", By: store.ByCreate}}, []store.Op{put("k", "x")}); ok || err != nil {
		t.Errorf("a condition looks at the other root: %v, %v", ok, err)
	}
}
