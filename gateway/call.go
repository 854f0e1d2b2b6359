package gateway

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/rota-project/rota/balance"
)

// call is one call on its way: the policy core that both engines ask. An engine
// fills in what the request says, calls admit, then for each attempt acquire and
// one of settled, failed or refusedBy, and at last finish. It is used by one
// goroutine at a time and may be used again.
type call struct {
	g  *Gateway
	st *state
	f  *function
	p  *policy

	// What the engine found in the request.
	caller     uint64 // hash of who calls, for rate limits
	idempotent bool   // by method or Idempotency-Key
	key        uint64 // what sticky goes by
	task       string // /t/<task>/...
	minGen     uint64 // the oldest generation that the caller accepts

	bal        balance.Call
	pick       balance.Pick
	w          *worker
	generation uint64
	attempt    int
	entered    bool
	waited     bool  // in a queue
	begun      int64 // the call
	sent       int64 // this attempt
	took       int64 // until the answer's head, if its body took longer
	ended      int64 // when the answer was complete: the clock is not cheap everywhere
	rnd        uint64
	logShare   float64
	logName    string
}

// caller is whom a call that waits is waited for.
type caller interface {
	// context is done when it has gone.
	context() context.Context
}

// refusal is an answer of the gateway's own.
type refusal struct {
	page       *recorder // of the gateway's own paths, instead of text
	status     int
	text       string
	retryAfter time.Duration
}

// random is a splitmix64 step of the connection's own source.
func (c *call) random() uint64 {
	c.rnd += 0x9e3779b97f4a7c15
	z := c.rnd
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// begin makes the call ready for a request.
func (c *call) begin(g *Gateway, st *state, f *function, now int64) {
	rnd := c.rnd
	*c = call{g: g, st: st, f: f, begun: now, rnd: rnd, logShare: st.cfg.AccessLog, logName: f.name}
	c.p = f.policy.Load()
}

var (
	refuseRate  = "too many calls"
	refuseQueue = "no worker is free and the queue is full"
	refuseWait  = "no worker became free in time"
	refuseNone  = "no worker"
	refuseOwner = "nobody owns this task"
	refuseOld   = "the owner's generation is older than the one asked for"
)

// admit applies the function's limits. It may wait in the function's queue.
func (c *call) admit(who caller) *refusal {
	p := c.p
	c.f.budget.earn(p.RetryBudget)
	if p.Rate > 0 {
		if ok, wait := c.f.rates.allow(c.caller, p.Rate, p.Burst, c.begun); !ok {
			c.f.refused.Add(1)
			return &refusal{status: 429, text: refuseRate, retryAfter: wait}
		}
	}
	if c.f.queue.waiting.Load() > 0 || !c.f.enter() {
		c.waited = true
		ok, full := c.f.queue.wait(who.context(), p.QueueTimeout, p.Queue, c.f.enter)
		if !ok {
			return c.unavailable(full)
		}
	}
	c.entered = true
	return nil
}

// unavailable refuses a call that found its queue full, or waited for too long.
func (c *call) unavailable(full bool) *refusal {
	c.f.refused.Add(1)
	text := refuseWait
	if full {
		text = refuseQueue
	}
	return &refusal{status: 503, text: text, retryAfter: time.Second}
}

// acquire reserves a place on a worker that the call has not been tried on. It
// may wait in the group's queue until one is free or ready.
func (c *call) acquire(who caller) (*worker, *refusal) {
	if c.task != "" {
		return c.acquireOwner(who)
	}
	grp := c.f.group.Load()
	if grp.queue.waiting.Load() == 0 && c.try(grp, c.p.rule) {
		return c.w, nil
	}
	if len(grp.set.Workers()) == 0 {
		c.f.refused.Add(1)
		return nil, &refusal{status: 503, text: refuseNone, retryAfter: time.Second}
	}
	c.waited = true
	left := c.p.QueueTimeout - time.Duration(c.g.now()-c.begun)
	if left <= 0 {
		return nil, c.unavailable(false)
	}
	again := func() bool {
		// Who waits may be tried on any worker again: it was not run on any.
		if c.attempt > 0 {
			clear(c.bal.Tried[:])
		}
		return c.try(grp, c.p.rule)
	}
	ok, full := grp.queue.wait(who.context(), left, c.p.Queue, again)
	if !ok {
		return nil, c.unavailable(full)
	}
	return c.w, nil
}

func (c *call) try(grp *group, rule balance.Rule) bool {
	c.bal.Fn = c.f.fn.Load()
	c.bal.Key = c.key
	c.bal.Rand = c.random()
	if c.sent = c.begun; c.attempt > 0 || c.waited {
		c.sent = c.g.now()
	}
	c.bal.Now = c.sent
	c.w = of(grp.set.Pick(rule, &c.bal, &c.pick))
	return c.w != nil
}

// acquireOwner reserves a place on the worker that owns the task.
func (c *call) acquireOwner(who caller) (*worker, *refusal) {
	try := func() *refusal {
		var o Owner
		ok := false
		if m := c.st.cfg.Members; m != nil {
			o, ok = m.Owner(c.task)
		}
		if !ok {
			return &refusal{status: 503, text: refuseOwner, retryAfter: time.Second}
		}
		if o.Generation < c.minGen {
			return &refusal{status: 412, text: refuseOld, retryAfter: 0}
		}
		c.bal.Owner, c.generation = o.Worker, o.Generation
		if !c.try(c.g.all, balance.Owner{}) {
			return &refusal{status: 503, text: refuseWait, retryAfter: time.Second}
		}
		return nil
	}
	r := try()
	if r == nil || r.status != 503 || c.bal.Tried[0] != nil {
		return c.w, r
	}
	c.waited = true
	left := c.p.QueueTimeout - time.Duration(c.g.now()-c.begun)
	if left <= 0 {
		return nil, r
	}
	ok, _ := c.g.all.queue.wait(who.context(), left, c.p.Queue, func() bool {
		r = try()
		return r == nil || r.status != 503
	})
	if ok {
		return c.w, r
	}
	c.f.refused.Add(1)
	return nil, r
}

// verdict is what to do after an attempt.
type verdict uint8

const (
	giveUp verdict = iota
	again
)

// settled ends the attempt well: the worker has answered status.
func (c *call) settled(status int) {
	now := c.g.now()
	c.ended = now
	w := c.w
	w.calls.Add(1)
	if status >= 500 {
		w.windowBad.Add(1)
	} else {
		w.windowOK.Add(1)
	}
	if w.health.fails.Load() != 0 {
		w.health.fails.Store(0)
	}
	took := c.took
	if took == 0 {
		took = now - c.sent
	}
	c.pick.Done(now, took)
	c.released()
}

// failed ends the attempt that broke: ran says that the worker may have run it.
// The verdict is whether to try another worker.
func (c *call) failed(err error, ran bool) verdict {
	w := c.w
	w.failures.Add(1)
	w.windowBad.Add(1)
	c.pick.Release()
	c.released()
	c.g.passive(w, err, !ran)
	return c.more(w, ran)
}

// refusedBy ends an attempt that the worker answered without having run it, or
// perhaps not. blame counts it against the worker.
func (c *call) refusedBy(blame bool, ran bool, why error) verdict {
	w := c.w
	c.pick.Release()
	c.released()
	w.failures.Add(1)
	if blame {
		w.windowBad.Add(1)
		c.g.passive(w, why, false)
	}
	return c.more(w, ran)
}

func (c *call) more(w *worker, ran bool) verdict {
	if c.attempt+1 >= c.p.Attempts || c.task != "" && ran && !c.idempotent {
		return giveUp
	}
	if ran && (!c.idempotent || c.p.RetryBudget < 0 || !c.f.budget.spend()) {
		return giveUp
	}
	c.bal.Tried[min(c.attempt, len(c.bal.Tried)-1)] = w.bal
	c.attempt++
	c.f.retries.Add(1)
	return again
}

// released tells those who wait that a place is free.
func (c *call) released() {
	c.f.group.Load().queue.wake()
	c.g.all.queue.wake()
}

// finish ends the call, however it went: status is what the caller got, 0 for
// nothing. It is safe to call twice.
func (c *call) finish(status int) {
	if c.f == nil {
		return
	}
	if c.pick.Worker() != nil {
		c.pick.Release()
		c.released()
	}
	if c.entered {
		c.entered = false
		c.f.exit()
	}
	c.f.status[min(status/100, 5)].Add(1)
	now := c.ended
	if now == 0 {
		now = c.g.now()
	}
	c.f.times.add(time.Duration(now - c.begun))
	c.f = nil
}

// What a current OpenLambda worker says when it has not run a call, or perhaps
// not. A function may itself answer with these status codes: the body decides.
var (
	lambdaQueueFull   = []byte("lambda function queue is full")
	instanceQueueFull = []byte("lambda instance queue is full")
	noSandbox         = []byte("could not create Sandbox:")
	roundTripFailed   = []byte("RoundTrip failed:")
)

// refusalPeek is how many bytes of a body tell such answers apart.
const refusalPeek = 29

// mayRefuse says whether an answer of that status may be one that the worker
// gave without having run the call.
func mayRefuse(status int) bool { return status == 429 || status == 500 || status == 502 }

// refusals tells such answers apart: kind says whether it is one, blame whether
// it counts against the worker, ran whether the call may have been run.
func refusals(status int, body []byte) (refused, blame, ran bool) {
	switch {
	case status == 429 && (bytes.HasPrefix(body, lambdaQueueFull) || bytes.HasPrefix(body, instanceQueueFull)):
		return true, false, false
	case status == 500 && bytes.HasPrefix(body, noSandbox):
		return true, true, false
	case status == 502 && bytes.HasPrefix(body, roundTripFailed):
		return true, true, true
	}
	return false, false, false
}

var errRefused = errors.New("the worker refused the call")
