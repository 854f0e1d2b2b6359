package commit_test

import (
	"testing"

	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// TestFence has a transaction that was doubted never land, once the fence is settled or
// another was written by it. One that nobody doubted lands, and so do all others.
func TestFence(t *testing.T) {
	t.Parallel()
	st := memory.New()
	defer st.Close()
	put := func(key string) []store.Op { return []store.Op{{Key: key}} }
	for _, behind := range []struct {
		what string
		call func(*commit.Fence) error
	}{
		{"settled", func(f *commit.Fence) error { return f.Settle(t.Context()) }},
		{"another written", func(f *commit.Fence) error {
			_, _, err := f.Txn(t.Context(), nil, put("other"))
			return err
		}},
	} {
		f := &commit.Fence{Store: st, Key: "fences/" + behind.what}
		late, _, err := f.Guard(t.Context(), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := behind.call(f); err != nil {
			t.Fatal(err)
		}
		if ok, _, err := st.Txn(t.Context(), late, put("late")); err != nil || !ok {
			t.Errorf("%s, and nobody doubts: %v, %v", behind.what, ok, err)
		}
		f.Doubt()
		if err := behind.call(f); err != nil {
			t.Fatal(err)
		}
		if ok, _, err := st.Txn(t.Context(), late, put("late")); err != nil || ok {
			t.Errorf("%s: what was doubted lands (%v)", behind.what, err)
		}
	}
}

// TestFenceOfTwo has two processes of one name, each of which writes the fence: both go on.
func TestFenceOfTwo(t *testing.T) {
	t.Parallel()
	st := memory.New()
	defer st.Close()
	a, b := &commit.Fence{Store: st, Key: "fences/s1"}, &commit.Fence{Store: st, Key: "fences/s1"}
	for n := range 4 {
		for _, f := range []*commit.Fence{a, b} {
			tries := 0
			for ok := false; !ok; tries++ {
				var err error
				if ok, _, err = f.Txn(t.Context(), nil, []store.Op{{Key: "k"}}); err != nil {
					t.Fatal(err)
				}
			}
			if tries > 2 {
				t.Errorf("round %d: %d tries", n, tries)
			}
		}
	}
}

// TestFenceWrites has the fence written once for all transactions that nobody doubts, even
// where many are refused.
func TestFenceWrites(t *testing.T) {
	t.Parallel()
	st := memory.New()
	defer st.Close()
	f := &commit.Fence{Store: st, Key: "fences/s1"}
	for range 10 {
		if ok, _, err := f.Txn(t.Context(), []store.Cond{{Key: "absent", By: store.ByMod, Revision: 7}}, []store.Op{{Key: "k"}}); err != nil || ok {
			t.Fatal(ok, err)
		}
	}
	kv, _, rev, err := st.Get(t.Context(), f.Key)
	if err != nil || kv.Mod != rev {
		t.Errorf("it was written at %d, and something at %d (%v)", kv.Mod, rev, err)
	}
	if err := f.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, now, _ := st.Get(t.Context(), f.Key); now != rev {
		t.Error("it is written though there is no doubt")
	}
}
