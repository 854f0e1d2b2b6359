// Package mailbox is where messages wait for the one goroutine that takes them: whoever
// puts one in never waits. The streams of workers' sessions and of jobs have one at both
// ends, so that nobody is held up by a peer that does not read; so do loops that are told
// of things by others.
//
// It must never reorder messages, or know what they say.
package mailbox

import (
	"context"
	"sync"
)

// Most is how many messages may wait for the peer of a stream. One that is so far behind
// is cut off, and told everything anew when it comes back.
const Most = 10_000

// Box holds messages in their order. It is safe for concurrent use.
type Box[M any] struct {
	most int
	full func()

	mu     sync.Mutex
	queue  []M
	signal chan struct{}
}

// New returns a box without a limit.
func New[M any]() *Box[M] { return &Box[M]{signal: make(chan struct{}, 1)} }

// Bounded returns a box of Most messages. What is put into it when it is full is lost,
// and full is called.
func Bounded[M any](full func()) *Box[M] {
	b := New[M]()
	b.most, b.full = Most, full
	return b
}

// Put adds a message. It never blocks.
func (b *Box[M]) Put(m M) {
	b.mu.Lock()
	if b.most > 0 && len(b.queue) >= b.most {
		b.mu.Unlock()
		b.full()
		return
	}
	b.queue = append(b.queue, m)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// Signal has something in it when there are messages that nobody has taken.
func (b *Box[M]) Signal() <-chan struct{} { return b.signal }

// Take empties the box.
func (b *Box[M]) Take() []M {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queue
	b.queue = nil
	return q
}

// Pump sends what is put into the box until ctx ends, or send fails: then it returns that
// error. When last is closed it sends what waits, and ends.
func (b *Box[M]) Pump(ctx context.Context, last <-chan struct{}, send func(M) error) error {
	for over := false; !over; {
		select {
		case <-b.signal:
		case <-last:
			over = true
		case <-ctx.Done():
			return nil
		}
		for _, m := range b.Take() {
			if err := send(m); err != nil {
				return err
			}
		}
	}
	return nil
}
