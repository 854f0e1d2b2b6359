package gateway

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
)

// Attempt is one try of a call on a worker.
type Attempt struct {
	Worker string `json:"worker"`
	// AfterMS is how long after the call's beginning the attempt began.
	AfterMS float64 `json:"after_ms"`
	TookMS  float64 `json:"took_ms"`
	// Sent and Read are bytes to the worker and from it; of a worker that is called
	// over HTTP/2 and of an attempt that was overtaken what is known of them.
	Sent int64 `json:"sent"`
	Read int64 `json:"read"`
	// Reused says that the connection had carried calls before.
	Reused bool `json:"reused,omitempty"`
	// Status is what it answered, 0 if it did not.
	Status int `json:"status,omitempty"`
	// Cause is how the attempt ended and Blame whose fault that was: "client",
	// "worker" or "gateway"; nobody's if it went well.
	Cause string `json:"cause"`
	Blame string `json:"blame,omitempty"`
	// Verdict is what came of it: "answered", "tried again", "overtaken", or why there
	// was no other attempt: "may have run", "retry budget spent", "last attempt", "out
	// of time", "no other worker", "call was over".
	Verdict string `json:"verdict"`
	Error   string `json:"error,omitempty"`
}

// Failure is a call that did not go well.
type Failure struct {
	// ID is the X-Request-Id of the call, or the one that it was given.
	ID       string    `json:"id"`
	Time     time.Time `json:"time"`
	TookMS   float64   `json:"took_ms"`
	Function string    `json:"function,omitempty"`
	Client   string    `json:"client"`
	Method   string    `json:"method"`
	Target   string    `json:"target"`
	// Status is what counts for the call: what the client was answered, or would
	// have been if it had waited, or if the answer had not begun.
	Status   int       `json:"status"`
	Cause    string    `json:"cause"`
	Blame    string    `json:"blame,omitempty"`
	Trace    string    `json:"trace,omitempty"`
	Error    string    `json:"error,omitempty"`
	Attempts []Attempt `json:"attempts,omitempty"`
}

// failures are the last calls that did not go well, a bounded number of them.
type failures struct {
	mu   sync.Mutex
	ring []*Failure
	next int
}

const (
	// keptFailures is how many failures the gateway keeps, whatever they are of.
	keptFailures = 1000
	// keptOfFunction is how many a function keeps, whatever others do; as many again
	// that are the clients' fault, and that it has itself answered so. None of them can
	// push out the others.
	keptOfFunction = 8
)

func (f *failures) add(one *Failure, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ring) < most {
		f.ring = append(f.ring, one)
		return
	}
	f.ring[f.next] = one
	f.next = (f.next + 1) % most
}

// into adds the failures to a set.
func (f *failures) into(set map[*Failure]struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.ring {
		set[one] = struct{}{}
	}
}

// sorted is a set of failures, the last first.
func sorted(set map[*Failure]struct{}) []Failure {
	out := make([]Failure, 0, len(set))
	for one := range set {
		out = append(out, *one)
	}
	slices.SortFunc(out, func(a, b Failure) int { return cmp.Or(b.Time.Compare(a.Time), strings.Compare(a.ID, b.ID)) })
	return out
}

// recent is what the function keeps of calls that did not go well, the last first.
func (f *function) recent() []Failure {
	set := map[*Failure]struct{}{}
	f.keptInto(set)
	return sorted(set)
}

// keptInto adds what the function keeps to a set.
func (f *function) keptInto(set map[*Failure]struct{}) {
	f.failures.into(set)
	f.clientFaults.into(set)
	f.ownErrors.into(set)
}

// Failures are the calls that did not go well and are still kept, the last first: of
// that function and with that id, where those are not empty. The last thousand that
// were a worker's or the gateway's fault are kept, and of each function the last eight
// of those, the last eight that were a client's, and the last eight that the function
// itself answered with 500 or above.
func (g *Gateway) Failures(of, id string) []Failure {
	set := map[*Failure]struct{}{}
	g.failures.into(set)
	for _, f := range g.state.Load().fns {
		f.keptInto(set)
	}
	for _, f := range []*function{g.other, g.tasks} {
		f.keptInto(set)
	}
	for one := range set {
		if of != "" && one.Function != of || id != "" && one.ID != outcome.Shown(id) {
			delete(set, one)
		}
	}
	return sorted(set)
}

// keep keeps a call that did not go well for those who ask how calls fail.
func (g *Gateway) keep(x *exchange, failed bool) {
	f := x.call.f
	if f == nil && !failed {
		return
	}
	one := x.failure()
	if failed {
		g.failures.add(one, keptFailures)
	}
	switch {
	case f == nil:
	case failed:
		f.failures.add(one, keptOfFunction)
	case x.rec.End == outcome.EndedWell:
		f.ownErrors.add(one, keptOfFunction)
	default:
		f.clientFaults.add(one, keptOfFunction)
	}
}

// failure is what is kept of a call that did not go well.
func (x *exchange) failure() *Failure {
	r := &x.rec
	f := &Failure{
		ID: x.requestID(), Time: x.g.base.Add(time.Duration(r.Begun)), TookMS: millis(r.Ended - r.Begun), Function: r.Function, Client: x.clientAddr().String(),
		Method: outcome.Clip(string(x.req.Method)), Target: outcome.Clip(string(x.req.Target)), Status: r.Status(), Cause: r.End.String(), Blame: r.End.Blame().String(),
		Trace: x.traceID(), Error: outcome.Line(r.Err),
	}
	tried := r.Tried()
	for i := range tried {
		f.Attempts = append(f.Attempts, attempted(r, &tried[i]))
	}
	return f
}

// attempted is an attempt as those see it who ask.
func attempted(r *outcome.Record, t *outcome.Try) Attempt {
	return Attempt{
		Worker: t.Worker, AfterMS: millis(t.Begun - r.Begun), TookMS: millis(max(t.Ended, t.Begun) - t.Begun), Sent: t.Sent, Read: t.Read, Reused: t.Reused,
		Status: t.Status, Cause: t.End.String(), Blame: t.End.Blame().String(), Verdict: t.Verdict.String(), Error: outcome.Line(t.Err),
	}
}

func millis(ns int64) float64 { return float64(ns/1000) / 1000 }
