package gateway

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// bodyMode says how a request's body gets to the worker.
type bodyMode uint8

const (
	bodyNone  bodyMode = iota
	bodyWhole          // in bufs.in in full: it can be sent again
	bodyFlow           // streamed while the answer is awaited
)

// run tries the call on workers until one has answered.
func (c *conn) run(t *target) (keep bool) {
	x := &c.call
	c.stall.Store(int64(x.p.IdleTimeout))
	mode, size, ok := c.body()
	if !ok {
		x.finish(0)
		return false
	}
	c.waiting.Store(x.begun) // from here on the client is missed if it goes
	if r := x.admit(c); r != nil {
		if c.Err() != nil {
			x.finish(499)
			return false
		}
		return c.refuse(r)
	}
	if x.p.CallTimeout > 0 {
		c.deadline.Store(x.begun + int64(x.p.CallTimeout))
	}
	for {
		w, r := x.acquire(c)
		if r != nil {
			if c.Err() != nil {
				x.finish(499)
				return false
			}
			return c.refuse(r)
		}
		next, keep := c.attempt(w, t, mode, size)
		if !next {
			return keep
		}
	}
}

// body decides how the body is sent, and reads it if it is small enough to be
// kept. size is its length in bufs.in, chunked framing included.
func (c *conn) body() (mode bodyMode, size int, ok bool) {
	req := &c.req
	switch {
	case req.Length <= 0 && !req.Chunked:
		return bodyNone, 0, true
	case req.Continue:
		return bodyFlow, 0, true
	case req.Chunked:
		var ch wire.Chunks
		at := c.r
		for {
			_, _, n, err := ch.Next(c.bufs.in[at:c.w])
			if err != nil {
				c.malformed(err)
				return 0, 0, false
			}
			at += n
			if ch.Done() {
				return bodyWhole, at - c.r, true
			}
			if n == 0 {
				return bodyFlow, 0, true
			}
		}
	case req.Length > int64(c.call.st.cfg.Limits.ReplayBytes):
		return bodyFlow, 0, true
	}
	size = int(req.Length)
	if need := c.r + size; need > len(c.bufs.in) {
		grown := make([]byte, need)
		copy(grown, c.bufs.in[:c.w])
		c.bufs.in = grown
		// The request's fields point into the old buffer, which stays alive.
	}
	for c.w < c.r+size {
		c.touch()
		n, err := c.Read(c.bufs.in[c.w:])
		if err != nil {
			return 0, 0, false
		}
		c.w += n
	}
	c.moved.Store(0)
	return bodyWhole, size, true
}

// connect gets a connection to the worker: an idle one where that is safe.
func (c *conn) connect(w *worker, mode bodyMode, fresh bool) (*upstream, error) {
	if !fresh {
		within := idleFor
		switch {
		case mode == bodyFlow:
			within = 0 // cannot be sent again: take no chances
		case c.call.idempotent:
		case canProveUnread:
			within = w.keepsFor(c.call.sent)
		default:
			within = min(freshFor, w.keepsFor(c.call.sent))
		}
		if within > 0 {
			if u := w.pool.get(c.call.sent, within); u != nil {
				u.reused = true
				return u, nil
			}
		}
	}
	return w.dial(c, c.call.p.ConnectTimeout)
}

// detach ends the sweeper's hold on the worker's connection. It reports false if
// the sweeper has cut it off.
func (c *conn) detach(u *upstream) bool {
	c.waiting.Store(0)
	return c.watch.CompareAndSwap(u, nil)
}

// unread says that nothing of the request that began after sent bytes can have
// been read by the worker.
func (u *upstream) unread(sent uint64) bool {
	acked, ok := u.Acked()
	// The handshake counts as one byte.
	return ok && acked <= sent+1
}

var (
	errAnswer  = errors.New("the worker's answer is malformed")
	errLate    = errors.New("the worker took too long to answer")
	errNothing = errors.New("the worker closed the connection without an answer")
)

// attempt tries the call on one worker. next says that another one is to be
// tried; else keep says whether the client's connection goes on.
func (c *conn) attempt(w *worker, t *target, mode bodyMode, size int) (next, keep bool) {
	x := &c.call
	fresh := false
	for {
		u, err := c.connect(w, mode, fresh)
		if err != nil {
			if c.Err() != nil {
				x.finish(499)
				return false, false
			}
			return c.afterFailure(x.failed(err, false), fmt.Errorf("cannot connect to the worker: %w", err), 502)
		}
		b := c.appendRequest(c.bufs.out[:0], t, w, mode)
		if mode == bodyWhole {
			b = c.appendBody(b, size)
		}
		c.bufs.out = b
		before := u.sent
		c.watch.Store(u)
		c.waiting.Store(x.sent)
		if x.p.HeaderTimeout > 0 {
			d := x.sent + int64(x.p.HeaderTimeout)
			if x.p.CallTimeout > 0 {
				d = min(d, x.begun+int64(x.p.CallTimeout))
			}
			c.deadline.Store(d)
		}
		var n, wrote int
		var pm *pump
		switch {
		case mode == bodyFlow:
			wrote, err = u.Write(b)
			if err == nil && !c.req.Continue {
				pm = c.startPump(u)
			}
			if err == nil {
				n, pm, err = c.firstOfFlow(u, pm)
			}
		case x.p.Hedge && x.idempotent:
			u, n, wrote, err = c.hedged(u, b)
			w = x.w
		default:
			n, wrote, err = u.Ask(b, c.bufs.up)
		}
		u.sent += uint64(wrote)
		if err == nil {
			var end bool
			if n, end, err = c.head(u, n, &pm); err == nil && !end {
				return c.judge(u, w, n, pm, size)
			}
			if end {
				pm.stop(c, u)
				return false, false
			}
		}
		// It broke before there was an answer.
		pm.stop(c, u)
		cut := !c.detach(u)
		u.close()
		if c.Err() != nil {
			x.finish(499)
			return false, false
		}
		if cut && c.late.Swap(false) {
			x.settleLate()
			return c.afterFailure(giveUp, errLate, 504)
		}
		ran := wrote > 0 && !u.unread(before)
		if u.reused && !ran && mode != bodyFlow {
			// The connection had died while it was idle: the worker is not to
			// blame, and has not seen the call.
			w.drops(x.sent, x.sent-u.since)
			fresh = true
			continue
		}
		if mode == bodyFlow && pm != nil {
			ran = true // part of the body is gone
			x.idempotent = false
		}
		return c.afterFailure(x.failed(err, ran), fmt.Errorf("the worker's connection broke: %w", err), 502)
	}
}

// settleLate ends the attempt on a worker that did not answer in time.
func (c *call) settleLate() {
	w := c.w
	w.failures.Add(1)
	w.windowBad.Add(1)
	c.pick.Release()
	c.released()
	c.g.passive(w, errLate, false)
}

// afterFailure goes on with another worker or answers for the failure.
func (c *conn) afterFailure(v verdict, err error, status int) (next, keep bool) {
	if v == again {
		return true, false
	}
	c.g.log.Debug("call failed", "function", c.call.f.name, "error", err)
	r := &refusal{status: status, text: publicText(status)}
	return false, c.refuse(r)
}

// publicText is what callers learn of a failure: nothing of the inside.
func publicText(status int) string {
	if status == 504 {
		return "the worker took too long to answer"
	}
	return "the worker could not be reached or broke off"
}

// head reads until a final response head is in c.resp; 1xx are passed on. n
// counts what is in bufs.up, and is the same on return but for 1xx heads. end
// says that the client is gone.
func (c *conn) head(u *upstream, n int, pm **pump) (m int, end bool, err error) {
	for {
		hn, err := 0, wire.ErrIncomplete
		if n > 0 {
			hn, err = c.resp.Parse(c.bufs.up[:n])
		}
		switch {
		case errors.Is(err, wire.ErrIncomplete):
			if n == len(c.bufs.up) {
				if n > keepSize {
					return n, false, errAnswer
				}
				c.bufs.up = append(c.bufs.up, make([]byte, n)...)
			}
			k, err := u.Read(c.bufs.up[n:])
			if err != nil {
				if n == 0 {
					return n, false, fmt.Errorf("%w: %w", errNothing, err)
				}
				return n, false, fmt.Errorf("%w: %w", errAnswer, err)
			}
			n += k
		case err != nil:
			return n, false, fmt.Errorf("%w: %w", errAnswer, err)
		case c.resp.Status == 101 && c.req.UpgradeTo != nil || c.resp.Status >= 200:
			c.headLen(hn)
			return n, false, nil
		case c.resp.Status == 101:
			return n, false, fmt.Errorf("%w: it switched protocols unasked", errAnswer)
		default:
			if c.req.Minor == 1 && (c.resp.Status != 100 || c.req.Continue) {
				if _, err := c.Write(c.bufs.up[:hn]); err != nil {
					c.clientLeft(u)
					return 0, true, nil //nolint:nilerr // end says it
				}
			}
			copy(c.bufs.up, c.bufs.up[hn:n])
			n -= hn
			if c.req.Continue && *pm == nil && c.resp.Status == 100 {
				*pm = c.startPump(u)
			}
		}
	}
}

// headLen notes how long the head in bufs.up is.
func (c *conn) headLen(n int) { c.respHead = n }

// clientLeft ends a call whose client has gone.
func (c *conn) clientLeft(u *upstream) {
	c.detach(u)
	u.close()
	c.call.finish(499)
}

// judge looks at the answer's head: is it one, or did the worker not run the
// call? Then it is passed on.
func (c *conn) judge(u *upstream, w *worker, n int, pm *pump, size int) (next, keep bool) {
	x := &c.call
	if x.p.HeaderTimeout > 0 {
		c.deadline.Store(0)
		if x.p.CallTimeout > 0 {
			c.deadline.Store(x.begun + int64(x.p.CallTimeout))
		}
	}
	c.waiting.Store(0)
	if mayRefuse(c.resp.Status) {
		var err error
		if n, err = c.peekBody(u, n); err == nil {
			refused, blame, ran := refusals(c.resp.Status, c.peeked)
			if refused && pm == nil {
				v := x.refusedBy(blame, ran, fmt.Errorf("%w: %d %s", errRefused, c.resp.Status, c.peeked))
				if v == again {
					if c.detach(u) {
						u.close() // rare enough not to read the rest
					}
					return true, false
				}
				// Nobody else to try: the caller gets this answer.
			}
		}
	}
	if c.resp.Status == 101 {
		c.upgrade(u, n)
		return false, false
	}
	if pm != nil && !pm.endsWithin(earlyAnswer) {
		c.req.Close = true // the answer came before the body's end: say that this is the last
	}
	complete, ok := c.forward(u, n)
	reusable := complete && !c.resp.Close
	if pm != nil {
		pm.endsWithin(earlyEnd)
		pm.stop(c, u)
		reusable = reusable && pm.clean
	}
	mine := c.detach(u)
	status := c.resp.Status
	switch {
	case complete:
		x.settled(status)
	case !ok: // the client has gone
		status = 499
	default:
		x.failed(errAnswer, true)
	}
	if reusable && mine {
		u.since = x.ended
		w.pool.put(u)
	} else {
		u.close()
	}
	x.finish(status)
	c.log(status)
	if !ok || !complete {
		return false, false
	}
	if pm != nil && c.req.Close {
		c.linger()
		return false, false
	}
	if pm == nil {
		c.r += size
	}
	return false, !c.req.Close
}

const (
	// earlyAnswer is how long an answer waits for the end of the request's body
	// to be noticed, before it counts as an early one.
	earlyAnswer = 2 * time.Millisecond
	// earlyEnd is how long a body may go on after its answer's end.
	earlyEnd = 100 * time.Millisecond
)

// peekBody reads until the beginning of the answer's body is in c.peeked.
func (c *conn) peekBody(u *upstream, n int) (int, error) {
	for {
		body := c.bufs.up[c.respHead:n]
		done := false
		switch {
		case c.resp.Chunked:
			var ch wire.Chunks
			plain := c.peekBuf[:0]
			for at := 0; ; {
				d, _, k, err := ch.Next(body[at:])
				if err != nil {
					return n, err
				}
				plain = append(plain, d[:min(len(d), cap(plain)-len(plain))]...)
				at += k
				if done = ch.Done(); done || k == 0 {
					break
				}
			}
			body = plain
		case c.resp.Length >= 0:
			done = int64(len(body)) >= c.resp.Length
		}
		if done || len(body) >= refusalPeek || n == len(c.bufs.up) || !c.resp.HasBody(c.req.Method) {
			c.peeked = body
			return n, nil
		}
		k, err := u.Read(c.bufs.up[n:])
		if k > 0 {
			n += k
			continue
		}
		if err != nil {
			c.peeked = body
			return n, nil //nolint:nilerr // what is there is passed on, the break shows again
		}
	}
}

// firstOfFlow waits for the first bytes of the answer to a streamed request. A
// client that waits for 100 (Continue) gets one from us if the worker says
// nothing for a while.
func (c *conn) firstOfFlow(u *upstream, pm *pump) (int, *pump, error) {
	if pm != nil || !c.req.Continue {
		n, err := u.Read(c.bufs.up)
		return n, pm, err
	}
	_ = u.nc.SetReadDeadline(time.Now().Add(continueAfter))
	n, err := u.Read(c.bufs.up)
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.late.Load() {
		_ = u.nc.SetReadDeadline(time.Time{})
		return n, nil, err
	}
	_ = u.nc.SetReadDeadline(time.Time{})
	if _, err := c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
		return 0, nil, err
	}
	pm = c.startPump(u)
	n, err = u.Read(c.bufs.up)
	return n, pm, err
}

// continueAfter is how long a worker may think about an Expect header.
const continueAfter = time.Second

// appendBody appends the body that is in bufs.in, size bytes with its framing.
func (c *conn) appendBody(b []byte, size int) []byte {
	raw := c.bufs.in[c.r : c.r+size]
	if !c.req.Chunked {
		return append(b, raw...)
	}
	var ch wire.Chunks
	for !ch.Done() {
		d, trailer, n, err := ch.Next(raw)
		if err != nil {
			return b // body has checked it
		}
		b = wire.AppendChunk(b, d)
		if ch.Done() {
			b = append(b, "0\r\n"...)
			b = append(b, trailer...)
			b = append(b, "\r\n"...)
		}
		raw = raw[n:]
	}
	return b
}
