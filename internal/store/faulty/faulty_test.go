package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/internal/store/faulty"
	"github.com/rota-project/rota/internal/store/storetest"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

// TestConformance: without faults it is the store below.
func TestConformance(t *testing.T) {
	t.Parallel()
	db := memory.New()
	t.Cleanup(db.Close)
	storetest.Run(t, storetest.Target{
		Open: func(t *testing.T, root string) store.Store {
			s := faulty.New(db.At(root), nil)
			t.Cleanup(s.Close)
			return s
		},
		Compact: func(_ context.Context, revision int64) error { return db.Compact(revision) },
	})
}

// bubble runs a test on a fake clock, with the faults that are given by kind.
func bubble(t *testing.T, faults map[faulty.Kind]faulty.Fault, test func(t *testing.T, s *faulty.Store, under *memory.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		under := memory.New()
		defer under.Close()
		s := faulty.New(under, func(c faulty.Call) faulty.Fault { return faults[c.Kind] })
		defer s.Close()
		test(t, s, under)
	})
}

func write(s store.Store, ctx context.Context) error {
	_, _, err := s.Txn(ctx, nil, []store.Op{{Key: "a", Value: []byte("1")}})
	return err
}

func there(t *testing.T, s store.Store) bool {
	t.Helper()
	_, ok, _, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestCalls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault            faulty.Fault
		fails            bool
		after            time.Duration // of the call
		now, secondLater bool          // whether it is done
	}{
		"none":   {faulty.Fault{}, false, 0, true, true},
		"delay":  {faulty.Fault{Delay: time.Second}, false, time.Second, true, true},
		"refuse": {faulty.Fault{Refuse: true}, true, 0, false, false},
		"lose":   {faulty.Fault{Lose: true}, true, 0, true, true},
		"late":   {faulty.Fault{Late: time.Second}, true, 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, map[faulty.Kind]faulty.Fault{faulty.Txn: c.fault}, func(t *testing.T, s *faulty.Store, under *memory.Store) {
				start := time.Now()
				if err := write(s, t.Context()); (err != nil) != c.fails || c.fails && !errors.Is(err, faulty.ErrInjected) {
					t.Errorf("the call says %v", err)
				}
				if took := time.Since(start); took != c.after {
					t.Errorf("it took %v, want %v", took, c.after)
				}
				if got := there(t, under); got != c.now {
					t.Errorf("done at once: %v", got)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if got := there(t, under); got != c.secondLater {
					t.Errorf("done a second later: %v", got)
				}
			})
		})
	}
}

// TestLateAfterClose: nothing is done after Close.
func TestLateAfterClose(t *testing.T) {
	t.Parallel()
	bubble(t, map[faulty.Kind]faulty.Fault{faulty.Txn: {Late: time.Second}}, func(t *testing.T, s *faulty.Store, under *memory.Store) {
		if err := write(s, t.Context()); err == nil {
			t.Fatal("no error")
		}
		s.Close()
		time.Sleep(2 * time.Second)
		if there(t, under) {
			t.Error("it is done after Close")
		}
		if _, ok := <-s.Watch(t.Context(), "", 1); ok {
			t.Error("a closed store is watched")
		}
	})
}

func TestOutage(t *testing.T) {
	t.Parallel()
	bubble(t, nil, func(t *testing.T, s *faulty.Store, under *memory.Store) {
		ch := s.Watch(t.Context(), "", 1)
		s.Set(faulty.Down)
		if err := write(s, t.Context()); !errors.Is(err, faulty.ErrInjected) || there(t, under) {
			t.Errorf("while it is down: %v, done %v", err, there(t, under))
		}
		if err := write(under, t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Set(faulty.Hung)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := write(s, ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it hangs: %v", err)
		}
		select {
		case b := <-ch:
			t.Errorf("in an outage the watch brings %+v", b)
		default:
		}
		over := time.Now().Add(time.Minute)
		time.AfterFunc(time.Minute, func() { s.Set(faulty.Up) })
		if err := write(s, t.Context()); err != nil || time.Now() != over {
			t.Errorf("a call that hung ends %v late with %v", time.Since(over), err)
		}
		if b := <-ch; len(b.Events) == 0 || b.Err != nil {
			t.Errorf("after the outage the watch brings %+v", b)
		}
	})
}

func TestWatches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind  faulty.Kind
		fault faulty.Fault
		want  error
		after time.Duration
	}{
		"compact at once": {faulty.Watch, faulty.Fault{Compact: true}, store.ErrCompacted, 0},
		"cut at once":     {faulty.Watch, faulty.Fault{Refuse: true}, faulty.ErrInjected, 0},
		"compact":         {faulty.Batch, faulty.Fault{Compact: true}, store.ErrCompacted, 0},
		"cut":             {faulty.Batch, faulty.Fault{Refuse: true}, faulty.ErrInjected, 0},
		"delay":           {faulty.Batch, faulty.Fault{Delay: time.Second}, nil, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, map[faulty.Kind]faulty.Fault{c.kind: c.fault}, func(t *testing.T, s *faulty.Store, under *memory.Store) {
				if err := write(under, t.Context()); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				ch := s.Watch(t.Context(), "", 1)
				b := <-ch
				if !errors.Is(b.Err, c.want) || (c.want == nil) != (len(b.Events) == 1) || time.Since(start) != c.after {
					t.Errorf("after %v comes %+v", time.Since(start), b)
				}
				if c.want != nil {
					if b, ok := <-ch; ok {
						t.Errorf("after its end comes %+v", b)
					}
				}
			})
		})
	}
}

// TestSeeded: the same seed decides the same, another one differently, and about
// as often as was asked for.
func TestSeeded(t *testing.T) {
	t.Parallel()
	rates := faulty.Rates{
		Delay: 0.5, Refuse: 0.1, Lose: 0.1, Late: 0.1, Compact: 0.1, Cut: 0.2,
		MaxDelay: time.Second, MaxLate: time.Second,
	}
	const n = 10_000
	all := func(seed uint64, kind faulty.Kind) (out []faulty.Fault) {
		d := faulty.Seeded(seed, rates)
		for i := range n {
			out = append(out, d(faulty.Call{Kind: kind, Key: fmt.Sprint(i % 7), Seq: uint64(i / 7)}))
		}
		return out
	}
	if !slices.Equal(all(1, faulty.Txn), all(1, faulty.Txn)) {
		t.Error("one seed decides in two ways")
	}
	if slices.Equal(all(1, faulty.Txn), all(2, faulty.Txn)) {
		t.Error("two seeds decide the same")
	}
	var delay, refuse, lose, late, compact, cut int
	count := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	for _, f := range all(1, faulty.Txn) {
		count(&delay, f.Delay > 0)
		count(&refuse, f.Refuse)
		count(&lose, f.Lose)
		count(&late, f.Late > 0)
	}
	for _, f := range all(1, faulty.Batch) {
		count(&compact, f.Compact)
		count(&cut, f.Refuse)
	}
	for name, c := range map[string]struct {
		got  int
		rate float64
	}{"delay": {delay, .5}, "refuse": {refuse, .1}, "lose": {lose, .1}, "late": {late, .1}, "compact": {compact, .1}, "cut": {cut, .2}} {
		if part := float64(c.got) / n; part < c.rate*0.9 || part > c.rate*1.1 {
			t.Errorf("%s happens to %.3f of the calls, want %.3f", name, part, c.rate)
		}
	}
}
