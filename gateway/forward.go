package gateway

import (
	"errors"
	"io"
	"strconv"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// forward passes the answer on whose head is in c.resp; n bytes of it are in
// bufs.up. complete says that the client got all of it, ok that the client is
// still there (if the worker broke off, ok is true and complete is not).
func (c *conn) forward(u *upstream, n int) (complete, ok bool) {
	resp := &c.resp
	b := c.appendResponse(c.bufs.out[:0])
	body := c.bufs.up[c.respHead:n]
	hasBody := resp.HasBody(c.req.Method)
	untilClose := hasBody && !resp.Chunked && resp.Length < 0
	if untilClose {
		resp.Close = true
	}
	if c.req.Minor == 0 && (untilClose || hasBody && resp.Chunked) || c.g.closing.Load() {
		c.req.Close = true // the end of the connection is the end of the body
	}
	b = c.appendConnection(b)
	switch {
	case resp.Chunked && (hasBody || string(c.req.Method) == "HEAD") || untilClose:
		if c.req.Minor == 1 {
			b = append(b, "Transfer-Encoding: chunked\r\n"...)
		}
	case resp.Length >= 0 && resp.Status != 204 && resp.Status >= 200:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, resp.Length, 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	c.bufs.out = b
	switch {
	case !hasBody:
		if len(body) > 0 {
			resp.Close = true // more than there may be: do not use the connection again
		}
		_, err := c.Write(b)
		return err == nil, err == nil
	case resp.Chunked:
		return c.forwardChunks(u, n)
	case untilClose:
		return c.forwardRest(u, body)
	}
	return c.forwardLength(u, body)
}

// forwardLength passes on a body of known length.
func (c *conn) forwardLength(u *upstream, body []byte) (complete, ok bool) {
	left := c.resp.Length
	if int64(len(body)) > left {
		body = body[:left]
		c.resp.Close = true
	}
	c.bufs.out = append(c.bufs.out, body...)
	left -= int64(len(body))
	if left == 0 {
		_, err := c.Write(c.bufs.out)
		return err == nil, err == nil
	}
	c.slow()
	c.touch()
	if _, err := c.Write(c.bufs.out); err != nil {
		return false, false
	}
	for left > 0 {
		c.touch()
		n, err := u.Read(c.bufs.up[:min(int64(len(c.bufs.up)), left)])
		if n > 0 {
			left -= int64(n)
			c.touch()
			if _, err := c.Write(c.bufs.up[:n]); err != nil {
				return false, false
			}
		}
		if err != nil && left > 0 {
			return false, c.Err() == nil
		}
	}
	c.moved.Store(0)
	return true, true
}

// forwardRest passes on a body that ends with the worker's connection.
func (c *conn) forwardRest(u *upstream, body []byte) (complete, ok bool) {
	chunked := c.req.Minor == 1
	c.slow()
	for {
		if len(body) > 0 || len(c.bufs.out) > 0 {
			if chunked {
				c.bufs.out = wire.AppendChunk(c.bufs.out, body)
			} else {
				c.bufs.out = append(c.bufs.out, body...)
			}
			c.touch()
			if _, err := c.Write(c.bufs.out); err != nil {
				return false, false
			}
			c.bufs.out = c.bufs.out[:0]
		}
		c.moved.Store(0) // it may be silent for as long as it likes
		n, err := u.Read(c.bufs.up)
		if n == 0 && err != nil {
			if !errors.Is(err, io.EOF) {
				return false, c.Err() == nil
			}
			break
		}
		body = c.bufs.up[:n]
	}
	if chunked {
		if _, err := c.Write([]byte("0\r\n\r\n")); err != nil {
			return false, false
		}
	}
	return true, true
}

// forwardChunks passes on a chunked body with its trailers, piece by piece as it
// comes: nothing is held back.
func (c *conn) forwardChunks(u *upstream, n int) (complete, ok bool) {
	var ch wire.Chunks
	chunked := c.req.Minor == 1
	up := c.bufs.up
	at := c.respHead
	for first := true; ; first = false {
		for {
			d, trailer, k, err := ch.Next(up[at:n])
			if err != nil {
				// What came before the fault is not complete, and must not look so.
				return false, c.flush()
			}
			at += k
			if chunked {
				c.bufs.out = wire.AppendChunk(c.bufs.out, d)
				if ch.Done() {
					c.bufs.out = append(c.bufs.out, "0\r\n"...)
					c.bufs.out = append(c.bufs.out, trailer...)
					c.bufs.out = append(c.bufs.out, "\r\n"...)
				}
			} else {
				c.bufs.out = append(c.bufs.out, d...)
			}
			if ch.Done() || k == 0 {
				break
			}
		}
		if ch.Done() {
			if at < n {
				c.resp.Close = true
			}
			c.touchIf(!first)
			done := c.flush()
			c.moved.Store(0)
			return done, done
		}
		if first {
			c.slow()
		}
		c.touch()
		if !c.flush() {
			return false, false
		}
		c.moved.Store(0)
		copy(up, up[at:n])
		n -= at
		at = 0
		if n == len(up) {
			return false, true // a line longer than any that is allowed
		}
		k, err := u.Read(up[n:])
		if k == 0 && err != nil {
			return false, c.Err() == nil
		}
		n += k
	}
}

func (c *conn) touchIf(yes bool) {
	if yes {
		c.touch()
	}
}

// flush writes what is in bufs.out.
func (c *conn) flush() bool {
	if len(c.bufs.out) == 0 {
		return true
	}
	_, err := c.Write(c.bufs.out)
	c.bufs.out = c.bufs.out[:0]
	return err == nil
}

// slow notes the time to the answer's head, because its body takes longer: rules
// that go by latency mean the former.
func (c *conn) slow() {
	if c.call.took == 0 {
		c.call.took = c.g.now() - c.call.sent
	}
}
