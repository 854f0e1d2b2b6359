package link

import (
	"context"
	"errors"
	"sync"

	"github.com/rota-project/rota/internal/program/flow"
)

// MaxMessage is the most bytes of one message.
const MaxMessage = flow.MaxMessage

// Errors of sending and reading.
var (
	// ErrClosed says that this end, or the Lane or Pipe, was closed.
	ErrClosed = errors.New("link: closed")
	// ErrTooLarge refuses a message of more than MaxMessage bytes.
	ErrTooLarge = errors.New("link: message over the limit of 1 MiB")
)

// Record is one message as it was read.
type Record struct {
	From any    // the key that its Lane or Pipe was opened with
	Tag  uint64 // as given to Send
	Data []byte // the reader's own
}

// source is where an Inbox reads from. It is in the inbox's queue at most once.
type source interface {
	// take reads messages into batch; more says that it goes back into the queue.
	take(batch []Record) (n int, more bool)
}

// batchBytes ends a batch early, so that a few large messages of one source do
// not keep the others waiting.
const batchBytes = 64 << 10

// Inbox gathers the messages of many lanes and pipes for one reader, a batch of
// each in turn. It is safe for concurrent use.
type Inbox struct {
	mu     sync.Mutex
	queue  []source // from head on
	head   int
	wake   chan struct{} // one token: the queue may have something
	done   chan struct{}
	closed bool
}

// NewInbox returns an empty inbox.
func NewInbox() *Inbox {
	return &Inbox{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (b *Inbox) push(s source) {
	b.mu.Lock()
	if b.head > 0 && len(b.queue) == cap(b.queue) {
		n := copy(b.queue, b.queue[b.head:])
		clear(b.queue[n:])
		b.queue, b.head = b.queue[:n], 0
	}
	b.queue = append(b.queue, s)
	b.mu.Unlock()
	b.signal()
}

func (b *Inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Inbox) pop() (s source, more, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, false, true
	}
	if b.head == len(b.queue) {
		return nil, false, false
	}
	s = b.queue[b.head]
	b.queue[b.head] = nil
	b.head++
	if b.head == len(b.queue) {
		b.queue, b.head = b.queue[:0], 0
	}
	return s, b.head < len(b.queue), false
}

// Read waits for messages and reads up to len(batch) of them, all of one
// source. It returns ErrClosed after Close, and the context's error.
func (b *Inbox) Read(ctx context.Context, batch []Record) (int, error) {
	for {
		s, others, closed := b.pop()
		switch {
		case closed:
			return 0, ErrClosed
		case s != nil:
			n, more := s.take(batch)
			if more {
				b.push(s)
			} else if others {
				b.signal() // for another reader
			}
			if n > 0 {
				return n, nil
			}
			continue
		}
		select {
		case <-b.wake:
		case <-b.done:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Close ends all reading, now and later. What was not read is dropped.
func (b *Inbox) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.queue, b.head = nil, 0
		close(b.done)
	}
}

// waiters are senders that wait for room. Their owner's lock guards them.
type waiters []chan struct{}

func (w *waiters) add() chan struct{} {
	ch := make(chan struct{})
	*w = append(*w, ch)
	return ch
}

func (w *waiters) release() {
	for _, ch := range *w {
		close(ch)
	}
	*w = nil
}

// Waiting reports whether something waits to be read.
func (b *Inbox) Waiting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head < len(b.queue)
}

// Done is closed by Close.
func (b *Inbox) Done() <-chan struct{} { return b.done }
