// Package backoff is how long to wait between tries of what failed: from a first
// pause, twice as long each time, up to a longest one.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff counts the tries of one thing. Its fields are set before the first.
type Backoff struct {
	First, Most time.Duration
	// Jitter spreads each pause, so that those who lost the same thing do not come
	// back together.
	Jitter bool

	tries int
}

// Next is how long to wait now, after one more failure.
func (b *Backoff) Next() time.Duration {
	b.tries++
	d := After(b.tries, b.First, b.Most)
	if b.Jitter {
		d = Jitter(d)
	}
	return d
}

// Jitter is a random pause from half of d to one and a half.
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d)
}

// Reset is told that it went well: the next pause is the first.
func (b *Backoff) Reset() { b.tries = 0 }

// Wait waits as long as Next says, or until ctx ends, and then returns its error.
func (b *Backoff) Wait(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// After is the pause after failure n, from 1. Nothing overflows.
func After(n int, first, most time.Duration) time.Duration {
	if n < 1 || first <= 0 {
		return 0
	}
	if shift := n - 1; shift < 63 && first <= most>>shift {
		return first << shift
	}
	return most
}

// Sleep waits for d, or until ctx ends, and then returns its error.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
