package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// conn is one client connection of the HTTP/1 engine, served by one goroutine.
// It is also the context of its calls: it is done when the client has gone.
type conn struct {
	sock
	// raw is the connection as it was accepted, below TLS: what others than the
	// connection's own goroutine may touch.
	raw    net.Conn
	handed atomic.Bool // net/http has it now
	g      *Gateway
	isTLS  bool
	remote netip.Addr
	caller uint64
	// forwarded is the X-Forwarded-For, -Proto and Forwarded that this
	// connection's requests carry, but for their end.
	xff []byte

	// Buffers, held while a request is being served.
	bufs *buffers
	r, w int // what is unread in bufs.in

	req  wire.Request
	resp wire.Response
	call call
	// respHead is how long the head of resp is; peeked is the beginning of its body.
	respHead int
	peeked   []byte
	peekBuf  [refusalPeek + 3]byte

	// Shared with the sweeper.
	phase    atomic.Int32
	deadline atomic.Int64 // what is over by then is cut off; 0 is never
	moved    atomic.Int64 // when the last byte of a body moved; 0 while none has to
	stall    atomic.Int64 // how long a body may stand still
	waiting  atomic.Int64 // since when an answer is waited for; 0 if not
	late     atomic.Bool  // cut off by the sweeper
	watch    atomic.Pointer[upstream]

	mu   sync.Mutex
	done chan struct{}
	over bool
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

// lend and takeBack are what Idle gets its buffer by.
func (c *conn) lend() []byte {
	c.bufs = getBuffers()
	return c.bufs.in
}

func (c *conn) takeBack() { c.release() }

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
	c := &conn{g: g, raw: nc}
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		c.remote = ap.Addr().Unmap().WithZone("")
	}
	c.deadline.Store(g.now() + int64(g.state.Load().cfg.Limits.HeadTimeout))
	return c
}

// Deadline, Done, Err and Value make the connection a context.
func (c *conn) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (c *conn) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.over {
			close(c.done)
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return context.Canceled
	}
	return nil
}

// Value implements context.Context.
func (c *conn) Value(any) any { return nil }

// abort ends the connection from outside: its goroutine's reads, writes and
// waits return at once.
func (c *conn) abort() {
	c.mu.Lock()
	if !c.over {
		c.over = true
		if c.done != nil {
			close(c.done)
		}
	}
	c.mu.Unlock()
	if !c.handed.Load() {
		_ = c.raw.Close()
	}
	if u := c.watch.Swap(nil); u != nil {
		u.close()
	}
}

func (c *conn) closeIfIdle() {
	if c.phase.Load() == phaseIdle {
		c.abort()
	}
}

// longAgo is a deadline that is over: it wakes whoever reads or writes.
var longAgo = time.Unix(1, 0)

// sweep cuts the connection off where it has taken too long.
func (c *conn) sweep(now int64) {
	d := c.deadline.Load()
	late := d != 0 && now > d
	switch c.phase.Load() {
	case phaseIdle:
		if late {
			c.abort()
		}
	case phaseHead:
		if late {
			c.late.Store(true)
			_ = c.raw.SetReadDeadline(longAgo)
		}
	case phaseBusy:
		if late {
			c.late.Store(true)
			if u := c.watch.Swap(nil); u != nil {
				_ = u.nc.SetDeadline(longAgo)
			}
			return
		}
		if c.stalled(now) {
			c.abort()
			return
		}
		if since := c.waiting.Load(); since != 0 && now-since > int64(goneAfter) && gone(c.raw) {
			c.abort()
		}
	case phaseFree:
		if c.stalled(now) {
			c.abort()
		}
	}
}

// goneAfter is how long a call may have waited before the client is looked
// after. Shorter calls find out when they answer.
const goneAfter = 100 * time.Millisecond

func (c *conn) stalled(now int64) bool {
	m := c.moved.Load()
	return m != 0 && now-m > c.stall.Load()
}

// serve answers the connection's requests until one of the two ends.
func (c *conn) serve() {
	defer func() {
		c.release()
		c.abort()
		c.g.conns.remove(c)
	}()
	nc, ok := c.greet()
	if !ok {
		return
	}
	if nc == nil || c.handed.Load() {
		return
	}
	for {
		if !c.await() {
			return
		}
		keep := c.one()
		if !keep || c.g.closing.Load() {
			return
		}
	}
}

// greet looks at the first bytes: a TLS hello, the HTTP/2 preface, or HTTP/1. A
// nil connection means that net/http has it now.
func (c *conn) greet() (nc net.Conn, ok bool) {
	c.init(c.raw)
	c.bufs = getBuffers()
	n, err := c.Read(c.bufs.in)
	if err != nil {
		return nil, false
	}
	c.w = n
	c.phase.Store(phaseHead)
	if conf := c.g.tlsConf.Load(); conf != nil && c.bufs.in[0] == 22 {
		below := &sock{}
		below.init(c.raw)
		tc := tls.Server(&prefixed{sockConn{c.raw, below}, bytes.Clone(c.bufs.in[:n])}, conf)
		ctx, cancel := context.WithTimeout(c.g.ctx, c.g.state.Load().cfg.Limits.HeadTimeout)
		err := tc.HandshakeContext(ctx)
		cancel()
		if err != nil {
			return nil, false
		}
		c.isTLS = true
		c.w = 0
		if tc.ConnectionState().NegotiatedProtocol == "h2" {
			return nil, c.handOver(tc)
		}
		c.sock = sock{}
		c.init(tc)
		c.setForwarded()
		return tc, true
	}
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for c.w < len(preface) && string(c.bufs.in[:c.w]) == preface[:c.w] {
		n, err := c.Read(c.bufs.in[c.w:])
		if err != nil {
			return nil, false
		}
		c.w += n
	}
	if c.w >= len(preface) && string(c.bufs.in[:len(preface)]) == preface {
		return nil, c.handOver(c.nc)
	}
	c.setForwarded()
	return c.nc, true
}

// handOver gives the connection, with what was read of it, to net/http.
func (c *conn) handOver(nc net.Conn) bool {
	if c.w > c.r {
		nc = &prefixed{nc, bytes.Clone(c.bufs.in[c.r:c.w])}
	}
	c.r, c.w = 0, 0
	c.release()
	_ = c.raw.SetDeadline(time.Time{})
	c.deadline.Store(0)
	c.handed.Store(true)
	if !c.g.h2ln.give(nc) {
		c.handed.Store(false)
		return false
	}
	return true
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
	headBegan := false
	for {
		if c.w > 0 {
			n, err := c.req.Parse(c.bufs.in[:c.w])
			if err == nil {
				c.r = n
				return true
			}
			if !errors.Is(err, wire.ErrIncomplete) {
				return c.malformed(err)
			}
			if c.w > cfg.Limits.HeadBytes {
				return c.malformed(&wire.Error{Status: 431, Reason: "request head too large"})
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

// malformed answers a request that cannot be understood, and ends the connection.
func (c *conn) malformed(err error) bool {
	c.g.malformed.Add(1)
	var we *wire.Error
	if !errors.As(err, &we) {
		we = &wire.Error{Status: 400, Reason: "malformed request"}
	}
	c.req.Method, c.req.Minor, c.req.Close = nil, 1, true
	c.answer(we.Status, we.Reason, 0)
	c.linger()
	return false
}

// one serves the request in c.req. It reports whether the connection goes on.
func (c *conn) one() (keep bool) {
	g := c.g
	st := g.state.Load()
	now := g.now()
	c.phase.Store(phaseBusy)
	c.deadline.Store(0)
	req := &c.req
	if string(req.Method) == "CONNECT" {
		return c.refuseUnread(405, "CONNECT is not supported")
	}
	host, uri := req.Host, req.Target
	if uri[0] != '/' {
		var ok bool
		if host, uri, ok = absolute(uri); !ok {
			return c.refuseUnread(400, "malformed request target")
		}
		req.Host = host
	}
	t := st.resolve(host, uri)
	var f *function
	switch t.kind {
	case toFunction:
		if len(t.task) > 0 {
			f = g.tasks
		} else if f = g.function(st, t.fn); f == nil {
			return c.refuseUnread(400, "no such function: "+string(t.fn))
		}
	case toBad:
		return c.refuseUnread(400, "a function's name is missing or malformed")
	case toNowhere:
		return c.refuseUnread(404, "not found")
	case toOwn:
		return c.own(uri)
	}
	if st.h2c {
		return c.toNetHTTP()
	}
	c.call.begin(g, st, f, now)
	c.inspect(&t, uri)
	keep = c.run(&t)
	c.moved.Store(0)
	c.waiting.Store(0)
	return keep
}

// toNetHTTP hands the connection over from this request on.
func (c *conn) toNetHTTP() bool {
	c.r = 0
	c.handOver(c.nc)
	return false
}

// inspect fills in what the policy core wants to know of the request.
func (c *conn) inspect(t *target, uri []byte) {
	x := &c.call
	x.idempotent = wire.Idempotent(c.req.Method)
	x.caller = c.caller
	if x.rnd == 0 {
		x.rnd = c.caller ^ c.g.accepted.Load()<<32 ^ uint64(x.begun)
	}
	if len(t.task) > 0 {
		x.task = string(t.task)
	}
	by := x.p.RateBy
	for i := range c.req.Fields {
		switch f := &c.req.Fields[i]; f.Kind {
		case wire.IdempotencyKey:
			x.idempotent = true
		case wire.Generation:
			x.minGen = parseGeneration(f.Value)
		default:
			if by != "" && len(f.Name) == len(by) && bytes.EqualFold(f.Name, []byte(by)) {
				x.caller = callerHash(f.Value)
			}
		}
	}
	if x.p.Balancer == "sticky" {
		x.key = x.p.sticky(c.req.Fields, uri)
	}
}

// absolute takes a request target in absolute form apart (RFC 9112, 3.2.2).
func absolute(uri []byte) (host, path []byte, ok bool) {
	rest, found := bytes.CutPrefix(uri, []byte("http://"))
	if !found {
		if rest, found = bytes.CutPrefix(uri, []byte("https://")); !found {
			return nil, nil, false
		}
	}
	i := bytes.IndexAny(rest, "/?")
	if i < 0 {
		return rest, []byte("/"), len(rest) > 0 && bytes.IndexByte(rest, '@') < 0
	}
	host, path = rest[:i], rest[i:]
	if path[0] == '?' {
		path = append([]byte{'/'}, path...)
	}
	return host, path, len(host) > 0 && bytes.IndexByte(host, '@') < 0
}

// answer writes an answer of the gateway's own.
func (c *conn) answer(status int, text string, retryAfter time.Duration) {
	if c.call.f != nil {
		c.call.finish(status)
	}
	b := c.bufs.out[:0]
	b = appendStatus(b, status, nil)
	b = append(b, "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"...)
	if retryAfter > 0 {
		b = append(b, "Retry-After: "...)
		b = strconv.AppendInt(b, int64(max(1, (retryAfter+time.Second-1)/time.Second)), 10)
		b = append(b, "\r\n"...)
	}
	if status == 405 {
		b = append(b, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	b = c.appendConnection(b)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(text)+1), 10)
	b = append(b, "\r\n\r\n"...)
	if string(c.req.Method) != "HEAD" {
		b = append(b, text...)
		b = append(b, '\n')
	}
	c.bufs.out = b
	c.touch()
	_, _ = c.Write(b)
}

// appendConnection says whether the connection goes on, where that is not what
// the client's version implies.
func (c *conn) appendConnection(b []byte) []byte {
	switch {
	case c.req.Close:
		return append(b, "Connection: close\r\n"...)
	case c.req.Minor == 0:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

// touch notes that a body moved, for those who cut off what stands still.
func (c *conn) touch() {
	if c.stall.Load() == 0 {
		c.stall.Store(int64(time.Minute))
	}
	c.moved.Store(c.g.now())
}

// refuseUnread answers a request whose body has not been read.
func (c *conn) refuseUnread(status int, text string) bool {
	return c.refuse(&refusal{status: status, text: text})
}

// refuse answers for the gateway and says whether the connection can go on.
func (c *conn) refuse(r *refusal) bool {
	c.phase.Store(phaseBusy)
	whole := c.skipBody()
	if !whole {
		c.req.Close = true
	}
	c.answer(r.status, r.text, r.retryAfter)
	if !whole {
		c.linger()
	}
	return whole && !c.req.Close
}

// skipBody steps over a body that is already here in full.
func (c *conn) skipBody() bool {
	switch {
	case c.req.Continue:
		return c.req.Length <= 0 && !c.req.Chunked
	case c.req.Chunked:
		var ch wire.Chunks
		at := c.r
		for !ch.Done() {
			_, _, n, err := ch.Next(c.bufs.in[at:c.w])
			if err != nil || n == 0 && !ch.Done() {
				return false
			}
			at += n
		}
		c.r = at
		return true
	case c.req.Length > 0:
		if int64(c.w-c.r) < c.req.Length {
			return false
		}
		c.r += int(c.req.Length)
	}
	return true
}

// lingerFor and lingerBytes bound how long and how much of a body nobody wants
// is read, so that the answer is not lost in a reset connection.
const (
	lingerFor   = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

func (c *conn) linger() {
	if tc, ok := c.nc.(interface{ CloseWrite() error }); !ok || tc.CloseWrite() != nil {
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerFor))
	for sum := 0; sum < lingerBytes; {
		n, err := c.Read(c.bufs.in)
		if err != nil {
			return
		}
		sum += n
	}
}

// setForwarded prepares what all requests of the connection have in common.
func (c *conn) setForwarded() {
	ip := c.remote.String()
	c.caller = balance.HashString(ip)
	c.xff = append(c.xff[:0], ip...)
}
