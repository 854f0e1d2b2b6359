package mailbox_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rota-project/rota/internal/mailbox"
)

// TestOrder: what each sender puts in comes out in its order, all of it and once.
func TestOrder(t *testing.T) {
	t.Parallel()
	const senders, each = 8, 500
	b := mailbox.New[[2]int]()
	var sending sync.WaitGroup
	for s := range senders {
		sending.Go(func() {
			for n := range each {
				b.Put([2]int{s, n})
			}
		})
	}
	var next [senders]int
	for got := 0; got < senders*each; {
		<-b.Signal()
		for _, m := range b.Take() {
			if m[1] != next[m[0]] {
				t.Fatalf("message %d of %d comes after %d", m[1], m[0], next[m[0]])
			}
			next[m[0]]++
			got++
		}
	}
	sending.Wait()
	if left := b.Take(); len(left) > 0 {
		t.Errorf("%d came twice", len(left))
	}
}

// TestFull: nobody waits for a peer that does not read; what is too much is told.
func TestFull(t *testing.T) {
	t.Parallel()
	full := 0
	var b *mailbox.Box[int]
	b = mailbox.Bounded[int](func() {
		full++
		_ = b.Signal() // whoever is called may look at the box
	})
	for n := range mailbox.Most + 2 {
		b.Put(n)
	}
	if q := b.Take(); full != 2 || len(q) != mailbox.Most || q[0] != 0 || q[len(q)-1] != mailbox.Most-1 {
		t.Errorf("%d wait, %d were too many", len(q), full)
	}
	b.Put(7)
	if q := b.Take(); full != 2 || !slices.Equal(q, []int{7}) {
		t.Errorf("%v after it was emptied", q)
	}
}

// TestPump: it sends in order until it is told to end, and then what waits still; or
// until ctx ends, or a send fails.
func TestPump(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	for name, c := range map[string]struct {
		fail      int // the message that cannot be sent
		last, cut bool
		want      []int
		err       error
	}{
		"to the last":        {last: true, want: []int{1, 2, 3, 4}},
		"cut":                {cut: true, want: []int{1, 2}},
		"a send fails":       {fail: 2, last: true, want: []int{1}, err: lost},
		"the last one fails": {fail: 4, last: true, want: []int{1, 2, 3}, err: lost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, last := mailbox.Bounded[int](func() { t.Error("full") }), make(chan struct{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var sent []int
				ended := make(chan error, 1)
				b.Put(1)
				go func() {
					ended <- b.Pump(ctx, last, func(n int) error {
						if n == c.fail {
							return lost
						}
						sent = append(sent, n)
						return nil
					})
				}()
				synctest.Wait()
				b.Put(2)
				synctest.Wait()
				if c.cut {
					cancel()
					synctest.Wait()
				}
				b.Put(3)
				b.Put(4)
				if c.last {
					close(last)
				}
				if err := <-ended; !errors.Is(err, c.err) || !slices.Equal(sent, c.want) {
					t.Errorf("sent %v: %v", sent, err)
				}
			})
		})
	}
}
