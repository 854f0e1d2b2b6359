package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// pump carries a request's body to the worker while the answer is awaited, in a
// goroutine of its own: an answer may come before the body has ended.
type pump struct {
	done  chan struct{}
	over  atomic.Bool
	clean bool   // the body went through whole; valid after done
	rest  []byte // what came after it
	bad   error
}

var pumpBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func getPumpBuffer() *[]byte {
	b, _ := pumpBuffers.Get().(*[]byte) // it holds nothing else
	return b
}

// startPump begins to carry the body of c.req to u.
func (c *conn) startPump(u *upstream) *pump {
	p := &pump{done: make(chan struct{})}
	early := c.bufs.in[c.r:c.w]
	chunked, length := c.req.Chunked, c.req.Length
	if !chunked && int64(len(early)) > length {
		early = early[:length]
	}
	// The pump reads with a sock of its own: the connection's is the answer's.
	from := &sock{}
	from.init(c.nc)
	to := &sock{}
	to.init(u.nc)
	used := len(early)
	if chunked {
		used = c.w - c.r
	}
	c.r += used
	go func() {
		defer close(p.done)
		defer p.over.Store(true) // after it, clean and rest may be read
		if chunked {
			p.chunks(c, from, to, early)
		} else {
			p.bytes(c, from, to, early, length)
		}
	}()
	return p
}

func (p *pump) bytes(c *conn, from, to *sock, early []byte, length int64) {
	bp := getPumpBuffer()
	defer pumpBuffers.Put(bp)
	for length > 0 {
		if len(early) == 0 {
			c.touch()
			n, err := from.Read((*bp)[:min(int64(len(*bp)), length)])
			if n == 0 && err != nil {
				return
			}
			early = (*bp)[:n]
		}
		if _, err := to.Write(early); err != nil {
			return
		}
		length -= int64(len(early))
		early = nil
	}
	c.moved.Store(0)
	p.clean = true
}

func (p *pump) chunks(c *conn, from, to *sock, early []byte) {
	bp := getPumpBuffer()
	op := getPumpBuffer()
	defer pumpBuffers.Put(bp)
	defer pumpBuffers.Put(op)
	var ch wire.Chunks
	buf := *bp
	if len(early) > len(buf) {
		buf = make([]byte, len(early))
	}
	n := copy(buf, early)
	at := 0
	for {
		out := (*op)[:0]
		for {
			d, trailer, k, err := ch.Next(buf[at:n])
			if err != nil {
				p.bad = err
				return
			}
			at += k
			out = wire.AppendChunk(out, d)
			if ch.Done() {
				out = append(out, "0\r\n"...)
				out = append(out, trailer...)
				out = append(out, "\r\n"...)
			}
			if ch.Done() || k == 0 {
				break
			}
		}
		if len(out) > 0 {
			if _, err := to.Write(out); err != nil {
				return
			}
		}
		if ch.Done() {
			p.rest = append([]byte(nil), buf[at:n]...)
			c.moved.Store(0)
			p.clean = true
			return
		}
		copy(buf, buf[at:n])
		n -= at
		at = 0
		if n == len(buf) {
			return
		}
		c.touch()
		k, err := from.Read(buf[n:])
		if k == 0 && err != nil {
			return
		}
		n += k
	}
}

// endsWithin waits for the pump's end for so long, and says whether the body went
// through whole.
func (p *pump) endsWithin(d time.Duration) bool {
	if !p.over.Load() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-p.done:
		case <-t.C:
			return false
		}
	}
	return p.clean
}

// stop ends the pump if it is not at its end and waits for its goroutine. What
// came after the body is put back for the next request.
func (p *pump) stop(c *conn, u *upstream) {
	if p == nil {
		return
	}
	if !p.over.Load() {
		_ = c.nc.SetReadDeadline(longAgo)
		_ = u.nc.SetWriteDeadline(longAgo)
	}
	<-p.done
	_ = c.nc.SetReadDeadline(time.Time{})
	_ = u.nc.SetWriteDeadline(time.Time{})
	if !p.clean {
		c.req.Close = true
		return
	}
	if len(p.rest) > 0 {
		for len(c.bufs.in) < len(p.rest) {
			c.bufs.in = append(c.bufs.in, make([]byte, len(c.bufs.in))...)
		}
		c.r, c.w = 0, copy(c.bufs.in, p.rest)
		p.rest = nil
	}
}
