package gateway

import (
	"time"

	"github.com/rota-project/rota/gateway/internal/body"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/sock"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// What follows makes a conn the client of its exchange.
var _ client = (*conn)(nil)

// bodyRest says what has become of a request's body.
type bodyRest uint8

const (
	bodyUnread bodyRest = iota // nobody has asked for it
	bodyOver                   // it was read to its end
	bodyBroken                 // some of it may still come: the connection cannot go on
)

// body implements client.
func (c *conn) body() (mode bodyMode, err error) {
	req := &c.req
	switch {
	case req.Length <= 0 && !req.Chunked:
		return bodyNone, nil
	case req.Continue:
		return bodyFlow, nil
	case req.Chunked:
		size, data, err := body.WholeChunks(c.bufs.in[c.r:c.w])
		switch {
		case err != nil:
			return 0, err
		case size == 0:
			return bodyFlow, nil
		}
		c.kept = size
		c.rec.In = int64(data)
		return bodyKept, nil
	case req.Length > int64(c.call.st.cfg.Limits.ReplayBytes):
		return bodyFlow, nil
	}
	c.kept = int(req.Length)
	if need := c.r + c.kept; need > len(c.bufs.in) {
		grown := make([]byte, need)
		copy(grown, c.bufs.in[:c.w])
		c.bufs.in = grown
		// The request's fields point into the old buffer, which stays alive.
	}
	c.rec.In = int64(c.kept)
	for c.w < c.r+c.kept {
		c.feed(outcome.OnClient)
		n, err := c.Read(c.bufs.in[c.w:])
		if err != nil {
			c.rec.In = int64(c.w - c.r)
			c.rest = bodyBroken
			return 0, body.CutShort(err)
		}
		c.w += n
	}
	return bodyKept, nil
}

// appendKept implements client.
func (c *conn) appendKept(b []byte) []byte {
	raw := c.bufs.in[c.r : c.r+c.kept]
	if !c.req.Chunked {
		return append(b, raw...)
	}
	var ch wire.Chunks
	for {
		d, trailer, n, err := ch.Next(raw)
		if err != nil {
			return b // body has checked it
		}
		if ch.Done() {
			return wire.AppendLast(b, trailer)
		}
		b = wire.AppendChunk(b, d)
		raw = raw[n:]
	}
}

// open implements client.
func (c *conn) open() {
	c.rest = bodyBroken // until closed says otherwise
	early := c.bufs.in[c.r:c.w]
	if c.req.Chunked {
		c.flow.BeginChunks(c.NC, early)
		c.r, c.w = 0, 0
		return
	}
	c.r += c.flow.BeginLength(c.NC, early, c.req.Length)
}

// read implements client.
func (c *conn) read(p []byte) (int, error) { return c.flow.Read(p) }

// trailer implements client.
func (c *conn) trailer() []byte { return c.flow.Trailer() }

// cut implements client.
func (c *conn) cut() { _ = c.NC.SetReadDeadline(sock.LongAgo) }

// closed implements client.
func (c *conn) closed(whole bool) {
	if c.rest == bodyUnread { // it was kept, or there was none
		c.r += c.kept
		c.kept, c.rest = 0, bodyOver
		return
	}
	_ = c.NC.SetReadDeadline(time.Time{})
	if whole {
		c.rest = bodyOver
	}
}

// resume implements client.
func (c *conn) resume() bool { return c.NC.SetReadDeadline(time.Time{}) == nil }

// behind takes over what came after the last request's body: the next request.
// Until then the last one's head is needed.
func (c *conn) behind() {
	if rest := c.flow.Rest(); len(rest) > 0 {
		for len(c.bufs.in) < len(rest) {
			c.bufs.in = append(c.bufs.in, make([]byte, len(c.bufs.in))...)
		}
		c.r, c.w = 0, copy(c.bufs.in, rest)
	}
	c.flow = body.Flow{}
}

// interim implements client.
func (c *conn) interim() bool {
	if c.req.Minor == 0 {
		return true // it would not know what that is
	}
	c.bufs.out = append(c.appendResponse(c.bufs.out[:0]), "\r\n"...)
	return c.flush()
}

// head implements client.
func (c *conn) head(f framing) {
	resp := &c.resp
	b := c.appendResponse(c.bufs.out[:0])
	// An answer without a body may say how long it would be.
	unknown := f == framedUnknown || f == framedNone && resp.Chunked && string(c.req.Method) == "HEAD"
	c.chunk = f == framedUnknown && c.req.Minor == 1
	if f == framedUnknown && c.req.Minor == 0 || c.g.closing.Load() || c.worn() {
		c.req.Close = true // the end of the connection is the end of the body
	}
	switch {
	case c.req.Close:
		b = append(b, "Connection: close\r\n"...)
	case c.req.Minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	switch {
	case unknown && c.req.Minor == 1:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case !unknown && resp.Length >= 0 && resp.Status != 204 && resp.Status >= 200:
		b = append(b, "Content-Length: "...)
		b = c.appendLength(b)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	c.bufs.out = b
}

// smallBody is what is copied to what is to be written anyway.
const smallBody = 4 << 10

// data implements client.
func (c *conn) data(p []byte, last bool) bool {
	switch {
	case c.chunk:
		c.bufs.out = wire.AppendChunk(c.bufs.out, p)
		if last {
			c.bufs.out = wire.AppendLast(c.bufs.out, nil)
		}
	case len(c.bufs.out) == 0 && len(p) > smallBody: // no need to copy it
		_, err := c.Write(p)
		return err == nil
	default:
		c.bufs.out = append(c.bufs.out, p...)
	}
	return true
}

// trailers implements client.
func (c *conn) trailers(lines []byte) bool {
	if c.chunk {
		c.bufs.out = wire.AppendLast(c.bufs.out, lines)
	}
	return true
}

// flush implements client.
func (c *conn) flush() bool {
	if len(c.bufs.out) == 0 {
		return true
	}
	_, err := c.Write(c.bufs.out)
	c.bufs.out = c.bufs.out[:0]
	return err == nil
}

// refuse implements client.
func (c *conn) refuse(r *refusal) bool {
	whole := c.skipBody()
	if !whole {
		c.req.Close = true
		c.rest = bodyBroken
	}
	return c.say(r) && whole && !c.req.Close
}

// skipBody steps over a body that is already here in full.
func (c *conn) skipBody() bool {
	switch {
	case c.rest != bodyUnread:
		return c.rest == bodyOver
	case c.req.Continue:
		return c.req.Length <= 0 && !c.req.Chunked
	case c.req.Chunked:
		size, _, err := body.WholeChunks(c.bufs.in[c.r:c.w])
		if err != nil || size == 0 {
			return false
		}
		c.r += size
	case c.req.Length > 0:
		if int64(c.w-c.r) < c.req.Length {
			return false
		}
		c.r += int(c.req.Length)
	}
	return true
}

// gone implements client.
func (c *conn) gone() bool { return sock.Gone(c.raw) }
