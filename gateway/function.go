package gateway

import (
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/limit"
	"github.com/rota-project/rota/gateway/internal/meter"
	"github.com/rota-project/rota/gateway/internal/outcome"
)

// function is a function as the gateway runs it: it keeps its counts when
// configurations change.
type function struct {
	name string
	hash uint64
	// known says that it is listed or offered, as opposed to called by a name that
	// came along; labelled that such a one has a label of its own in metrics.
	known, labelled atomic.Bool
	before          meter.Tally // what it had counted when it got it: others' still

	fn     atomic.Pointer[balance.Fn]
	policy atomic.Pointer[policy]
	group  atomic.Pointer[group]
	ailing ailing
	// members are all workers that may run it, everywhere says that those are the ones
	// that offer all functions; guarded by the gateway's lock.
	members    []balance.Member
	everywhere bool

	split splitter

	inflight atomic.Int64
	queue    limit.Queue
	budget   limit.Budget

	failures     failures // that were a worker's or the gateway's fault
	clientFaults failures // that were a client's
	ownErrors    failures // that it has itself answered with 500 or above
	meter.Counts
}

// policy is a Policy with what is made from it.
type policy struct {
	Policy
	rule  balance.Rule
	rules *rules
}

func newPolicy(p Policy) *policy {
	if p.Picker != nil {
		return &policy{Policy: p, rule: balance.Custom{Picker: p.Picker}, rules: p.Rules.compile()}
	}
	rule, err := balance.RuleByName(p.Balancer, p.LoadThreshold)
	if err != nil {
		rule = balance.Smart{} // normalize has refused it before
	}
	return &policy{Policy: p, rule: rule, rules: p.Rules.compile()}
}

// group is a set of workers that offer the same functions, and the calls that
// wait for one of them.
type group struct {
	set   balance.Set
	queue limit.Queue
}

// enter takes one of the function's places.
func (f *function) enter() bool {
	limit := int64(f.policy.Load().MaxInFlight)
	for {
		n := f.inflight.Load()
		if limit > 0 && n >= limit {
			return false
		}
		if f.inflight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// count counts a call that is over.
func (f *function) count(g *Gateway, r *outcome.Record) {
	if r.End == outcome.EndedWell && r.Answered < 400 && !f.known.Load() && !f.labelled.Load() {
		g.label(f)
	}
	f.Ended(r.Status(), time.Duration(r.Ended-r.Begun))
}

func (f *function) exit() {
	f.inflight.Add(-1)
	f.queue.Wake()
}
