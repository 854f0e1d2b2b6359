package gateway

import (
	"bytes"
	"net"
	"sync"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/sock"
	"github.com/rota-project/rota/gateway/internal/upstream"
)

// upgrade implements client. A reload does not touch what it carries.
func (c *conn) upgrade(u *upstream.Conn, n int) {
	b := c.appendResponse(c.bufs.out[:0])
	b = append(b, "Connection: Upgrade\r\n\r\n"...)
	b = append(b, c.bufs.up[c.respHead:n]...)
	b = append([]byte(nil), b...)
	c.rec.Out += int64(n - c.respHead)
	early := append([]byte(nil), c.bufs.in[c.r:c.w]...)
	c.r, c.w = 0, 0
	c.keepHead()
	c.release()
	c.phase.Store(phaseFree)
	c.tunnel(c.NC, u, b, early)
}

// keepHead makes the request's head, which the log tells of, independent of buffers.
func (x *exchange) keepHead() {
	r := &x.req
	r.Method, r.Target, r.Host = bytes.Clone(r.Method), bytes.Clone(r.Target), bytes.Clone(r.Host)
	for i := range r.Fields {
		f := &r.Fields[i]
		f.Name, f.Value = bytes.Clone(f.Name), bytes.Clone(f.Value)
	}
}

// tunnel carries bytes between a client and a worker that have switched
// protocols until both directions have ended. head is the answer that says so,
// early what the client has sent already.
func (x *exchange) tunnel(nc net.Conn, u *upstream.Conn, head, early []byte) {
	x.deadline.Store(0)
	counted := x.rec.Out // with the answer's head
	// From here on both connections are cut off together.
	both := &upstream.Conn{Cancel: func(error) {
		_ = u.NC.SetDeadline(sock.LongAgo)
		_ = nc.SetDeadline(sock.LongAgo)
	}}
	if !x.watch.CompareAndSwap(u, both) {
		both.Cancel(nil) // the call was cut off meanwhile
	}
	x.touch(outcome.OnClient)
	_, err := nc.Write(head)
	if err == nil {
		var up sync.WaitGroup
		up.Go(func() {
			way := oneWay{from: nc, to: u.NC, bytes: &x.rec.In, waits: x.feed, sender: outcome.OnClient, taker: outcome.OnWorker}
			way.carry(early)
		})
		way := oneWay{from: u.NC, to: nc, bytes: &x.rec.Out, waits: x.touch, sender: outcome.OnWorker, taker: outcome.OnClient}
		way.carry(nil)
		up.Wait()
	}
	x.detach(both)
	u.Close()
	_ = nc.Close()
	x.rec.Last().Sent += x.rec.In
	x.rec.Last().Read += x.rec.Out - counted
	if err != nil || x.fault.Get() != outcome.NotEnded {
		x.settle(errClient)
		return
	}
	x.settle(nil)
}

// lostUpgrade ends a call whose client has gone before it could be told of the
// switch.
func (x *exchange) lostUpgrade(u *upstream.Conn) {
	x.detach(u)
	u.Close()
	x.settle(errClient)
}

// oneWay is one direction of a tunnel.
type oneWay struct {
	from, to      net.Conn
	bytes         *int64 // that were carried
	waits         func(side uint32)
	sender, taker uint32
}

// carry carries early, then what comes, to the end, and passes the end on. If it
// cannot, the other direction is cut off too.
func (w *oneWay) carry(early []byte) {
	defer w.waits(outcome.OnNobody)
	if w.all(early) == nil {
		if half, ok := w.to.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			return
		}
	}
	_ = w.from.SetDeadline(sock.LongAgo)
	_ = w.to.SetDeadline(sock.LongAgo)
}

func (w *oneWay) all(early []byte) error {
	if len(early) > 0 {
		if err := w.write(early); err != nil {
			return err
		}
	}
	var from sock.Sock
	from.Init(w.from)
	w.waits(w.sender)
	return from.Each(func(p []byte) error {
		err := w.write(p)
		w.waits(w.sender)
		return err
	})
}

func (w *oneWay) write(p []byte) error {
	w.waits(w.taker)
	n, err := w.to.Write(p)
	*w.bytes += int64(n)
	return err
}
