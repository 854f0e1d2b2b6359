package backoff_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rota-project/rota/internal/backoff"
)

// TestAfter: it doubles, never falls, and never passes the longest.
func TestAfter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		first := time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "first"))
		most := time.Duration(rapid.Int64Range(1, math.MaxInt64).Draw(t, "most"))
		before := backoff.After(1, first, most)
		if before != min(first, most) {
			t.Fatalf("first pause %v", before)
		}
		for n := 2; n < 80; n++ {
			d := backoff.After(n, first, most)
			if d != most && d != 2*before || d > most || d < before {
				t.Fatalf("pause %d is %v after %v", n, d, before)
			}
			before = d
		}
	})
	if d := backoff.After(0, time.Second, time.Minute); d != 0 {
		t.Errorf("%v before any failure", d)
	}
}

// TestBackoff: it grows until it is told that all is well, and spreads around that.
func TestBackoff(t *testing.T) {
	t.Parallel()
	b := backoff.Backoff{First: time.Second, Most: 5 * time.Second}
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		if d := b.Next(); d != want {
			t.Errorf("%v, want %v", d, want)
		}
	}
	b.Reset()
	if d := b.Next(); d != time.Second {
		t.Errorf("%v after all was well", d)
	}
	s, different := backoff.Backoff{First: time.Second, Most: time.Second, Jitter: true}, map[time.Duration]bool{}
	for range 100 {
		d := s.Next()
		if d < time.Second/2 || d >= 3*time.Second/2 {
			t.Errorf("%v is too far from 1 s", d)
		}
		different[d] = true
	}
	if len(different) < 50 {
		t.Errorf("%d different pauses of 100", len(different))
	}
}

// TestWait: a wait ends with its time, or with its context.
func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, began := backoff.Backoff{First: time.Hour, Most: time.Hour}, time.Now()
		if err := b.Wait(t.Context()); err != nil || time.Since(began) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Hour+time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
