package gateway

import (
	"sync"
	"time"

	"github.com/rota-project/rota/internal/text"
)

// maxAttempts is the most workers that one call is tried on.
const maxAttempts = 5

// record is what is known of a call when it is over. The access log, the metrics
// and the failures that routes show are made from it.
type record struct {
	begun    int64 // by the gateway's clock, as all times here
	ended    int64
	answered int  // the status that the client was sent, 0 if none
	own      bool // the answer is the gateway's
	end      end
	err      error // what the end is about, if anybody knows
	in, out  int64 // bytes of the bodies: from the client, to the client
	fn       string
	worker   *worker // the last that was tried
	tries    [maxAttempts]try
	n        int // of tries
	logged   bool
	id       requestID // of a call that is logged and came without one
}

// requestID is what the lines of a call in the logs of all who had it share.
type requestID [32]byte

// log has the call logged when it is over.
func (r *record) log(c *call) {
	const digits = "0123456789abcdef"
	r.logged = true
	for i := 0; i < len(r.id); i += 16 {
		v := c.random()
		for j := range 16 {
			r.id[i+j] = digits[v>>(4*j)&15]
		}
	}
}

// try is one attempt of a call.
type try struct {
	w            *worker
	begun, ended int64
	sent, read   int64 // bytes to the worker, and from it before the attempt ended
	status       int   // that it answered, 0 if it did not
	end          end
	err          error
}

func (r *record) begin(now int64) {
	n := r.n
	clear(r.tries[:n])
	r.begun, r.ended, r.answered, r.own, r.end, r.err, r.in, r.out = now, 0, 0, false, notEnded, nil, 0, 0
	r.fn, r.worker, r.n, r.logged = "", nil, 0, false
}

// try begins an attempt.
func (r *record) try(w *worker, now int64) {
	r.worker = w
	if r.n == len(r.tries) { // who waited may be tried again and again: the last counts
		r.n--
	}
	r.tries[r.n] = try{w: w, begun: now}
	r.n++
}

// last is the attempt that is under way, or was last.
func (r *record) last() *try {
	if r.n == 0 {
		return &try{}
	}
	return &r.tries[r.n-1]
}

// status is what counts for the call: what the client was answered, unless that was
// a worker's answer that was cut.
func (r *record) status() int {
	if s := r.end.status(); s != 0 && !r.own {
		return s
	}
	return r.answered
}

// Attempt is one try of a call on a worker.
type Attempt struct {
	Worker string  `json:"worker"`
	TookMS float64 `json:"took_ms"`
	// Sent and Read are bytes to the worker and from it.
	Sent int64 `json:"sent"`
	Read int64 `json:"read"`
	// Status is what it answered, 0 if it did not.
	Status int `json:"status,omitempty"`
	// Cause is how the attempt ended and Blame whose fault that was: "client",
	// "worker" or "gateway"; nobody's if it went well.
	Cause string `json:"cause"`
	Blame string `json:"blame,omitempty"`
	Error string `json:"error,omitempty"`
}

// Failure is a call that did not go well.
type Failure struct {
	Time   time.Time `json:"time"`
	TookMS float64   `json:"took_ms"`
	Method string    `json:"method"`
	Target string    `json:"target"`
	// Status is what counts for the call: what the client was answered, or would
	// have been if it had waited, or if the answer had not begun.
	Status   int       `json:"status"`
	Cause    string    `json:"cause"`
	Blame    string    `json:"blame"`
	Error    string    `json:"error,omitempty"`
	Attempts []Attempt `json:"attempts,omitempty"`
}

// failures are the last calls of a function that did not go well.
type failures struct {
	mu   sync.Mutex
	ring []Failure
	next int
}

const (
	// keptFailures is how many of them a function keeps.
	keptFailures = 8
	// keptText is how much is kept of a target or an error.
	keptText = 120
)

func (f *failures) add(one Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ring) < keptFailures {
		f.ring = append(f.ring, one)
		return
	}
	f.ring[f.next] = one
	f.next = (f.next + 1) % keptFailures
}

// list is the failures, the last first.
func (f *failures) list() []Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Failure, 0, len(f.ring))
	for i := range f.ring {
		out = append(out, f.ring[(f.next+len(f.ring)-1-i)%len(f.ring)])
	}
	return out
}

func clip(s string) string { return text.Clip(s, keptText) }

func millis(ns int64) float64 { return float64(ns/1000) / 1000 }

// failure is what is kept of a call that did not go well.
func (x *exchange) failure() Failure {
	r := &x.rec
	f := Failure{
		Time: x.g.base.Add(time.Duration(r.begun)), TookMS: millis(r.ended - r.begun), Method: clip(string(x.req.Method)),
		Target: clip(string(x.req.Target)), Status: r.status(), Cause: r.end.String(), Blame: r.end.blame().String(), Error: errText(r.err),
	}
	for _, t := range r.tries[:r.n] {
		f.Attempts = append(f.Attempts, Attempt{
			Worker: t.w.name, TookMS: millis(max(t.ended, t.begun) - t.begun), Sent: t.sent, Read: t.read, Status: t.status,
			Cause: t.end.String(), Blame: t.end.blame().String(), Error: errText(t.err),
		})
	}
	return f
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return firstLine(err.Error())
}
