package gateway

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// exchange is one call between a client and the workers that it is tried on. It
// is the same for all protocols that clients speak: what differs is behind
// client. It serves one call at a time, in one goroutine, and may be used again.
type exchange struct {
	g      *Gateway
	client client
	peer   *peer
	bufs   *buffers

	req  wire.Request
	resp wire.Response
	call call
	// respHead is how long the head of resp is in bufs.up; peeked is the beginning
	// of its body.
	respHead int
	peeked   []byte
	peekBuf  [refusalPeek + 3]byte

	// Shared with the sweeper.
	deadline atomic.Int64 // what is over by then is cut off; 0 is never
	moved    atomic.Int64 // when the last byte of a body moved; 0 while none has to
	fed      atomic.Int64 // the same for a request's body that flows; until the answer begins
	answered atomic.Bool  // it has begun
	stall    atomic.Int64 // how long a body may stand still
	waiting  atomic.Int64 // since when an answer is waited for; 0 if not
	late     atomic.Bool  // cut off by the sweeper
	watch    atomic.Pointer[upstream]

	mu     sync.Mutex
	ctx    context.Context // made when it is asked for
	cancel context.CancelFunc
	over   bool
}

// client is the client's side of an exchange: HTTP/1 (conn), HTTP/2 (stream), or
// whatever has mounted Handler (handled).
type client interface {
	source
	sink
}

// source is where a request's body comes from.
type source interface {
	// body decides how the request's body gets to the worker, and reads it if it
	// is small enough to be kept. It is not ok if the client has left or broken a
	// rule; an answer is on its way then.
	body() (mode bodyMode, ok bool)
	// appendKept appends the body that is kept, with the framing of HTTP/1.
	appendKept(b []byte) []byte
	// open begins to read a body that is not kept. read returns some of it, or
	// io.EOF at its end, after which trailer is what follows it, as lines. cut makes
	// a read that waits return. closed says, when nobody reads any more, whether
	// the end was reached.
	open()
	read(p []byte) (int, error)
	trailer() []byte
	cut()
	closed(whole bool)
}

// sink is where an answer goes to.
type sink interface {
	// interim passes on the informational head that is in resp.
	interim() bool
	// head, data, trailers and flush pass on the answer that is in resp. All but
	// head may block; all report whether the client is still there. The last
	// piece of data, or trailers, or a head without a body, ends the answer.
	head(f framing)
	data(p []byte, last bool) bool
	trailers(lines []byte) bool
	flush() bool
	// refuse answers for the gateway, whatever of the request is unread. It
	// reports whether the connection can go on.
	refuse(r *refusal) bool
	// upgrade passes on the answer that switches protocols, of n bytes in bufs.up
	// with what follows it, and then everything in both directions.
	upgrade(u *upstream, n int)
	// gone looks whether the client has left, where nothing else tells.
	gone() bool
}

// framing says how an answer's body ends.
type framing uint8

const (
	framedNone    framing = iota // there is none
	framedLength                 // by resp.Length
	framedUnknown                // by its end
)

// peer is what the calls of one client connection have in common.
type peer struct {
	addr   string // as net/http shows it
	remote netip.Addr
	caller uint64
	isTLS  bool
	node   []byte // the address as X-Forwarded-For has it
}

func newPeer(addr string) *peer {
	p := &peer{addr: addr}
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		p.remote = ap.Addr().Unmap().WithZone("")
	}
	p.node = []byte(p.remote.String())
	p.caller = balance.HashBytes(p.node)
	return p
}

// context is done when the client has gone. It is made when somebody asks: most
// calls never wait for anything that takes one.
func (x *exchange) context() context.Context {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ctx == nil {
		x.ctx, x.cancel = context.WithCancel(context.Background())
		if x.over {
			x.cancel()
		}
	}
	return x.ctx
}

// left says whether the client has gone, or was cut off.
func (x *exchange) left() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.over
}

// abort ends the call from outside: what waits for a worker returns at once.
func (x *exchange) abort() {
	x.mu.Lock()
	x.over = true
	if x.cancel != nil {
		x.cancel()
	}
	x.mu.Unlock()
	if u := x.watch.Swap(nil); u != nil {
		u.close()
	}
}

// again makes the exchange ready for another call of another client.
func (x *exchange) again() {
	x.deadline.Store(0)
	x.moved.Store(0)
	x.fed.Store(0)
	x.answered.Store(false)
	x.stall.Store(0)
	x.waiting.Store(0)
	x.late.Store(false)
	x.watch.Store(nil)
	x.mu.Lock()
	if x.cancel != nil {
		x.cancel()
	}
	x.ctx, x.cancel, x.over = nil, nil, false
	x.mu.Unlock()
}

// goneAfter is how long a call may have waited before the client is looked
// after. Shorter calls find out when they answer.
const goneAfter = 100 * time.Millisecond

// sweep cuts the call off where it has taken too long. It reports whether the
// client is to be cut off too, or has gone.
func (x *exchange) sweep(now int64) (over bool) {
	if d := x.deadline.Load(); d != 0 && now > d {
		x.late.Store(true)
		if u := x.watch.Swap(nil); u != nil {
			u.cut()
		}
	}
	if x.stalled(now) {
		return true
	}
	since := x.waiting.Load()
	return since != 0 && now-since > int64(goneAfter) && x.client.gone()
}

func (x *exchange) stalled(now int64) bool {
	m := x.moved.Load()
	f := x.fed.Load()
	most := x.stall.Load()
	return m != 0 && now-m > most || f != 0 && now-f > most && !x.answered.Load()
}

// touch notes that a body moved, for those who cut off what stands still.
func (x *exchange) touch() {
	if x.stall.Load() == 0 {
		x.stall.Store(int64(time.Minute))
	}
	x.moved.Store(x.g.now())
}

// serveCall answers the request in req. It reports whether the connection goes on.
func (x *exchange) serveCall() (keep bool) {
	g := x.g
	st := g.state.Load()
	now := g.now()
	req := &x.req
	switch string(req.Method) {
	case "CONNECT", "TRACE", "TRACK": // TRACE shows a page what the browser and proxies have added
		return x.refuse(405, string(req.Method)+" is not supported")
	}
	host, uri := req.Host, req.Target
	if len(uri) == 0 || uri[0] != '/' {
		var ok bool
		if host, uri, ok = absolute(uri); !ok {
			return x.misread("malformed request target")
		}
		req.Host = host
	}
	if !wire.IsHost(host) {
		return x.misread("malformed host")
	}
	t := st.resolve(host, uri)
	var f *function
	switch t.kind {
	case toFunction:
		if len(t.task) > 0 {
			f = g.tasks
		} else if f = g.function(st, t.fn); f == nil {
			return x.refuse(400, "no such function: "+string(t.fn))
		}
	case toBad:
		return x.misread("a function's name is missing or malformed")
	case toNowhere:
		return x.refuse(404, "not found")
	case toOwn:
		return x.own(uri)
	}
	x.call.begin(g, st, f, now)
	x.inspect(&t, uri)
	keep = x.run(&t)
	x.moved.Store(0)
	x.waiting.Store(0)
	return keep
}

// misread refuses a request whose target others may read in another way: the
// connection ends with it, lest they read what follows in another way too.
func (x *exchange) misread(text string) bool {
	x.req.Close = true
	return x.refuse(400, text)
}

func (x *exchange) refuse(status int, text string) bool {
	return x.client.refuse(&refusal{status: status, text: text})
}

// inspect fills in what the policy core wants to know of the request.
func (x *exchange) inspect(t *target, uri []byte) {
	c := &x.call
	c.idempotent = wire.Idempotent(x.req.Method)
	c.caller = x.peer.caller
	if c.rnd == 0 {
		c.rnd = x.peer.caller ^ x.g.accepted.Load()<<32 ^ uint64(c.begun)
	}
	if len(t.task) > 0 {
		c.task = string(t.task)
	}
	by := c.p.RateBy
	for i := range x.req.Fields {
		switch f := &x.req.Fields[i]; f.Kind {
		case wire.IdempotencyKey:
			c.idempotent = true
		case wire.Generation:
			c.minGen = parseGeneration(f.Value)
		default:
			if by != "" && len(f.Name) == len(by) && bytes.EqualFold(f.Name, []byte(by)) {
				c.caller = balance.HashBytes(f.Value)
			}
		}
	}
	if c.p.Balancer == "sticky" {
		c.key = c.p.sticky(x.req.Fields, uri)
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
