package memory_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/internal/store/storetest"
	"github.com/rota-project/rota/store"
	"github.com/rota-project/rota/store/memory"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	db := memory.New()
	t.Cleanup(db.Close)
	storetest.Run(t, storetest.Target{
		Open:    func(_ *testing.T, root string) store.Store { return db.At(root) },
		Compact: func(_ context.Context, revision int64) error { return db.Compact(revision) },
	})
}

// TestLeaseOnFakeClock holds leases to the very instant of their end.
func TestLeaseOnFakeClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		defer s.Close()
		id, ttl, err := s.Grant(t.Context(), 4500*time.Millisecond)
		if err != nil || ttl != 5*time.Second {
			t.Fatalf("Grant = %v, %v", ttl, err)
		}
		if _, _, err := s.Txn(t.Context(), nil, []store.Op{{Key: "a", Lease: id}}); err != nil {
			t.Fatal(err)
		}
		ch := s.Watch(t.Context(), "", s.Revision()+1)
		granted := time.Now()
		time.Sleep(3 * time.Second)
		if _, err := s.KeepAlive(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		b := <-ch
		if got := time.Since(granted); got != 8*time.Second || !b.Events[0].Deleted {
			t.Errorf("after %v comes %+v, want the end after 8s", got, b)
		}
	})
}

func TestCompactRefuses(t *testing.T) {
	t.Parallel()
	s := memory.New()
	defer s.Close()
	for range 5 {
		if _, _, err := s.Txn(t.Context(), nil, []store.Op{{Key: "a"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Compact(7); !errors.Is(err, memory.ErrFuture) {
		t.Errorf("compacting the future: %v", err)
	}
	if err := s.Compact(4); err != nil {
		t.Error(err)
	}
	if err := s.Compact(4); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("compacting again: %v", err)
	}
}

func TestKeepHistory(t *testing.T) {
	t.Parallel()
	s := memory.New()
	defer s.Close()
	s.KeepHistory(10)
	for range 100 {
		if _, _, err := s.Txn(t.Context(), nil, []store.Op{{Key: "a"}}); err != nil {
			t.Fatal(err)
		}
	}
	if b := <-s.Watch(t.Context(), "", 50); !errors.Is(b.Err, store.ErrCompacted) {
		t.Errorf("old history is there: %+v", b)
	}
	if b := <-s.Watch(t.Context(), "", s.Revision()-9); len(b.Events) != 10 {
		t.Errorf("of late history there is %+v", b)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := memory.New()
	ch := s.Watch(t.Context(), "", 1)
	if _, _, err := s.Grant(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	if b, ok := <-ch; ok {
		t.Errorf("a closed store sends %+v", b)
	}
	if _, _, err := s.Txn(t.Context(), nil, nil); !errors.Is(err, memory.ErrClosed) {
		t.Errorf("a closed store answers %v", err)
	}
	if _, ok := <-s.Watch(t.Context(), "", 1); ok {
		t.Error("a closed store is watched")
	}
}
