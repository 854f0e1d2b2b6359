package recheck_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rota-project/rota/internal/recheck"
)

// TestSet: each is asked until it ends or is removed, and told of its end once.
func TestSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s recheck.Set
		over := errors.New("over")
		begin := time.Now()
		add := func(life time.Duration) (*atomic.Int32, *atomic.Int32, func()) {
			ended, asked := new(atomic.Int32), new(atomic.Int32)
			return ended, asked, s.Add(func() error {
				asked.Add(1)
				if time.Since(begin) > life {
					return over
				}
				return nil
			}, func(err error) {
				if errors.Is(err, over) {
					ended.Add(1)
				}
			})
		}
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		short, askedShort, _ := add(2500 * time.Millisecond)
		long, _, removeLong := add(time.Hour)
		pass(2900 * time.Millisecond)
		if short.Load() != 0 {
			t.Error("ended before its time")
		}
		pass(time.Second)
		if short.Load() != 1 || askedShort.Load() != 3 || long.Load() != 0 {
			t.Errorf("ended %d and %d times, asked %d times", short.Load(), long.Load(), askedShort.Load())
		}
		removeLong()
		removeLong()
		pass(2 * time.Hour)
		if short.Load() != 1 || askedShort.Load() != 3 || long.Load() != 0 {
			t.Errorf("later, ended %d and %d times, asked %d times", short.Load(), long.Load(), askedShort.Load())
		}
		again, _, _ := add(0) // after it was empty
		pass(time.Second)
		if again.Load() != 1 {
			t.Error("one that came later was not asked")
		}
	})
}
