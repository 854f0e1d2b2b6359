package gateway

import "go.opentelemetry.io/otel/trace"

// maxAttempts is the most workers that one call is tried on.
const maxAttempts = 5

// record is what is known of a call when it is over. The access log, the metrics
// and the failures that are kept are made from it.
type record struct {
	begun    int64 // by the gateway's clock, as all times here
	ended    int64
	answered int  // the status that the client was sent, 0 if none
	own      bool // the answer is the gateway's
	end      end
	err      error // what the end is about, if anybody knows
	in, out  int64 // bytes of the bodies: from the client, to the client
	fn       string
	key      string  // the name of the API key that was shown
	worker   *worker // the last that was tried
	// tries are the last attempts, n of them, and all is how many there were. The one
	// under way is the last.
	tries  [maxAttempts + 1]try
	n, all int
	logged bool      // by the access log
	id     requestID // of a call that is logged, or failed, and came without one
	trace  traceID   // of a call that has begun one here
}

// try is one attempt of a call.
type try struct {
	w            *worker
	begun, ended int64
	sent, read   int64 // bytes to the worker, and from it before the attempt ended
	status       int   // that it answered, 0 if it did not
	reused       bool  // the connection had carried calls before
	end          end
	verdict      verdict
	err          error
	span         trace.Span // nil if none is recorded
}

// verdict is what came of an attempt.
type verdict uint8

const (
	undecided   verdict = iota
	answered            // the client got the worker's answer, or as much as there was
	again               // another attempt was made
	overtaken           // a second worker, asked because this one was slow, was quicker
	notRepeated         // the call may have run, and what may not run twice is not tried again
	overBudget          // the call may have run, and no more calls may be repeated now
	triedEnough         // it was the last attempt that the call may have
	outOfTime           // there was no time for another
	nobodyLeft          // there was no other worker to try
	needless            // the call was over: its client, or the gateway, has ended it
	verdictCount
)

func (v verdict) String() string {
	return [verdictCount]string{
		answered: "answered", again: "tried again", overtaken: "overtaken", notRepeated: "may have run", overBudget: "retry budget spent",
		triedEnough: "last attempt", outOfTime: "out of time", nobodyLeft: "no other worker", needless: "call was over",
	}[min(v, verdictCount-1)]
}

// requestID is what the lines of a call in the logs of all who had it share, and
// traceID is what its parts in a trace share.
type (
	requestID [32]byte
	traceID   [32]byte
)

// invent makes an id.
func invent(id *[32]byte, c *call) {
	for i := 0; i < len(id); i += 16 {
		appendHex(id[i:i:i+16], c.random())
	}
}

// appendHex appends a number in 16 digits.
func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for s := 60; s >= 0; s -= 4 {
		b = append(b, digits[v>>s&15])
	}
	return b
}

// identify gives the call an id, if it has none.
func (r *record) identify(c *call) {
	if r.id[0] == 0 {
		invent((*[32]byte)(&r.id), c)
	}
}

func (r *record) begin(now int64) {
	n := r.n
	clear(r.tries[:n])
	r.begun, r.ended, r.answered, r.own, r.end, r.err, r.in, r.out = now, 0, 0, false, notEnded, nil, 0, 0
	r.fn, r.key, r.worker, r.n, r.all, r.logged = "", "", nil, 0, 0, false
	r.id[0], r.trace[0] = 0, 0
}

// try begins an attempt.
func (r *record) try(w *worker, now int64) {
	r.worker = w
	if r.n == len(r.tries) { // who waited may be tried again and again
		r.n = copy(r.tries[:], r.tries[1:])
	}
	r.tries[r.n] = try{w: w, begun: now}
	r.n++
	r.all++
}

// last is the attempt that is under way, or was last.
func (r *record) last() *try {
	if r.n == 0 {
		return &try{}
	}
	return &r.tries[r.n-1]
}

// hedged notes that the last two attempts were made at once, and which of them counts:
// that one is the last from here on.
func (r *record) hedged(now int64, first bool) {
	one, two := &r.tries[r.n-2], &r.tries[r.n-1]
	if first {
		*one, *two = *two, *one
	}
	if r.worker = two.w; one.verdict == undecided {
		one.ended, one.verdict = now, overtaken
	}
	two.sent, two.read, two.end, two.err, two.verdict = 0, 0, notEnded, nil, undecided // that is yet to be found out
}

// status is what counts for the call: what the client was answered, unless that was
// a worker's answer that was cut.
func (r *record) status() int {
	if s := r.end.status(); s != 0 && !r.own {
		return s
	}
	return r.answered
}

// failed says whether the call has failed: by a worker's or the gateway's fault, or with
// a worker's answer that says as much: that it has not run the call, or 502 to 504. What
// clients do is no failure, and other answers are the function's own.
func (r *record) failed() bool {
	switch r.end.blame() {
	case blameWorker, blameGateway:
		return true
	case blameClient:
		return false
	}
	s := r.answered
	return s >= 502 && s <= 504 || s >= 500 && r.last().end == workerRefused
}
