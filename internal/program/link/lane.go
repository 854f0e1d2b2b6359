package link

import (
	"context"
	"sync"

	"github.com/rota-project/rota/internal/program/flow"
)

// Lane is one end's conversation with one peer, over whichever connection
// reaches it.
type Lane struct {
	end *End
	key any

	mu      sync.Mutex
	f       *flow.Flow
	via     *conn // nil while there is none
	found   bool  // the peer was heard on via
	writing bool  // in via's queue of what has something to write
	reading bool  // in the inbox's queue
	waiting waiters
	closed  bool
	failure error // the peer broke the protocol
	drained chan struct{}
}

// Send implements Outlet.
func (l *Lane) Send(ctx context.Context, tag uint64, data []byte) error {
	return l.send(ctx, flow.Messages, 0, nil, tag, data)
}

// SendPair implements Outlet.
func (l *Lane) SendPair(ctx context.Context, firstTag uint64, first []byte, tag uint64, data []byte) error {
	return l.send(ctx, flow.Messages, firstTag, first, tag, data)
}

// Reply implements Outlet.
func (l *Lane) Reply(ctx context.Context, tag uint64, data []byte) error {
	return l.send(ctx, flow.Replies, 0, nil, tag, data)
}

// send sends a message, and before it first, unless that is nil.
func (l *Lane) send(ctx context.Context, channel uint8, firstTag uint64, first []byte, tag uint64, data []byte) error {
	if len(data) > MaxMessage {
		return ErrTooLarge
	}
	l.mu.Lock()
	for !l.closed && l.f.Full(channel) {
		ch := l.waiting.add()
		l.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		l.mu.Lock()
	}
	if l.closed {
		defer l.mu.Unlock()
		if l.failure != nil {
			return l.failure
		}
		return ErrClosed
	}
	if first != nil {
		l.f.Append(channel, firstTag, first)
	}
	l.f.Append(channel, tag, data)
	l.unlockAndWrite()
	return nil
}

// unlockAndWrite unlocks l and has its connection write what is to be written.
func (l *Lane) unlockAndWrite() {
	c := l.via
	queue := c != nil && !l.writing && !l.closed && l.f.Pending()
	if queue {
		l.writing = true
	}
	l.mu.Unlock()
	if queue {
		c.enqueue(l)
	}
}

// fill appends frames to b on behalf of c; more says that l stays in c's queue.
func (l *Lane) fill(c *conn, b []byte, budget int) (_ []byte, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.via != c {
		return b, false
	}
	if l.closed {
		l.writing = false
		return b, false
	}
	b = l.f.AppendFrames(b, budget)
	l.writing = l.f.Pending()
	return b, l.writing
}

// frame takes a frame that came over c.
func (l *Lane) frame(c *conn, h flow.Header, payload []byte) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	if err := l.f.Frame(h, payload); err != nil {
		l.fail(err)
		l.mu.Unlock()
		return
	}
	if h.Type == flow.Sync {
		if l.via != c { // the peer is there now
			l.via, l.writing = c, false
		}
		l.found = true
	}
	var replies []Record
	if h.Type == flow.Data && h.Channel == flow.Replies {
		for {
			tag, data, ok, err := l.f.Take(flow.Replies)
			if err != nil {
				l.fail(err)
				break
			}
			if !ok {
				break
			}
			replies = append(replies, Record{From: l.key, Tag: tag, Data: data})
		}
	}
	if h.Type == flow.Ack || h.Type == flow.Sync {
		l.waiting.release()
		l.checkDrained()
	}
	read := !l.closed && !l.reading && l.f.Readable(flow.Messages)
	if read {
		l.reading = true
	}
	l.unlockAndWrite()
	if read {
		l.end.inbox.push(l)
	}
	for _, r := range replies {
		l.end.reply(r.From, r.Tag, r.Data)
	}
}

func (l *Lane) take(batch []Record) (n int, more bool) {
	l.mu.Lock()
	size := 0
	more = true
	for n < len(batch) && size < batchBytes {
		tag, data, ok, err := l.f.Take(flow.Messages)
		if err != nil {
			l.fail(err)
		}
		if !ok {
			more = false
			break
		}
		batch[n] = Record{From: l.key, Tag: tag, Data: data}
		size += len(data)
		n++
	}
	l.reading = more
	l.unlockAndWrite()
	return n, more
}

// fail ends the lane because of its peer.
func (l *Lane) fail(err error) {
	l.failure, l.closed = err, true
	l.waiting.release()
}

// AckNow has the peer told at once how far this end has read.
func (l *Lane) AckNow() {
	l.mu.Lock()
	l.f.AckNow(flow.Messages)
	l.f.AckNow(flow.Replies)
	l.unlockAndWrite()
}

// Room implements Outlet.
func (l *Lane) Room() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.f.Full(flow.Messages)
}

// Progress implements Outlet.
func (l *Lane) Progress() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Progress(flow.Messages)
}

// Drain waits until the peer has said that it read all. The peer says so at
// once only for what it answers with AckNow.
func (l *Lane) Drain(ctx context.Context) error {
	l.mu.Lock()
	if l.drained == nil {
		l.drained = make(chan struct{})
		l.checkDrained()
	}
	ch := l.drained
	l.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Lane) checkDrained() {
	if l.drained == nil || !l.f.Drained() {
		return
	}
	select {
	case <-l.drained:
	default:
		close(l.drained)
	}
}

// connected says that c is up. The lane goes over it unless it has one already;
// while nobody knows where the peer is, each connection asks for it.
func (l *Lane) connected(c *conn) {
	l.mu.Lock()
	if l.closed || (l.via != nil && l.found) {
		l.mu.Unlock()
		return
	}
	if l.via != nil {
		b := l.f.Hail(nil)
		l.mu.Unlock()
		c.control(b)
		return
	}
	l.via, l.writing = c, false
	l.f.Connected()
	l.unlockAndWrite()
}

// disconnected says that c is gone; others are the connections that are left.
func (l *Lane) disconnected(c *conn, others []*conn) {
	l.mu.Lock()
	if l.via != c {
		l.mu.Unlock()
		return
	}
	l.via, l.found, l.writing = nil, false, false
	l.mu.Unlock()
	for _, o := range others {
		l.connected(o)
	}
}

// Close implements Outlet.
func (l *Lane) Close() {
	l.end.remove(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.waiting.release()
}
