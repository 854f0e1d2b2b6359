// Package outcome has what is known of calls and their attempts: the Record of a call, from
// which the log, the metrics, the traces and the failures that are kept are made; how each
// ended, whose fault that was and what came of it; and who holds up a body that stands still.
// The gateway fills it in. It must never decide where a call goes.
package outcome

import (
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
)

// maxAttempts is the most workers that one call is tried on.
const maxAttempts = 5

// Record is what is known of a call when it is over. The access log, the metrics
// and the failures that are kept are made from it.
type Record struct {
	Begun    int64 // by the gateway's clock, as all times here
	Ended    int64
	Answered int  // the status that the client was sent, 0 if none
	Own      bool // the answer is the gateway's
	End      End
	Err      error // what the end is about, if anybody knows
	In, Out  int64 // bytes of the bodies: from the client, to the client
	Function string
	Key      string // the name of the API key that was shown
	Worker   string // the last that was tried, empty if none was
	// tries are the last attempts, n of them, and all is how many there were. The one
	// under way is the last.
	tries  [maxAttempts + 1]Try
	n, All int
	Logged bool     // by the access log
	ID     [32]byte // of a call that is logged, or failed, and came without one
	Trace  [32]byte // of a call that has begun one here
}

// Try is one attempt of a call.
type Try struct {
	Worker       string
	Begun, Ended int64
	Sent, Read   int64 // bytes to the worker, and from it before the attempt ended
	Status       int   // that it answered, 0 if it did not
	Reused       bool  // the connection had carried calls before
	End          End
	Verdict      Verdict
	Err          error
	Span         trace.Span // nil if none is recorded
}

// Verdict is what came of an attempt.
type Verdict uint8

// What can come of it.
const (
	Undecided   Verdict = iota
	Answered            // the client got the worker's answer, or as much as there was
	Again               // another attempt was made
	Overtaken           // a second worker, asked because this one was slow, was quicker
	NotRepeated         // the call may have run, and what may not run twice is not tried again
	OverBudget          // the call may have run, and no more calls may be repeated now
	TriedEnough         // it was the last attempt that the call may have
	OutOfTime           // there was no time for another
	NobodyLeft          // there was no other worker to try
	Needless            // the call was over: its client, or the gateway, has ended it
	VerdictCount
)

func (v Verdict) String() string {
	return [VerdictCount]string{
		Answered: "answered", Again: "tried again", Overtaken: "overtaken", NotRepeated: "may have run", OverBudget: "retry budget spent",
		TriedEnough: "last attempt", OutOfTime: "out of time", NobodyLeft: "no other worker", Needless: "call was over",
	}[min(v, VerdictCount-1)]
}

// Random makes numbers that no two calls share. 0 has not begun.
type Random uint64

// Next is a splitmix64 step.
func (r *Random) Next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// invent makes an id.
func invent(id *[32]byte, from *Random) {
	for i := 0; i < len(id); i += 16 {
		appendHex(id[i:i:i+16], from.Next())
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

// Identify gives the call an id, if it has none: what its lines in the logs of all who had
// it share.
func (r *Record) Identify(from *Random) {
	if r.ID[0] == 0 {
		invent(&r.ID, from)
	}
}

// AppendTrace appends a W3C parent of a trace that begins here: of all attempts the same.
func (r *Record) AppendTrace(b []byte, from *Random) []byte {
	if r.Trace[0] == 0 {
		invent(&r.Trace, from)
	}
	b = append(append(b, "00-"...), r.Trace[:]...)
	return append(appendHex(append(b, '-'), from.Next()|1), "-01"...)
}

// Begin makes the record that of a new call.
func (r *Record) Begin(now int64) {
	n := r.n
	clear(r.tries[:n])
	r.Begun, r.Ended, r.Answered, r.Own, r.End, r.Err, r.In, r.Out = now, 0, 0, false, NotEnded, nil, 0, 0
	r.Function, r.Key, r.Worker, r.n, r.All, r.Logged = "", "", "", 0, 0, false
	r.ID[0], r.Trace[0] = 0, 0
}

// Try begins an attempt. base is when the gateway's clock began.
func (r *Record) Try(worker string, now int64, base time.Time) {
	r.Worker = worker
	if r.n == len(r.tries) { // who waited may be tried again and again
		r.tries[0].endSpan(base, r)
		r.n = copy(r.tries[:], r.tries[1:])
	}
	r.tries[r.n] = Try{Worker: worker, Begun: now}
	r.n++
	r.All++
}

// Tried are the attempts that are kept.
func (r *Record) Tried() []Try { return r.tries[:r.n] }

// Last is the attempt that is under way, or was last.
func (r *Record) Last() *Try {
	if r.n == 0 {
		return &Try{}
	}
	return &r.tries[r.n-1]
}

// BrokeOff notes that one of two attempts that are made at once, the first or the
// second, has ended without an answer.
func (r *Record) BrokeOff(now int64, first bool, sent, read int, err error) {
	t := &r.tries[r.n-1]
	if first {
		t = &r.tries[r.n-2]
	}
	t.Ended, t.Sent, t.Read, t.End, t.Err, t.Verdict = now, int64(sent), int64(read), WorkerEnd(err), err, Again
}

// Hedged notes that the last two attempts were made at once, and which of them counts:
// that one is the last from here on.
func (r *Record) Hedged(now int64, first bool) {
	one, two := &r.tries[r.n-2], &r.tries[r.n-1]
	if first {
		*one, *two = *two, *one
	}
	if r.Worker = two.Worker; one.Verdict == Undecided {
		one.Ended, one.Verdict = now, Overtaken
	}
	two.Sent, two.Read, two.End, two.Err, two.Verdict = 0, 0, NotEnded, nil, Undecided // that is yet to be found out
}

// Status is what counts for the call: what the client was answered, unless that was
// a worker's answer that was cut.
func (r *Record) Status() int {
	if s := r.End.Status(); s != 0 && !r.Own {
		return s
	}
	return r.Answered
}

// Failed says whether the call has failed: by a worker's or the gateway's fault, or with
// a worker's answer that says as much: that it has not run the call, or 502 to 504. What
// clients do is no failure, and other answers are the function's own.
func (r *Record) Failed() bool {
	switch r.End.Blame() {
	case BlameWorker, BlameGateway:
		return true
	case BlameClient:
		return false
	}
	s := r.Answered
	return s >= 502 && s <= 504 || s >= 500 && r.Last().End == WorkerRefused
}

// EndSpans ends the spans of all attempts.
func (r *Record) EndSpans(base time.Time) {
	for i := range r.Tried() {
		r.tries[i].endSpan(base, r)
	}
}

// endSpan ends the attempt's span with what came of it.
func (t *Try) endSpan(base time.Time, r *Record) {
	if t.Span == nil {
		return
	}
	t.Span.SetAttributes(attribute.String("rota.verdict", t.Verdict.String()))
	if t.Status != 0 {
		t.Span.SetAttributes(semconv.HTTPResponseStatusCode(t.Status))
	}
	switch {
	case t.End.Blame() != NoBlame:
		t.Span.SetAttributes(semconv.ErrorTypeKey.String(t.End.String()))
		t.Span.SetStatus(codes.Error, Line(t.Err))
	case t.Status >= 400:
		t.Span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(t.Status)))
		t.Span.SetStatus(codes.Error, "")
	}
	ended := t.Ended
	if ended == 0 {
		ended = r.Ended
	}
	t.Span.End(trace.WithTimestamp(base.Add(time.Duration(max(ended, t.Begun)))))
	t.Span = nil
}
