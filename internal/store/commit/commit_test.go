package commit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rota-project/rota/internal/store/commit"
	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/store/table"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// once writes a key that must not be there.
func once(key string) table.Unit {
	return table.Unit{Conds: []store.Cond{{Key: key}}, Ops: []store.Op{{Key: key, Value: []byte("x")}}}
}

func units(n int) (all []table.Unit) {
	for i := range n {
		all = append(all, once(fmt.Sprintf("u%03d", i)))
	}
	return all
}

// TestPack: packs are all units in their order, within the limits even beside the
// guard, and no unit would have fitted into the pack before.
func TestPack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		reserve := rapid.IntRange(0, store.MaxTxnOps/4).Draw(t, "reserve")
		n := 0
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) (u table.Unit) {
			for range rapid.IntRange(0, 40).Draw(t, "conds") {
				n++
				u.Conds = append(u.Conds, store.Cond{Key: fmt.Sprint("k", n)})
			}
			for range rapid.IntRange(0, 40).Draw(t, "ops") {
				n++
				u.Ops = append(u.Ops, store.Op{Key: fmt.Sprint("k", n), Value: make([]byte, rapid.SampledFrom([]int{0, 10, 20 << 10}).Draw(t, "size"))})
			}
			return u
		}), 0, 30).Draw(t, "units")
		check := func(pack []table.Unit) error {
			var conds []store.Cond
			var ops []store.Op
			for _, u := range pack {
				conds, ops = append(conds, u.Conds...), append(ops, u.Ops...)
			}
			for i := range reserve {
				conds = append(conds, store.Cond{Key: fmt.Sprint("c", i)})
				ops = append(ops, store.Op{Key: fmt.Sprint("o", i), Value: make([]byte, (60<<10)/reserve-100)})
			}
			return store.CheckTxn(conds, ops)
		}
		seen := 0
		for i, pack := range commit.Pack(all, reserve) {
			if len(pack) == 0 {
				t.Fatalf("pack %d is empty", i)
			}
			if err := check(pack); err != nil && len(pack) > 1 {
				t.Fatalf("pack %d: %v", i, err)
			}
			if seen+len(pack) < len(all) && reserve == 0 {
				wider := append(slices.Clone(all[seen:seen+len(pack)+1]), table.Unit{Ops: []store.Op{{Key: "o", Value: make([]byte, 64<<10)}}})
				if err := check(wider); err == nil {
					t.Fatalf("pack %d had room for one more", i)
				}
			}
			seen += len(pack)
		}
		if seen != len(all) {
			t.Fatalf("%d units, want %d", seen, len(all))
		}
	})
}

// TestWrite: one unit that is refused holds up no other, and who stops leaves the rest.
func TestWrite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		units []table.Unit
		there []string // before
		stop  int      // after so many results; 0 for never
		want  string
	}{
		"nothing":                  {want: ""},
		"all at once":              {units: units(3), want: "0-3 ok"},
		"two transactions":         {units: units(200), want: "0-127 ok, 127-200 ok"},
		"one is there":             {units: units(3), there: []string{"u001"}, want: "0-3 refused, 0-1 ok, 1-2 refused, 2-3 ok"},
		"the only one is there":    {units: units(1), there: []string{"u000"}, want: "0-1 refused"},
		"stop at the refusal":      {units: units(3), there: []string{"u001"}, stop: 1, want: "0-3 refused"},
		"stop at one of them":      {units: units(3), there: []string{"u001"}, stop: 3, want: "0-3 refused, 0-1 ok, 1-2 refused"},
		"stop before the second":   {units: units(200), stop: 1, want: "0-127 ok"},
		"refused in the first":     {units: units(129), there: []string{"u000"}, stop: 2, want: "0-127 refused, 0-1 refused"},
		"refused in the last":      {units: units(129), there: []string{"u128"}, want: "0-127 ok, 127-129 refused, 127-128 ok, 128-129 refused"},
		"a unit that is malformed": {units: []table.Unit{{Ops: []store.Op{{}}}}, want: "0-1 store: malformed transaction: an operation on an empty key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := memory.New()
			defer st.Close()
			for _, key := range c.there {
				if ok, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: key}}); err != nil || !ok {
					t.Fatal(ok, err)
				}
			}
			done := 0
			w := commit.Writer{Txn: st.Txn, Reserve: 1, Done: func(units []table.Unit, _ int64) { done += len(units) }}
			var got []string
			written := 0
			for r := range w.Write(t.Context(), c.units) {
				text := "refused"
				switch {
				case r.OK:
					text, written = "ok", written+r.To-r.From
				case r.Err != nil:
					text = r.Err.Error()
				}
				got = append(got, fmt.Sprintf("%d-%d %s", r.From, r.To, text))
				if len(got) == c.stop {
					break
				}
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("%s, want %s", text, c.want)
			}
			kvs, _, err := st.Range(t.Context(), "")
			if err != nil || len(kvs) != written+len(c.there) || done != written {
				t.Errorf("%d keys, %d told of, %d written: %v", len(kvs), done, written, err)
			}
		})
	}
}

// TestDoneBeside: a transaction does not wait for what is made of the one before. The last
// result does, and so does one that is not OK.
func TestDoneBeside(t *testing.T) {
	t.Parallel()
	const slow = time.Second
	for taken, want := range map[string][]time.Duration{
		"":     {1 * slow, 2 * slow, 4 * slow},
		"u299": {1 * slow, 2 * slow, 3 * slow}, // then its units, one by one
		"u200": {1 * slow, 2 * slow, 4 * slow},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := memory.New()
			defer st.Close()
			if taken != "" {
				if ok, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: taken}}); err != nil || !ok {
					t.Fatal(ok, err)
				}
			}
			w := commit.Writer{
				Txn: func(ctx context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
					time.Sleep(slow)
					return st.Txn(ctx, conds, ops)
				},
				Done: func([]table.Unit, int64) { time.Sleep(slow) },
			}
			began := time.Now()
			var got []time.Duration
			for range w.Write(t.Context(), units(300)) {
				got = append(got, time.Since(began))
			}
			if len(got) < 3 || !slices.Equal(got[:3], want) {
				t.Errorf("%q is taken: results after %v, want %v", taken, got, want)
			}
		})
	}
}

// TestGuard: what a guard says is in each transaction beside its units, what many units
// compare is in it once, and where the guard fails nothing is tried.
func TestGuard(t *testing.T) {
	t.Parallel()
	session := store.Cond{Key: "session", By: store.ByCreate, Revision: 5}
	all := units(130)
	for n := range all {
		all[n].Conds = append(all[n].Conds, session)
	}
	var asked []string
	lost := errors.New("lost")
	w := commit.Writer{
		Reserve: 1,
		Guard: func(_ context.Context, from, to int) ([]store.Cond, []store.Op, error) {
			asked = append(asked, fmt.Sprintf("%d-%d", from, to))
			if from > 100 {
				return nil, nil, lost
			}
			return []store.Cond{{Key: "fence", Revision: 7}}, []store.Op{{Key: "fence"}}, nil
		},
		Txn: func(_ context.Context, conds []store.Cond, ops []store.Op) (bool, int64, error) {
			if err := store.CheckTxn(conds, ops); err != nil {
				t.Error(err)
			}
			n := len(ops) - 1 // units
			if len(conds) != n+2 || !slices.Contains(conds, session) || conds[n+1].Key != "fence" || ops[n].Key != "fence" {
				t.Errorf("%d conditions, %d operations", len(conds), len(ops))
			}
			return true, 9, nil
		},
	}
	ok := 0
	for r := range w.Write(t.Context(), all) {
		if r.OK {
			ok += r.To - r.From
		} else if !errors.Is(r.Err, lost) {
			t.Errorf("%+v", r)
		}
	}
	if got := strings.Join(asked, " "); got != "0-63 63-126 126-130" || ok != 126 {
		t.Errorf("asked for %s, %d written", got, ok)
	}
}

// TestTimeout bounds each transaction, and not all of them.
func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := commit.Writer{Timeout: time.Second, Txn: func(ctx context.Context, _ []store.Cond, _ []store.Op) (bool, int64, error) {
			<-ctx.Done()
			return false, 0, ctx.Err()
		}}
		began, n := time.Now(), 0
		for r := range w.Write(t.Context(), units(300)) {
			if n++; !errors.Is(r.Err, context.DeadlineExceeded) || time.Since(began) != time.Duration(n)*time.Second {
				t.Errorf("%+v after %v", r, time.Since(began))
			}
		}
		if n != 3 {
			t.Errorf("%d transactions", n)
		}
	})
}

// TestFaults writes through a store with faults. What is told as written is in the store
// at that revision; what is told as refused was there, or was written by a transaction of
// unknown outcome. With a fence, as the leader has one, every outcome is found out, and
// nothing lands later.
func TestFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		for _, fenced := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { faults(t, seed, fenced) })
		}
	}
}

func faults(t *testing.T, seed uint64, fenced bool) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	under := memory.New()
	defer under.Close()
	st := faulty.New(under, faulty.Seeded(seed, faulty.Rates{Refuse: 0.2, Lose: 0.2, Late: 0.2, MaxLate: time.Minute}))
	defer st.Close()
	all := units(1 + rng.IntN(300))
	there := map[string]bool{}
	for range rng.IntN(4) {
		key := all[rng.IntN(len(all))].Ops[0].Key
		there[key] = true
		if ok, _, err := under.Txn(t.Context(), nil, []store.Op{{Key: key}}); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	f := &fence{st: st}
	w := commit.Writer{Txn: st.Txn, Timeout: time.Second}
	if fenced {
		f.renew(t.Context())
		w.Guard, w.Settle, w.Reserve = f.guard, f.settle, 1
	}
	told := make([]*commit.Result, len(all))
	for r := range w.Write(t.Context(), all) {
		if fenced && r.Err != nil {
			t.Fatalf("seed %d: nobody has found out %+v", seed, r)
		}
		if r.Several() {
			continue
		}
		for n := r.From; n < r.To; n++ {
			if told[n] != nil {
				t.Fatalf("seed %d: unit %d is told of twice", seed, n)
			}
			told[n] = &r
		}
	}
	now := stored(t, under)
	time.Sleep(2 * time.Minute) // late ones land
	then := stored(t, under)
	if fenced && !maps.Equal(now, then) {
		t.Fatalf("seed %d: something landed behind the fence", seed)
	}
	for n, r := range told {
		key := all[n].Ops[0].Key
		at, is := then[key]
		switch {
		case r == nil:
			t.Fatalf("seed %d: nothing is told of unit %d", seed, n)
		case r.OK && at != r.Revision, !r.OK && r.Err == nil && !is && !fenced:
			t.Fatalf("seed %d: unit %d is at %d, and told as %+v", seed, n, at, *r)
		case r.OK && there[key]:
			t.Fatalf("seed %d: unit %d was written over another", seed, n)
		}
	}
}

// stored are the revisions of the units in the store.
func stored(t *testing.T, st store.Store) map[string]int64 {
	t.Helper()
	kvs, _, err := st.Range(t.Context(), "u")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, kv := range kvs {
		out[kv.Key] = kv.Mod
	}
	return out
}

// fence is a key that all transactions compare, and that is written anew after one that
// was not confirmed.
type fence struct {
	st store.Store
	at int64
}

func (f *fence) guard(context.Context, int, int) ([]store.Cond, []store.Op, error) {
	return []store.Cond{{Key: "fence", By: store.ByMod, Revision: f.at}}, nil, nil
}

func (f *fence) settle(ctx context.Context, _ error) error { return f.renew(ctx) }

func (f *fence) renew(ctx context.Context) error {
	for ctx.Err() == nil {
		if _, rev, err := f.st.Txn(ctx, nil, []store.Op{{Key: "fence"}}); err == nil {
			f.at = rev
			return nil
		}
	}
	return ctx.Err()
}

// BenchmarkWrite is what a writer of its own costs beside the store: a pack of units that
// are bound to few sessions.
func BenchmarkWrite(b *testing.B) {
	all := units(127)
	for n := range all {
		all[n].Conds = append(all[n].Conds, store.Cond{Key: "session", Revision: int64(n / 40)})
	}
	w := commit.Writer{
		Reserve: 1,
		Guard: func(context.Context, int, int) ([]store.Cond, []store.Op, error) {
			return []store.Cond{{Key: "fence"}}, []store.Op{{Key: "fence"}}, nil
		},
		Txn: func(context.Context, []store.Cond, []store.Op) (bool, int64, error) { return true, 1, nil },
	}
	b.ReportAllocs()
	for b.Loop() {
		for r := range w.Write(b.Context(), all) {
			if !r.OK {
				b.Fatal(r.Err)
			}
		}
	}
}
