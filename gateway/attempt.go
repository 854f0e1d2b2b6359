package gateway

import (
	"errors"
	"fmt"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
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
	x.moving.Most.Store(int64(c.p.IdleTimeout))
	most := x.maxBody()
	if most > 0 && x.req.Length > most {
		return x.fail(outcome.ClientTooLarge, errBodyTooLarge)
	}
	mode, err := x.client.body()
	x.moving.Up.Store(outcome.OnNobody)
	if err == nil && most > 0 && mode == bodyKept && x.rec.In > most {
		x.client.closed(true)
		return x.fail(outcome.ClientTooLarge, errBodyTooLarge)
	}
	if err != nil {
		x.req.Close = true
		return x.fail(x.fault.Note(outcome.BodyEnd(err)), err)
	}
	if mode != bodyNone {
		x.req.UpgradeTo = nil // the body's end would be the new protocol's beginning
	}
	x.waiting.Store(c.begun) // from here on a disconnect is noticed
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
		x.try(w, c.sent)
		var next bool
		if x.needsHTTP2(w) {
			next, keep = x.attemptHTTP2(w, t, mode)
		} else {
			next, keep = x.attempt(w, t, mode)
		}
		if !next {
			return keep
		}
		if x.upload.begun {
			mode = bodyKept // it has been gathered
		}
	}
}

// refused ends a call that was not tried, or no more.
func (x *exchange) refused(r *refusal) (keep bool) {
	last := x.rec.Last()
	if last.Verdict == outcome.Again { // it was to be
		last.Verdict = outcome.NobodyLeft
	}
	if e := x.fault.Get(); e != outcome.NotEnded || x.left() {
		last.Verdict = outcome.Needless
		return x.fail(x.whose(e), nil)
	}
	if last.End.Blame() == outcome.BlameWorker && r.status != 412 {
		return x.fail(last.End, last.Err) // there is none left to try: this is why
	}
	return x.reply(r)
}

// whose says how the call has ended that e was noted of, or nothing.
func (x *exchange) whose(e outcome.End) outcome.End {
	switch {
	case e != outcome.NotEnded:
		return e
	case x.left():
		return outcome.ClientLeft
	}
	return outcome.NotEnded
}

// connect gets a connection to the worker: an idle one where that is safe.
func (x *exchange) connect(w *upstream.Worker, mode bodyMode, fresh bool) (*upstream.Conn, error) {
	c := &x.call
	if !fresh {
		within := upstream.IdleFor
		switch {
		case mode == bodyFlow:
			within = 0 // cannot be sent again: take no chances
		case !c.idempotent:
			within = w.KeepsFor(c.sent)
		}
		if within > 0 {
			if u := w.Idle(c.sent, within, c.st.cfg.Limits.ofWorkers()); u != nil {
				u.Reused = true
				return u, nil
			}
		}
	}
	return w.Dial(x.context(), c.p.ConnectTimeout, x.g.now())
}

// attach lets the sweeper cut the attempt off; detach ends that. It reports false
// if the sweeper has cut it off.
func (x *exchange) attach(u *upstream.Conn) {
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
		u.Close()
	}
}

func (x *exchange) detach(u *upstream.Conn) bool {
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

var (
	errCutOff  = errors.New("the worker's answer breaks off")
	errNothing = errors.New("the worker closed the connection without an answer")
)

// attempt tries the call on one worker. next says that another one is to be
// tried; else keep says whether the client's connection goes on.
func (x *exchange) attempt(w *upstream.Worker, t *target, mode bodyMode) (next, keep bool) {
	c := &x.call
	fresh := false
	for {
		u, err := x.connect(w, mode, fresh)
		if err != nil {
			return x.broke(outcome.WorkerUnreachable, err, false)
		}
		b := x.appendRequest(x.bufs.out[:0], t, w, mode)
		if mode == bodyKept {
			b = x.appendBody(b)
		}
		x.bufs.out = b
		before := u.Sent
		u.Carried++
		x.rec.Last().Reused = u.Reused
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
			if mode == bodyKept {
				x.moving.Ascend(c.sent, outcome.OnWorker)
			}
			if wrote, err = u.Write(b); err == nil {
				x.moving.Up.Store(outcome.OnNobody)
				n, err = u.Read(x.bufs.up)
			} else if w.TLS {
				err = u.LastWord(err)
			}
		}
		u.Sent += uint64(wrote)
		last := x.rec.Last()
		last.Sent += int64(wrote)
		last.Read += int64(n)
		if err == nil {
			if n, err = x.readHead(u, n, &pm); err == nil {
				return x.judge(u, n, pm, mode)
			}
		} else {
			err = fmt.Errorf("the worker's connection broke: %w", err)
		}
		// It broke before there was an answer.
		pm.stop(x, u)
		x.detach(u)
		ran := wrote > 0 && !u.Unread(before)
		u.Close()
		if u.Reused && !ran && mode != bodyFlow && x.whose(x.fault.Get()) == outcome.NotEnded {
			// The connection had died while it was idle: the worker is not to
			// blame, and has not seen the call.
			u.Died(c.sent)
			fresh = true
			continue
		}
		e := outcome.WorkerEnd(err)
		if before == 0 && n == 0 {
			if why := w.Untrusted(err); why != nil {
				e, err = outcome.WorkerUnreachable, why
				ran = ran && !upstream.Alerted(err) // it has read nothing of the call
			}
		}
		return x.broke(e, err, ran || pm != nil)
	}
}

// reason is what is known of an end that was noted.
func (x *exchange) reason(e outcome.End) error {
	if e.Blame() == outcome.BlameWorker {
		return errors.New(e.Text())
	}
	return x.upload.why
}

// broke ends an attempt that has no answer: e is what the worker has done, unless
// somebody knows that it was not its fault. ran says that it may have run the call.
// next is whether another worker is to be tried.
func (x *exchange) broke(e outcome.End, err error, ran bool) (next, keep bool) {
	c := &x.call
	if f := x.whose(x.fault.Get()); f != outcome.NotEnded {
		e, err = f, x.reason(f) // what the worker's connection says is only what came of it
	}
	last := x.rec.Last()
	last.Ended, last.End, last.Err, last.Verdict = x.g.now(), e, err, outcome.Needless
	if e.Blame() != outcome.BlameWorker {
		c.dropped()
		return false, x.fail(e, err)
	}
	if last.Verdict = c.failed(e, err, ran); last.Verdict == outcome.Again {
		if !x.upload.begun || x.upload.gather() {
			return true, false
		}
		last.Verdict = outcome.Needless
		if f := x.fault.Get(); f != outcome.NotEnded { // the client's, meanwhile
			e, err = f, x.reason(f)
		}
	}
	return false, x.fail(e, err)
}
