package gateway

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/sock"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// pump carries a request's body to the worker while the answer is awaited, in a
// goroutine of its own: an answer may come before the body has ended.
type pump struct {
	done  chan struct{}
	over  atomic.Bool
	clean bool // the body went through whole; valid after done
	sent  int64
}

// startPump begins to carry the body of req to u.
func (x *exchange) startPump(u *upstream.Conn) *pump {
	p := &pump{done: make(chan struct{})}
	x.upload.begin(x)
	// It writes with a sock of its own: the connection's is the answer's.
	to := &sock.Sock{}
	to.Init(u.NC)
	go func() {
		defer close(p.done)
		defer p.over.Store(true) // after it, clean may be read
		p.clean = p.carry(x, to)
		x.moving.Up.Store(outcome.OnNobody)
		if x.upload.end.Blame() != outcome.NoBlame {
			x.cutWorker() // it waits for what will not come
		}
	}()
	return p
}

// carry reports whether the body went through whole.
func (p *pump) carry(x *exchange, to *sock.Sock) bool {
	bp := sock.GetPiece()
	op := sock.GetPiece()
	defer sock.PutPiece(bp)
	defer sock.PutPiece(op)
	for {
		n, err := x.upload.read(*bp)
		out := (*bp)[:n]
		if x.req.Chunked {
			out = wire.AppendChunk((*op)[:0], out)
			if errors.Is(err, io.EOF) {
				out = wire.AppendLast(out, x.client.trailer())
			}
		}
		if len(out) > 0 {
			x.feed(outcome.OnWorker)
			n, werr := to.Write(out)
			if p.sent += int64(n); werr != nil {
				return false
			}
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

// endsWithin waits for the pump's end at most for a time, and says whether the body went
// through whole.
func (p *pump) endsWithin(d time.Duration) bool {
	if !p.over.Load() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-p.done:
		case <-t.C:
			return false
		}
	}
	return p.clean
}

// stop ends the pump if it is not at its end and waits for its goroutine.
func (p *pump) stop(x *exchange, u *upstream.Conn) {
	if p == nil {
		return
	}
	if !p.over.Load() {
		x.upload.cut()
		_ = u.NC.SetWriteDeadline(sock.LongAgo)
	}
	<-p.done
	_ = u.NC.SetWriteDeadline(time.Time{})
	x.rec.Last().Sent += p.sent
	p.sent = 0
}
