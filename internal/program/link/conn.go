package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rota-project/rota/internal/program/flow"
)

// Sizes of what is read and written at once: large enough that a system call
// moves thousands of small messages, small enough to stay in the cache.
const (
	readSize  = 128 << 10
	writeSize = 128 << 10
	laneShare = 64 << 10 // of one lane in one write, before it is another's turn
)

// DefaultIdle is how long a connection may be silent before it counts as cut.
// Both sides make themselves heard four times as often.
const DefaultIdle = 5 * time.Second

// reader cuts frames out of a byte stream.
type reader struct {
	c        net.Conn
	idle     time.Duration
	deadline time.Time
	buf      []byte
	from, to int

	frames, bytes uint64 // of messages in what run returned last
}

func newReader(c net.Conn, idle time.Duration) *reader {
	return &reader{c: c, idle: idle, buf: make([]byte, readSize)}
}

// fill reads more, at least one byte.
func (r *reader) fill() error {
	if r.from > 0 {
		copy(r.buf, r.buf[r.from:r.to])
		r.from, r.to = 0, r.to-r.from
	}
	if now := time.Now(); r.deadline.Sub(now) < r.idle*3/4 {
		r.deadline = now.Add(r.idle)
		if err := r.c.SetReadDeadline(r.deadline); err != nil {
			return fmt.Errorf("setting the read deadline: %w", err)
		}
	}
	n, err := r.c.Read(r.buf[r.to:])
	r.to += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// next returns the next frame; whole is its encoding. Both are good until the
// next call.
func (r *reader) next() (h flow.Header, whole []byte, err error) {
	for r.to-r.from < flow.HeaderLen {
		if err := r.fill(); err != nil {
			return h, nil, err
		}
	}
	h, err = flow.ParseHeader(r.buf[r.from:r.to])
	if err != nil {
		return h, nil, err
	}
	n := flow.HeaderLen + h.Len
	for r.to-r.from < n {
		if err := r.fill(); err != nil {
			return h, nil, err
		}
	}
	whole = r.buf[r.from : r.from+n]
	r.from += n
	return h, whole, nil
}

// run returns the next frame and all that have come whole right behind it for
// the same destination, as one piece.
func (r *reader) run() (h flow.Header, whole []byte, err error) {
	r.frames, r.bytes = 0, 0
	h, whole, err = r.next()
	if err != nil || !h.Routed() {
		return h, whole, err
	}
	r.count(h)
	start := r.from - len(whole)
	for r.to-r.from >= flow.HeaderLen {
		g, bad := flow.ParseHeader(r.buf[r.from:r.to])
		if bad != nil || !g.Routed() || g.Dst != h.Dst || g.Src != h.Src || r.to-r.from < flow.HeaderLen+g.Len {
			break // it is judged when it is its turn
		}
		r.from += flow.HeaderLen + g.Len
		r.count(g)
	}
	return h, r.buf[start:r.from], nil //nolint:nilerr // see break
}

// count notes a frame of messages.
func (r *reader) count(h flow.Header) {
	if h.Type == flow.Data {
		r.frames++
		r.bytes += uint64(h.Len)
	}
}

// conn is the writing side of a connection: control frames, and lanes that have
// something to write.
type conn struct {
	c    net.Conn
	idle time.Duration

	mu     sync.Mutex
	cond   sync.Cond
	ctl    []byte
	lanes  []*Lane
	closed bool
}

func newConn(c net.Conn, idle time.Duration) *conn {
	k := &conn{c: c, idle: idle}
	k.cond.L = &k.mu
	return k
}

func (c *conn) enqueue(l *Lane) {
	c.mu.Lock()
	c.lanes = append(c.lanes, l)
	c.mu.Unlock()
	c.cond.Signal()
}

func (c *conn) control(frames []byte) {
	c.mu.Lock()
	c.ctl = append(c.ctl, frames...)
	c.mu.Unlock()
	c.cond.Signal()
}

func (c *conn) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cond.Broadcast()
	_ = c.c.Close() // what it was for has already failed or ended
}

// write writes until the connection is closed or fails.
func (c *conn) write() error {
	buf := make([]byte, 0, writeSize+laneShare+flow.MaxPayload)
	var lanes, again []*Lane
	for {
		c.mu.Lock()
		for len(c.ctl) == 0 && len(c.lanes) == 0 && len(again) == 0 && !c.closed {
			c.cond.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return net.ErrClosed
		}
		buf = append(buf[:0], c.ctl...)
		c.ctl = c.ctl[:0]
		lanes = append(append(lanes[:0], again...), c.lanes...)
		clear(c.lanes)
		c.lanes = c.lanes[:0]
		c.mu.Unlock()

		again = again[:0]
		for i, l := range lanes {
			if len(buf) >= writeSize {
				again = append(again, lanes[i:]...) // their turn comes before that of those who have had one
				break
			}
			var more bool
			if buf, more = l.fill(c, buf, laneShare); more {
				c.mu.Lock()
				c.lanes = append(c.lanes, l)
				c.mu.Unlock()
			}
		}
		clear(lanes)
		if len(buf) == 0 {
			continue
		}
		if err := writeAll(c.c, buf, c.idle); err != nil {
			return err
		}
	}
}

func writeAll(c net.Conn, b []byte, idle time.Duration) error {
	if err := c.SetWriteDeadline(time.Now().Add(idle)); err != nil {
		return fmt.Errorf("setting the write deadline: %w", err)
	}
	_, err := c.Write(b)
	return err
}

// isEnd reports whether err is the ordinary end of a connection.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}
