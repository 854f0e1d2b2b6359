package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
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
	w          *upstream.Worker
	generation uint64
	attempt    int
	entered    bool
	waited     bool  // in a queue
	begun      int64 // the call
	sent       int64 // this attempt
	took       int64 // until the answer's head, if its body took longer
	ended      int64 // when the answer was complete: the clock is not cheap everywhere
	rnd        outcome.Random
	again      bool // the last worker tried has not run the call: it may be tried on any once more
}

// caller is the client that a queued call belongs to.
type caller interface {
	// context is done when it has gone.
	context() context.Context
}

// refusal is an answer of the gateway's own.
type refusal struct {
	page       *recorder   // of the gateway's own paths, instead of text
	end        outcome.End // why
	status     int
	text       string
	retryAfter time.Duration
	fields     []wire.Field // further headers
}

// begin makes the call ready for a request.
func (c *call) begin(g *Gateway, st *state, f *function, now int64) {
	rnd := c.rnd
	*c = call{g: g, st: st, f: f, begun: now, rnd: rnd, again: true}
	c.p = f.policy.Load()
}

var (
	refuseOwner  = "nobody owns this task"
	refuseOld    = "the owner's generation is older than the one asked for"
	refuseAway   = "no worker of this function can be reached"
	refuseWeight = "no worker of this function has a weight"
)

// refuse is what a call is answered that is not tried, or no more.
func refuse(e outcome.End) *refusal {
	return &refusal{end: e, status: e.Status(), text: e.Text(), retryAfter: time.Second}
}

// admit applies the function's limits. It may wait in the function's queue.
func (c *call) admit(who caller) *refusal {
	p := c.p
	c.f.budget.Earn(p.RetryBudget)
	if p.Rate > 0 {
		if ok, wait := c.g.rates.Allow(c.caller^c.f.hash, p.Rate, p.Burst, c.begun); !ok {
			c.f.Refused.Add(1)
			r := refuse(outcome.ClientTooOften)
			r.retryAfter = wait
			return r
		}
	}
	if c.f.queue.Waiting() > 0 || !c.f.enter() {
		c.waited = true
		ok, full := c.f.queue.Wait(who.context(), p.QueueTimeout, p.Queue, c.f.enter)
		if !ok {
			return c.unavailable(full)
		}
	}
	c.entered = true
	return nil
}

// unavailable refuses a call that found its queue full, or waited for too long.
func (c *call) unavailable(full bool) *refusal {
	c.f.Refused.Add(1)
	if full {
		return refuse(outcome.GatewayFull)
	}
	return refuse(outcome.GatewayWaited)
}

// acquire reserves a place on a worker that the call has not been tried on. It
// may wait in the group's queue until one is free or ready.
func (c *call) acquire(who caller) (*upstream.Worker, *refusal) {
	if c.task != "" {
		return c.acquireOwner(who)
	}
	grp := c.f.group.Load()
	if grp.queue.Waiting() == 0 && c.try(grp, c.p.rule) {
		return c.w, nil
	}
	if r := c.hopeless(grp); r != nil {
		c.f.Refused.Add(1)
		return nil, r
	}
	c.waited = true
	left := c.p.QueueTimeout - time.Duration(c.g.now()-c.begun)
	if left <= 0 {
		return nil, c.unavailable(false)
	}
	var r *refusal
	again := func() bool {
		// What was not run on any worker may be tried on all of them again.
		if c.attempt > 0 && c.again {
			clear(c.bal.Tried[:])
		}
		if c.try(grp, c.p.rule) {
			return true
		}
		r = c.hopeless(grp)
		return r != nil
	}
	ok, full := grp.queue.Wait(who.context(), left, c.p.Queue, again)
	switch {
	case !ok:
		return nil, c.unavailable(full)
	case r != nil:
		c.f.Refused.Add(1)
		return nil, r
	}
	return c.w, nil
}

// hopeless says why no worker of the group will take the call, however long it
// waits; nil if one may.
func (c *call) hopeless(grp *group) *refusal {
	ws := grp.set.Workers()
	if len(ws) == 0 {
		return refuse(outcome.GatewayNoWorker)
	}
	_, weighed := c.p.rule.(balance.Random)
	waits := c.p.RestartWait > 0 && c.g.now()-c.begun < int64(c.p.RestartWait)
	weightless := false
	for _, b := range ws {
		switch w := upstream.Of(b); {
		case !c.again && slices.Contains(c.bal.Tried[:], b), w.IsAway() && !waits:
		case weighed && w.Weight.Load() == 0:
			weightless = true
		default:
			return nil
		}
	}
	switch {
	case !c.again:
		return refuse(outcome.GatewayNoWorker) // the last attempt answers for it
	case weightless:
		r := refuse(outcome.GatewayNoWorker)
		r.text = refuseWeight
		return r
	}
	r := refuse(outcome.WorkerUnreachable)
	r.status, r.text = 503, refuseAway
	return r
}

func (c *call) try(grp *group, rule balance.Rule) bool {
	c.bal.Fn = c.f.fn.Load()
	c.bal.Key = c.key
	c.bal.Rand = c.rnd.Next()
	if c.sent = c.begun; c.attempt > 0 || c.waited {
		c.sent = c.g.now()
	}
	c.bal.Now = c.sent
	c.w = upstream.Of(grp.set.Pick(rule, &c.bal, &c.pick))
	return c.w != nil
}

// acquireOwner reserves a place on the worker that owns the task.
func (c *call) acquireOwner(who caller) (*upstream.Worker, *refusal) {
	try := func() *refusal {
		var o Owner
		ok := false
		if m := c.st.cfg.Members; m != nil {
			o, ok = m.Owner(c.task)
		}
		if !ok {
			r := refuse(outcome.GatewayNoWorker)
			r.text = refuseOwner
			return r
		}
		if o.Generation < c.minGen {
			return &refusal{end: outcome.ClientRefused, status: 412, text: refuseOld}
		}
		c.bal.Owner, c.generation = o.Worker, o.Generation
		if !c.try(c.g.all, balance.Owner{}) {
			return refuse(outcome.GatewayWaited)
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
	ok, _ := c.g.all.queue.Wait(who.context(), left, c.p.Queue, func() bool {
		r = try()
		return r == nil || r.status != 503
	})
	if ok {
		return c.w, r
	}
	c.f.Refused.Add(1)
	return nil, r
}

// settled ends the attempt well: the worker has answered status.
func (c *call) settled(status int) {
	now := c.g.now()
	c.ended = now
	w := c.w
	w.Answered(status < 500)
	c.g.well(w, c.f)
	took := c.took
	if took == 0 {
		took = now - c.sent
	}
	c.pick.Done(now, took)
	c.released()
}

// failed ends the attempt that broke, by the worker's fault: ran says that it may
// have run the call. The verdict is whether to try another worker.
func (c *call) failed(e outcome.End, err error, ran bool) outcome.Verdict {
	w := c.w
	w.Broke(true)
	c.pick.Release()
	c.released()
	c.g.passive(w, c.f, e, err)
	if e == outcome.WorkerLate || e == outcome.WorkerStalled {
		return outcome.OutOfTime
	}
	return c.more(w, ran)
}

// dropped ends an attempt that the worker is not to blame for.
func (c *call) dropped() {
	c.pick.Release()
	c.released()
}

// refusedBy ends an attempt that the worker answered without having run it, or
// perhaps not. blame counts it against the worker.
func (c *call) refusedBy(blame bool, ran bool, why error) outcome.Verdict {
	w := c.w
	c.dropped()
	w.Broke(blame)
	if blame {
		c.g.passive(w, c.f, outcome.WorkerRefused, why)
	}
	return c.more(w, ran)
}

// more says whether the call is to be tried on another worker than this one, or why not.
func (c *call) more(w *upstream.Worker, ran bool) outcome.Verdict {
	switch {
	case ran && !c.idempotent:
		return outcome.NotRepeated
	case c.attempt+1 >= c.p.Attempts:
		return outcome.TriedEnough
	case ran && (c.p.RetryBudget < 0 || !c.f.budget.Spend()):
		return outcome.OverBudget
	}
	c.bal.Tried[min(c.attempt, len(c.bal.Tried)-1)] = w.Bal
	c.attempt++
	c.again = !ran
	c.f.Retries.Add(1)
	return outcome.Again
}

// released tells those who wait that a place is free.
func (c *call) released() {
	c.f.group.Load().queue.Wake()
	c.g.all.queue.Wake()
}

// leave gives back all places that the call has. It is safe to call twice.
func (c *call) leave() {
	if c.pick.Worker() != nil {
		c.dropped()
	}
	if c.entered {
		c.entered = false
		c.f.exit()
	}
}
