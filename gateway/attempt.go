package gateway

import (
	"errors"
	"fmt"
)

// bodyMode says how a request's body gets to the worker.
type bodyMode uint8

const (
	bodyNone bodyMode = iota
	bodyKept          // it is here in full: it can be sent again
	bodyFlow          // streamed while the answer is awaited
)

// run tries the call on workers until one has answered.
func (x *exchange) run(t *target) (keep bool) {
	c := &x.call
	x.stall.Store(int64(c.p.IdleTimeout))
	mode, ok := x.client.body()
	if !ok {
		c.finish(0)
		return false
	}
	if mode != bodyNone {
		x.req.UpgradeTo = nil // the body's end would be the new protocol's beginning
	}
	x.waiting.Store(c.begun) // from here on the client is missed if it goes
	if r := c.admit(x); r != nil {
		return x.refused(r)
	}
	if c.p.CallTimeout > 0 {
		x.deadline.Store(c.begun + int64(c.p.CallTimeout))
	}
	for {
		w, r := c.acquire(x)
		if r != nil {
			return x.refused(r)
		}
		var next bool
		if x.needsHTTP2(w) {
			next, keep = x.attemptHTTP2(w, t, mode)
		} else {
			next, keep = x.attempt(w, t, mode)
		}
		if !next {
			return keep
		}
	}
}

// refused ends a call that was not tried, or no more.
func (x *exchange) refused(r *refusal) (keep bool) {
	if x.left() {
		x.call.finish(499)
		return false
	}
	return x.client.refuse(r)
}

// connect gets a connection to the worker: an idle one where that is safe.
func (x *exchange) connect(w *worker, mode bodyMode, fresh bool) (*upstream, error) {
	c := &x.call
	if !fresh {
		within := idleFor
		switch {
		case mode == bodyFlow:
			within = 0 // cannot be sent again: take no chances
		case c.idempotent:
		case canProveUnread:
			within = w.keepsFor(c.sent)
		default:
			within = min(freshFor, w.keepsFor(c.sent))
		}
		if within > 0 {
			if u := w.pool.get(c.sent, within); u != nil {
				u.reused = true
				return u, nil
			}
		}
	}
	return w.dial(x.context(), c.p.ConnectTimeout, &x.g.poll)
}

// attach lets the sweeper cut the attempt off; detach ends that. It reports false
// if the sweeper has cut it off.
func (x *exchange) attach(u *upstream) {
	c := &x.call
	x.watch.Store(u)
	x.answered.Store(false)
	x.waiting.Store(c.sent)
	if c.p.HeaderTimeout > 0 {
		d := c.sent + int64(c.p.HeaderTimeout)
		if c.p.CallTimeout > 0 {
			d = min(d, c.begun+int64(c.p.CallTimeout))
		}
		x.deadline.Store(d)
	}
	if x.left() { // it went before there was anything to close
		u.close()
	}
}

func (x *exchange) detach(u *upstream) bool {
	x.waiting.Store(0)
	return x.watch.CompareAndSwap(u, nil)
}

// answering notes that the answer's head is there: only the whole call's timeout
// counts from here on.
func (x *exchange) answering() {
	c := &x.call
	if c.p.HeaderTimeout > 0 {
		x.deadline.Store(0)
		if c.p.CallTimeout > 0 {
			x.deadline.Store(c.begun + int64(c.p.CallTimeout))
		}
	}
	x.answered.Store(true)
	x.waiting.Store(0)
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
func (x *exchange) attempt(w *worker, t *target, mode bodyMode) (next, keep bool) {
	c := &x.call
	fresh := false
	for {
		u, err := x.connect(w, mode, fresh)
		if err != nil {
			return x.unreachable(err)
		}
		b := x.appendRequest(x.bufs.out[:0], t, w, mode)
		if mode == bodyKept {
			b = x.client.appendKept(b)
		}
		x.bufs.out = b
		before := u.sent
		x.attach(u)
		var n, wrote int
		var pm *pump
		switch {
		case mode == bodyFlow:
			wrote, err = u.Write(b)
			if err == nil && !x.req.Continue {
				pm = x.startPump(u)
			}
			if err == nil {
				n, pm, err = x.firstOfFlow(u, pm)
			}
		case c.p.Hedge && c.idempotent:
			u, n, wrote, err = x.hedged(u, b)
			w = c.w
		default:
			n, wrote, err = u.Ask(b, x.bufs.up)
		}
		u.sent += uint64(wrote)
		if err == nil {
			var end bool
			if n, end, err = x.readHead(u, n, &pm); err == nil && !end {
				return x.judge(u, w, n, pm, mode)
			}
			if end {
				pm.stop(x, u)
				return false, false
			}
		}
		// It broke before there was an answer.
		pm.stop(x, u)
		late := !x.detach(u) && x.late.Swap(false)
		u.close()
		if x.left() {
			c.finish(499)
			return false, false
		}
		if late {
			c.settleLate()
			return x.afterFailure(giveUp, errLate, 504)
		}
		ran := wrote > 0 && !u.unread(before)
		if u.reused && !ran && mode != bodyFlow {
			// The connection had died while it was idle: the worker is not to
			// blame, and has not seen the call.
			w.drops(c.sent, c.sent-u.since)
			fresh = true
			continue
		}
		if mode == bodyFlow && pm != nil {
			ran = true // part of the body is gone
			c.idempotent = false
		}
		return x.afterFailure(c.failed(err, ran), fmt.Errorf("the worker's connection broke: %w", err), 502)
	}
}

// unreachable ends an attempt on a worker that could not be connected to.
func (x *exchange) unreachable(err error) (next, keep bool) {
	if x.left() {
		x.call.finish(499)
		return false, false
	}
	return x.afterFailure(x.call.failed(err, false), fmt.Errorf("cannot connect to the worker: %w", err), 502)
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
func (x *exchange) afterFailure(v verdict, err error, status int) (next, keep bool) {
	if v == again {
		return true, false
	}
	x.g.log.Debug("call failed", "function", x.call.f.name, "error", err)
	return false, x.refuse(status, publicText(status))
}

// publicText is what callers learn of a failure: nothing of the inside.
func publicText(status int) string {
	if status == 504 {
		return "the worker took too long to answer"
	}
	return "the worker could not be reached or broke off"
}

// clientLeft ends a call whose client has gone.
func (x *exchange) clientLeft(u *upstream) {
	x.detach(u)
	u.close()
	x.call.finish(499)
}
