package link

import (
	"context"
	"sync"

	"github.com/rota-project/rota/internal/program/flow"
)

// Outlet is where messages of one end to another go in: a Lane or a Pipe.
type Outlet interface {
	// Send waits until there is room and copies data.
	Send(ctx context.Context, tag uint64, data []byte) error
	// SendPair sends two messages, the second right behind the first, and nothing between
	// them. The first is small.
	SendPair(ctx context.Context, firstTag uint64, first []byte, tag uint64, data []byte) error
	// Reply sends beside all that wait to be read; it never waits long, so what
	// goes here has to answer something.
	Reply(ctx context.Context, tag uint64, data []byte) error
	// Room reports whether Send would go on without waiting.
	Room() bool
	// Progress counts what the reader has taken: it stands still while nobody reads.
	Progress() uint64
	// Close gives up what was not read and fails every Send.
	Close()
}

// ReplyFunc takes an answer. It is called at once, on the way of all messages,
// and must not wait.
type ReplyFunc func(from any, tag uint64, data []byte)

// Pipe is a bounded queue of messages into an inbox of the same process.
type Pipe struct {
	to     *Inbox
	key    any
	reply  ReplyFunc
	window int

	mu      sync.Mutex
	queue   []Record // from head on
	head    int
	bytes   int // of what is in the queue, with its keeping
	taken   uint64
	queued  bool // in the inbox's queue
	waiting waiters
	closed  bool
	slab    []byte
}

// recordCost is what a message of no bytes takes in a Pipe's window.
const recordCost = 48

// NewPipe returns a queue into the inbox to, whose records come From key.
// Window is the most bytes that wait in it, brought into flow.MinWindow..MaxWindow;
// one message may exceed it. Answers go to reply.
func NewPipe(to *Inbox, key any, window int, reply ReplyFunc) *Pipe {
	return &Pipe{to: to, key: key, reply: reply, window: min(max(window, flow.MinWindow), flow.MaxWindow)}
}

// Send implements Outlet.
func (p *Pipe) Send(ctx context.Context, tag uint64, data []byte) error {
	return p.send(ctx, 0, nil, tag, data)
}

// SendPair implements Outlet.
func (p *Pipe) SendPair(ctx context.Context, firstTag uint64, first []byte, tag uint64, data []byte) error {
	return p.send(ctx, firstTag, first, tag, data)
}

// send sends a message, and before it first, unless that is nil.
func (p *Pipe) send(ctx context.Context, firstTag uint64, first []byte, tag uint64, data []byte) error {
	if len(data) > MaxMessage {
		return ErrTooLarge
	}
	p.mu.Lock()
	for p.bytes >= p.window && !p.closed {
		ch := p.waiting.add()
		p.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		p.mu.Lock()
	}
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	if first != nil {
		p.append(firstTag, first)
	}
	p.append(tag, data)
	push := !p.queued
	p.queued = true
	p.mu.Unlock()
	if push {
		p.to.push(p)
	}
	return nil
}

// append puts a message into the queue; p.mu is held.
func (p *Pipe) append(tag uint64, data []byte) {
	if len(p.queue) == cap(p.queue) && p.head >= len(p.queue)/2 && p.head > 0 {
		n := copy(p.queue, p.queue[p.head:])
		clear(p.queue[n:])
		p.queue, p.head = p.queue[:n], 0
	}
	p.queue = append(p.queue, Record{From: p.key, Tag: tag, Data: p.copyOf(data)})
	p.bytes += len(data) + recordCost
}

// copyOf cuts small copies from slabs, as package flow does.
func (p *Pipe) copyOf(data []byte) []byte {
	const slab, small = 4 << 10, 512
	n := len(data)
	if n > small {
		return append(make([]byte, 0, n), data...)
	}
	if len(p.slab) < n {
		p.slab = make([]byte, slab)
	}
	b := p.slab[:n:n]
	p.slab = p.slab[n:]
	copy(b, data)
	return b
}

func (p *Pipe) take(batch []Record) (n int, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, false
	}
	size := 0
	waiting := p.queue[p.head:]
	for n < len(batch) && n < len(waiting) && size < batchBytes {
		size += len(waiting[n].Data)
		n++
	}
	copy(batch[:n], waiting)
	clear(waiting[:n])
	p.bytes -= size + n*recordCost
	p.head += n
	if p.head == len(p.queue) {
		p.queue, p.head = p.queue[:0], 0
	}
	p.taken += uint64(n)
	if p.bytes < p.window/2 {
		p.waiting.release()
	}
	more = p.head < len(p.queue)
	p.queued = more
	return n, more
}

// Reply implements Outlet.
func (p *Pipe) Reply(_ context.Context, tag uint64, data []byte) error {
	if len(data) > MaxMessage {
		return ErrTooLarge
	}
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return ErrClosed
	}
	p.reply(p.key, tag, append([]byte(nil), data...))
	return nil
}

// Room implements Outlet.
func (p *Pipe) Room() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes < p.window
}

// Progress implements Outlet.
func (p *Pipe) Progress() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}

// Close implements Outlet.
func (p *Pipe) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.queue, p.head, p.bytes = nil, 0, 0
	p.waiting.release()
}
