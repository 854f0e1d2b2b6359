package gateway

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/sock"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// upload is a client's body that flows to a worker while it comes. Whoever carries
// it reads it here, one at a time: it notes how the body has ended, and so whose
// fault that was, and keeps what was read for as long as that is little enough to be
// sent to another worker.
type upload struct {
	x       *exchange
	begun   bool
	keeps   bool        // kept is all that was read
	kept    []byte      // decoded
	at      int         // what of kept this attempt has read
	lines   []byte      // its trailers
	end     outcome.End // of the body
	why     error       // what is wrong with it, if the client has broken a rule
	cutting atomic.Bool
}

// errCut is that of a body which nobody wants the rest of.
var errCut = errors.New("the rest of the body is not wanted")

// begin makes the upload ready for an attempt.
func (up *upload) begin(x *exchange) {
	if !up.begun {
		up.x, up.begun, up.keeps = x, true, true
		x.client.open()
	}
	up.at = 0
	up.cutting.Store(false)
}

// clear makes the upload ready for another call.
func (up *upload) clear() {
	up.begun, up.keeps, up.kept, up.at, up.end, up.lines, up.why = false, false, nil, 0, outcome.NotEnded, nil, nil
	up.cutting.Store(false)
}

// read returns some of the body, or io.EOF at its end.
func (up *upload) read(p []byte) (n int, err error) {
	switch {
	case up.at < len(up.kept):
		n = copy(p, up.kept[up.at:])
		up.at += n
		if up.at < len(up.kept) || up.end == outcome.NotEnded {
			return n, nil
		}
		return n, up.err()
	case up.end != outcome.NotEnded:
		return 0, up.err()
	}
	x := up.x
	x.feed(outcome.OnClient)
	n, err = x.client.read(p)
	x.feed(outcome.OnWorker) // who has asked for it takes it
	x.rec.In += int64(n)
	if most := x.maxBody(); most > 0 && x.rec.In > most {
		n, err = 0, errBodyTooLarge
	}
	if up.keeps && n > 0 {
		if len(up.kept)+n > x.call.st.cfg.Limits.ReplayBytes {
			up.keeps, up.kept, up.at = false, nil, 0
		} else {
			up.kept = append(up.kept, p[:n]...)
			up.at = len(up.kept)
		}
	}
	if err == nil {
		return n, nil
	}
	e := outcome.BodyEnd(err)
	if e == outcome.ClientLeft && up.cutting.Load() && x.fault.Get() == outcome.NotEnded {
		return n, errCut
	}
	if e == outcome.EndedWell {
		up.lines = x.client.trailer()
	} else if up.why = err; e != x.fault.Note(e) {
		e = x.fault.Get()
	}
	up.end = e
	return n, err
}

func (up *upload) err() error {
	if up.end == outcome.EndedWell {
		return io.EOF
	}
	return errClient
}

// cut makes a read that waits return: nobody wants the rest.
func (up *upload) cut() {
	up.cutting.Store(true)
	up.x.client.cut()
}

// gather reads the rest of the body, for another worker, if all of it can be kept.
// It reports whether it is.
func (up *upload) gather() bool {
	if up.end == outcome.NotEnded && up.keeps {
		if up.cutting.Load() && !up.x.client.resume() {
			return false
		}
		up.cutting.Store(false)
		bp := sock.GetPiece()
		defer sock.PutPiece(bp)
		for up.keeps && up.end == outcome.NotEnded {
			up.at = len(up.kept)
			_, _ = up.read(*bp) // how it ends is noted
		}
		up.x.moving.Up.Store(outcome.OnNobody)
	}
	return up.keeps && up.end == outcome.EndedWell
}

// close ends the reading of the client's body, when the call is over.
func (up *upload) close() {
	if up.begun {
		up.x.client.closed(up.end == outcome.EndedWell)
		if up.end != outcome.EndedWell {
			up.x.req.Close = true
		}
	}
}

// appendBody appends a body that is here in full, with the framing of HTTP/1.
func (x *exchange) appendBody(b []byte) []byte {
	up := &x.upload
	switch {
	case !up.begun:
		return x.client.appendKept(b)
	case !x.req.Chunked:
		return append(b, up.kept...)
	}
	return wire.AppendLast(wire.AppendChunk(b, up.kept), up.lines)
}
