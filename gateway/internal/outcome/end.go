package outcome

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// Blame says whose fault it is that a call, or an attempt of it, did not go well.
type Blame uint8

// Whose fault it can be.
const (
	NoBlame Blame = iota
	BlameClient
	BlameWorker
	BlameGateway
)

func (b Blame) String() string {
	return [...]string{"", "client", "worker", "gateway"}[min(b, BlameGateway)]
}

// End is how a call, an attempt, or the body that a client sends, has ended. It
// alone decides what the client is answered, what counts against a worker, whether
// the call is tried again and what the log says.
type End uint8

// Ends. Those of a client's body are named by who reads it, and what breaks at the
// worker by who waits for the worker; the first to be noted counts.
const (
	NotEnded End = iota
	EndedWell

	ClientMalformed // it broke a rule of HTTP
	ClientLeft      // it closed its connection or reset its stream
	ClientSlow      // its request stood still for too long
	ClientDeaf      // it took nothing of the answer for too long
	ClientTooLarge  // its request is larger than allowed
	ClientRefused   // it asked for what is not there or not allowed
	ClientTooOften  // it called more often than it may

	WorkerUnreachable // no connection to it could be made
	WorkerBroke       // it closed the connection before the answer was whole
	WorkerMalformed   // its answer breaks a rule of HTTP
	WorkerLate        // its answer took longer than allowed
	WorkerStalled     // its answer, or its reading, stood still for too long
	WorkerRefused     // it said that it did not run the call

	GatewayFull     // the queue is full
	GatewayWaited   // no worker became free in time
	GatewayNoWorker // there is no worker for the call
	GatewayAuth     // who was asked about the caller did not answer
	GatewayLoop     // the call has come back to the gateway
	GatewayFailed   // it could not answer for itself
	GatewayClosing  // the gateway shuts down
	EndCount
)

// ends says of each what follows from it. The status is what the client is
// answered if it has no answer yet, and what counts for the call if it has: an
// answer that was cut is none.
var ends = [EndCount]struct {
	name   string
	blame  Blame
	status int
	text   string // for the client: nothing of the inside
}{
	NotEnded:          {},
	EndedWell:         {name: "ok"},
	ClientMalformed:   {"client-malformed", BlameClient, 400, "malformed request"},
	ClientLeft:        {"client-left", BlameClient, 499, ""},
	ClientSlow:        {"client-slow", BlameClient, 408, "the request took too long"},
	ClientDeaf:        {"client-deaf", BlameClient, 499, ""},
	ClientTooLarge:    {"client-too-large", BlameClient, 413, "the request is too large"},
	ClientRefused:     {"client-refused", BlameClient, 400, "bad request"},
	ClientTooOften:    {"client-too-often", BlameClient, 429, "too many calls"},
	WorkerUnreachable: {"worker-unreachable", BlameWorker, 502, "the worker could not be reached"},
	WorkerBroke:       {"worker-broke", BlameWorker, 502, "the worker broke off"},
	WorkerMalformed:   {"worker-malformed", BlameWorker, 502, "the worker's answer is malformed"},
	WorkerLate:        {"worker-late", BlameWorker, 504, "the worker took too long to answer"},
	WorkerStalled:     {"worker-stalled", BlameWorker, 504, "the worker stood still for too long"},
	WorkerRefused:     {"worker-refused", BlameWorker, 503, "the worker refused the call"},
	GatewayFull:       {"gateway-full", BlameGateway, 503, "no worker is free and the queue is full"},
	GatewayWaited:     {"gateway-waited", BlameGateway, 503, "no worker became free in time"},
	GatewayNoWorker:   {"gateway-no-worker", BlameGateway, 503, "no worker"},
	GatewayAuth:       {"gateway-auth", BlameGateway, 503, "whether this call may be made could not be found out"},
	GatewayLoop:       {"gateway-loop", BlameGateway, 508, "the call has come back to the gateway"},
	GatewayFailed:     {"gateway-failed", BlameGateway, 500, "the gateway failed"},
	GatewayClosing:    {"gateway-closing", BlameGateway, 503, "the gateway shuts down"},
}

func (e End) String() string { return ends[min(e, EndCount-1)].name }

// Blame says whose fault the end was.
func (e End) Blame() Blame { return ends[min(e, EndCount-1)].blame }

// Status is what the client is answered.
func (e End) Status() int { return ends[e].status }

// Text is what the client is told, in a line.
func (e End) Text() string { return ends[e].text }

// Silent says that there is nobody to be answered.
func (e End) Silent() bool { return e == ClientLeft || e == ClientDeaf || e == GatewayClosing }

// Fault is the first end of a call that is somebody's fault, whoever has noted it.
type Fault struct{ is atomic.Uint32 }

// Note keeps the end if it is the first, and returns the one that counts.
func (f *Fault) Note(e End) End {
	if f.is.CompareAndSwap(uint32(NotEnded), uint32(e)) {
		return e
	}
	return f.Get()
}

// Get is the end that counts, NotEnded if none was noted.
func (f *Fault) Get() End { return End(f.is.Load()) }

// Clear makes the fault that of another call.
func (f *Fault) Clear() { f.is.Store(uint32(NotEnded)) }

// BodyEnd is how a client's body has ended whose reading returned err.
func BodyEnd(err error) End {
	var we *wire.Error
	switch {
	case err == nil:
		return NotEnded
	case errors.Is(err, io.EOF):
		return EndedWell
	case errors.As(err, &we) && we.Status == 413:
		return ClientTooLarge
	case errors.As(err, &we):
		return ClientMalformed
	}
	return ClientLeft
}

// ErrAnswer is that of an answer that breaks a rule of HTTP.
var ErrAnswer = errors.New("the worker's answer is malformed")

// WorkerEnd is how a worker's answer has ended whose reading returned err.
func WorkerEnd(err error) End {
	if errors.Is(err, ErrAnswer) {
		return WorkerMalformed
	}
	return WorkerBroke
}
