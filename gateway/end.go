package gateway

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/rota-project/rota/gateway/internal/wire"
)

// blame says whose fault it is that a call, or an attempt of it, did not go well.
type blame uint8

// Whose fault it can be.
const (
	noBlame blame = iota
	blameClient
	blameWorker
	blameGateway
)

func (b blame) String() string {
	return [...]string{"", "client", "worker", "gateway"}[min(b, blameGateway)]
}

// end is how a call, an attempt, or the body that a client sends, has ended. It
// alone decides what the client is answered, what counts against a worker, whether
// the call is tried again and what the log says.
type end uint8

// Ends. Those of a client's body are named by who reads it, and what breaks at the
// worker by who waits for the worker; the first to be noted counts.
const (
	notEnded end = iota
	endedWell

	clientMalformed // it broke a rule of HTTP
	clientLeft      // it closed its connection or reset its stream
	clientSlow      // its request stood still for too long
	clientDeaf      // it took nothing of the answer for too long
	clientTooLarge  // its request is larger than allowed
	clientRefused   // it asked for what is not there or not allowed
	clientTooOften  // it called more often than it may

	workerUnreachable // no connection to it could be made
	workerBroke       // it closed the connection before the answer was whole
	workerMalformed   // its answer breaks a rule of HTTP
	workerLate        // its answer took longer than allowed
	workerStalled     // its answer, or its reading, stood still for too long
	workerRefused     // it said that it did not run the call

	gatewayFull     // the queue is full
	gatewayWaited   // no worker became free in time
	gatewayNoWorker // there is no worker for the call
	gatewayAuth     // who was asked about the caller did not answer
	gatewayLoop     // the call has come back to the gateway
	gatewayFailed   // it could not answer for itself
	gatewayClosing  // the gateway shuts down
	endCount
)

// ends says of each what follows from it. The status is what the client is
// answered if it has no answer yet, and what counts for the call if it has: an
// answer that was cut is none.
var ends = [endCount]struct {
	name   string
	blame  blame
	status int
	text   string // for the client: nothing of the inside
}{
	notEnded:          {},
	endedWell:         {name: "ok"},
	clientMalformed:   {"client-malformed", blameClient, 400, "malformed request"},
	clientLeft:        {"client-left", blameClient, 499, ""},
	clientSlow:        {"client-slow", blameClient, 408, "the request took too long"},
	clientDeaf:        {"client-deaf", blameClient, 499, ""},
	clientTooLarge:    {"client-too-large", blameClient, 413, "the request is too large"},
	clientRefused:     {"client-refused", blameClient, 400, "bad request"},
	clientTooOften:    {"client-too-often", blameClient, 429, "too many calls"},
	workerUnreachable: {"worker-unreachable", blameWorker, 502, "the worker could not be reached"},
	workerBroke:       {"worker-broke", blameWorker, 502, "the worker broke off"},
	workerMalformed:   {"worker-malformed", blameWorker, 502, "the worker's answer is malformed"},
	workerLate:        {"worker-late", blameWorker, 504, "the worker took too long to answer"},
	workerStalled:     {"worker-stalled", blameWorker, 504, "the worker stood still for too long"},
	workerRefused:     {"worker-refused", blameWorker, 503, "the worker refused the call"},
	gatewayFull:       {"gateway-full", blameGateway, 503, "no worker is free and the queue is full"},
	gatewayWaited:     {"gateway-waited", blameGateway, 503, "no worker became free in time"},
	gatewayNoWorker:   {"gateway-no-worker", blameGateway, 503, "no worker"},
	gatewayAuth:       {"gateway-auth", blameGateway, 503, "whether this call may be made could not be found out"},
	gatewayLoop:       {"gateway-loop", blameGateway, 508, "the call has come back to the gateway"},
	gatewayFailed:     {"gateway-failed", blameGateway, 500, "the gateway failed"},
	gatewayClosing:    {"gateway-closing", blameGateway, 503, "the gateway shuts down"},
}

func (e end) String() string { return ends[min(e, endCount-1)].name }

// blame says whose fault the end was.
func (e end) blame() blame { return ends[min(e, endCount-1)].blame }

func (e end) status() int  { return ends[e].status }
func (e end) text() string { return ends[e].text }

// silent says that there is nobody to be answered.
func (e end) silent() bool { return e == clientLeft || e == clientDeaf || e == gatewayClosing }

// fault is the first end of a call that is somebody's fault, whoever has noted it.
type fault struct{ is atomic.Uint32 }

// note keeps the end if it is the first, and returns the one that counts.
func (f *fault) note(e end) end {
	if f.is.CompareAndSwap(uint32(notEnded), uint32(e)) {
		return e
	}
	return f.get()
}

func (f *fault) get() end { return end(f.is.Load()) }
func (f *fault) clear()   { f.is.Store(uint32(notEnded)) }

// bodyEnd is how a client's body has ended whose reading returned err.
func bodyEnd(err error) end {
	var we *wire.Error
	switch {
	case err == nil:
		return notEnded
	case errors.Is(err, io.EOF):
		return endedWell
	case errors.As(err, &we) && we.Status == 413:
		return clientTooLarge
	case errors.As(err, &we):
		return clientMalformed
	}
	return clientLeft
}

// workerEnd is how a worker's answer has ended whose reading returned err.
func workerEnd(err error) end {
	if errors.Is(err, errAnswer) {
		return workerMalformed
	}
	return workerBroke
}
