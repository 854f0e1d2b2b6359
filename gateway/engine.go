package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/gateway/internal/body"
	"github.com/rota-project/rota/gateway/internal/h2"
	"github.com/rota-project/rota/gateway/internal/peer"
	"github.com/rota-project/rota/gateway/internal/sock"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// conn is one client connection, served by one goroutine. It speaks HTTP/1
// itself: then it is the client of one exchange after another. A connection that
// turns out to speak HTTP/2 goes on as a muxed.
type conn struct {
	exchange
	sock.Sock
	// raw is the connection as it was accepted, below TLS: what others than the
	// connection's own goroutine may touch.
	raw net.Conn
	mux atomic.Pointer[muxed] // it speaks HTTP/2

	r, w  int // what is unread in bufs.in
	kept  int // the size of a body that is kept, from r on
	rest  bodyRest
	flow  body.Flow // a body that is not kept
	chunk bool      // the answer is sent in chunks

	phase   atomic.Int32
	late    atomic.Bool // the request's head took too long
	born    int64
	carried int // calls
}

// Phases of a connection.
const (
	phaseIdle int32 = iota // between requests
	phaseHead              // a request has begun
	phaseBusy              // a call is on its way
	phaseFree              // upgraded: bytes go both ways
)

// buffers are what a request needs. They go back to the pool between requests.
type buffers struct {
	in  []byte // from the client
	up  []byte // from the worker
	out []byte // heads and small bodies to be written
}

const (
	inSize  = 16 << 10
	upSize  = 32 << 10
	outSize = 4 << 10
	// keepSize is the largest buffer that goes back to the pool.
	keepSize = 128 << 10
)

var bufferPool = sync.Pool{New: func() any {
	return &buffers{in: make([]byte, inSize), up: make([]byte, upSize), out: make([]byte, 0, outSize)}
}}

// Lend implements tcp.Lender.
func (c *conn) Lend() []byte {
	c.bufs = getBuffers()
	return c.bufs.in
}

// TakeBack implements tcp.Lender.
func (c *conn) TakeBack() { c.release() }

func getBuffers() *buffers {
	b, _ := bufferPool.Get().(*buffers) // it holds nothing else
	return b
}

func putBuffers(b *buffers) {
	if len(b.in) > keepSize || len(b.up) > keepSize || cap(b.out) > keepSize {
		return
	}
	b.out = b.out[:0]
	bufferPool.Put(b)
}

func newConn(g *Gateway, nc net.Conn) *conn {
	c := &conn{raw: nc}
	c.g, c.client, c.peer = g, c, peer.New(nc.RemoteAddr().String(), nc.LocalAddr())
	c.born = g.now()
	c.deadline.Store(c.born + int64(g.state.Load().cfg.Limits.HeadTimeout))
	return c
}

// abort ends the connection from outside: its goroutine's reads, writes and
// waits return at once.
func (c *conn) abort() {
	c.exchange.abort()
	_ = c.raw.Close()
	if m := c.mux.Load(); m != nil {
		m.abort()
	}
}

// retire ends the connection when it has nothing to do, at a shutdown.
func (c *conn) retire() {
	if m := c.mux.Load(); m != nil {
		m.retire()
		return
	}
	if c.phase.Load() == phaseIdle {
		c.abort()
	}
}

// sweep cuts the connection off where it has taken too long.
func (c *conn) sweep(now int64) {
	d := c.deadline.Load()
	late := d != 0 && now > d
	switch c.phase.Load() {
	case phaseIdle:
		if late || c.aged(now) && now > d-int64(c.g.state.Load().cfg.Limits.IdleTimeout)+int64(quietFor) {
			c.abort()
		}
	case phaseHead:
		if late {
			c.late.Store(true)
			_ = c.raw.SetReadDeadline(sock.LongAgo)
		}
	case phaseBusy, phaseFree:
		if m := c.mux.Load(); m != nil {
			m.sweep(now)
			return
		}
		over, slow := c.exchange.sweep(now)
		if slow {
			c.cut()
		}
		if over {
			c.abort()
		}
	}
}

// serve answers the connection's requests until one of the two ends.
func (c *conn) serve() {
	defer func() {
		c.release()
		c.abort()
		c.g.conns.remove(c)
	}()
	switch c.greet() {
	case speaksHTTP1:
		for c.await() && c.one() && !c.g.closing.Load() {
		}
	case speaksHTTP2:
		m := newMuxed(c)
		c.mux.Store(m)
		c.deadline.Store(0)
		c.phase.Store(phaseFree)
		early := bytes.Clone(c.bufs.in[len(h2.Preface):c.w])
		c.release()
		m.serve(early)
	case speaksNothing:
	}
}

// protocol is what a client speaks.
type protocol uint8

const (
	speaksNothing protocol = iota
	speaksHTTP1
	speaksHTTP2
)

// greet looks at the first bytes: a TLS hello, the HTTP/2 preface, or HTTP/1.
func (c *conn) greet() protocol {
	c.Init(c.raw)
	c.bufs = getBuffers()
	in := c.bufs.in[:inSize] // not more, lest what follows the preface is more than muxed can take
	n, err := c.Read(in)
	if err != nil {
		return speaksNothing
	}
	if n, err = c.unwrap(n); err != nil {
		return speaksNothing
	}
	c.w = n
	c.phase.Store(phaseHead)
	if c.g.state.Load().cfg.RequireTLS && in[0] != 22 && !c.peer.Local {
		return speaksNothing
	}
	if conf := c.g.tlsConf.Load(); conf != nil && in[0] == 22 {
		tc := tls.Server(&prefixed{c.raw, bytes.Clone(in[:n])}, conf)
		ctx, cancel := context.WithTimeout(c.g.ctx, c.g.state.Load().cfg.Limits.HeadTimeout)
		err := tc.HandshakeContext(ctx)
		cancel()
		if err != nil {
			return speaksNothing
		}
		c.peer.TLS = true
		c.w = 0
		c.Sock = sock.Sock{}
		c.Init(tc)
		if tc.ConnectionState().NegotiatedProtocol != "h2" {
			return speaksHTTP1
		}
	}
	for c.w < len(h2.Preface) && string(in[:c.w]) == h2.Preface[:c.w] {
		n, err := c.Read(in[c.w:])
		if err != nil {
			return speaksNothing
		}
		c.w += n
	}
	if c.w >= len(h2.Preface) && string(in[:len(h2.Preface)]) == h2.Preface {
		return speaksHTTP2
	}
	if c.peer.TLS { // it has said that it would
		return speaksNothing
	}
	return speaksHTTP1
}

func (c *conn) release() {
	if c.bufs != nil {
		putBuffers(c.bufs)
		c.bufs = nil
	}
}

// await reads until a whole request head is in c.req. It answers what is wrong
// with it. Between requests the connection holds no buffer.
func (c *conn) await() bool {
	cfg := &c.g.state.Load().cfg
	if c.flow.Chunked() {
		c.behind()
	}
	if c.bufs != nil && c.r < c.w { // a request that came with the last one
		copy(c.bufs.in, c.bufs.in[c.r:c.w])
		c.w -= c.r
		c.r = 0
	} else {
		c.r, c.w = 0, 0
		if c.bufs != nil && c.phase.Load() == phaseBusy {
			c.release()
		}
		if c.bufs == nil {
			now := c.call.ended
			if now == 0 {
				now = c.g.now()
			}
			c.deadline.Store(now + int64(cfg.Limits.IdleTimeout))
			c.phase.Store(phaseIdle)
			n, err := c.Idle(c)
			if err != nil {
				return false
			}
			c.w = n
		}
	}
	c.phase.Store(phaseHead)
	headBegan, patience := false, wire.Patience{}
	for {
		if c.w > 0 && (patience.Over(c.bufs.in[:c.w]) || c.w > cfg.Limits.HeadBytes) {
			n, err := c.req.Parse(c.bufs.in[:c.w])
			switch {
			case err == nil && n <= cfg.Limits.HeadBytes:
				c.r = n
				return true
			case err == nil, errors.Is(err, wire.ErrIncomplete) && c.w > cfg.Limits.HeadBytes:
				return c.malformed(errHeadTooLarge)
			case !errors.Is(err, wire.ErrIncomplete):
				return c.malformed(err)
			}
		}
		if !headBegan {
			headBegan = true
			c.deadline.Store(c.g.now() + int64(cfg.Limits.HeadTimeout))
		}
		if c.w == len(c.bufs.in) {
			c.bufs.in = append(c.bufs.in, make([]byte, len(c.bufs.in))...)
		}
		n, err := c.Read(c.bufs.in[c.w:])
		if err != nil {
			if c.late.Load() && c.w > 0 {
				c.malformed(&wire.Error{Status: 408, Reason: "the request took too long"})
			}
			return false
		}
		c.w += n
	}
}

// errHeadTooLarge refuses a request's head over the limit, over any protocol.
var errHeadTooLarge = &wire.Error{Status: 431, Reason: "request head too large"}

// malformed answers a request that cannot be understood, and ends the connection.
func (c *conn) malformed(err error) bool {
	c.g.malformed.Add(1)
	c.deadline.Store(0)
	c.phase.Store(phaseBusy) // who does not take the answer is cut off
	var we *wire.Error
	if !errors.As(err, &we) {
		we = &wire.Error{Status: 400, Reason: "malformed request"}
	}
	c.req.Minor, c.req.Close = 1, true
	c.rest = bodyBroken
	c.perform(we)
	c.linger()
	return false
}

// one serves the request in req. It reports whether the connection goes on.
func (c *conn) one() (keep bool) {
	c.phase.Store(phaseBusy)
	c.deadline.Store(0)
	c.carried++
	c.rest, c.kept = bodyUnread, 0
	keep = c.perform(nil)
	if c.rest == bodyBroken {
		c.linger()
		return false
	}
	return keep
}

// lingerFor and lingerBytes bound how long and how much of a body nobody wants
// is read, so that the answer is not lost in a reset connection. Clients that read
// nothing before they have sent everything are not rare.
const (
	lingerFor   = 2 * time.Second
	lingerBytes = 16 << 20
)

func (c *conn) linger() {
	if c.bufs == nil { // it was upgraded
		return
	}
	if tc, ok := c.NC.(interface{ CloseWrite() error }); !ok || tc.CloseWrite() != nil {
		return
	}
	_ = c.NC.SetReadDeadline(time.Now().Add(lingerFor))
	for sum := 0; sum < lingerBytes; {
		n, err := c.Read(c.bufs.in)
		if err != nil {
			return
		}
		sum += n
	}
}
