package gateway

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/peer"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"

	"go.opentelemetry.io/otel/trace"
)

// exchange is one call between a client and the workers that it is tried on. It
// is the same for all protocols that clients speak: what differs is behind
// client. It serves one call at a time, in one goroutine, and may be used again.
type exchange struct {
	g      *Gateway
	client client
	peer   *peer.Peer
	bufs   *buffers

	req  wire.Request
	resp wire.Response
	call call
	// respHead is how long the head of resp is in bufs.up; peeked is the beginning
	// of its body.
	respHead int
	peeked   []byte
	// pageOrigin is the origin of the page that has made the call and may, else nil.
	pageOrigin []byte
	peekBuf    [maxBegins + 3]byte
	upload     upload
	rec        outcome.Record
	span       trace.Span // of the call, nil if no spans are made
	traceAt    int        // where the request's trace context begins in bufs.out
	rules      [2]*rules  // of the function and the route

	fault outcome.Fault // whose it is that the call cannot go on, once somebody knows

	// Shared with the sweeper.
	deadline atomic.Int64 // what is over by then is cut off; 0 is never
	moving   outcome.Movement
	answered atomic.Bool  // it has begun
	waiting  atomic.Int64 // since when an answer is waited for; 0 if not
	watch    atomic.Pointer[upstream.Conn]

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
	// is small enough to be kept. The error says how the body has ended, as those
	// of read do: a *wire.Error if the client has broken a rule.
	body() (mode bodyMode, err error)
	// appendKept appends the body that is kept, with the framing of HTTP/1.
	appendKept(b []byte) []byte
	// open begins to read a body that is not kept. read returns some of it, or
	// io.EOF at its end, after which trailer is what follows it, as lines. cut makes
	// a read that waits return; resume undoes it, where that can be. closed says,
	// when nobody reads any more, whether the end was reached.
	open()
	read(p []byte) (int, error)
	trailer() []byte
	cut()
	resume() bool
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
	upgrade(u *upstream.Conn, n int)
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

// abort ends the call from outside: what waits for a worker returns at once. If
// nobody has said why, the client has left, or the gateway closes.
func (x *exchange) abort() {
	if x.g.ctx.Err() != nil {
		x.fault.Note(outcome.GatewayClosing)
	} else {
		x.fault.Note(outcome.ClientLeft)
	}
	x.mu.Lock()
	x.over = true
	if x.cancel != nil {
		x.cancel()
	}
	x.mu.Unlock()
	if u := x.watch.Swap(nil); u != nil {
		u.Close()
	}
}

// cutWorker makes whoever waits for the worker return.
func (x *exchange) cutWorker() {
	if u := x.watch.Swap(nil); u != nil {
		u.Cut()
	}
}

// again makes the exchange ready for another call of another client.
func (x *exchange) again() {
	x.deadline.Store(0)
	x.moving.Rest()
	x.moving.Most.Store(0)
	x.answered.Store(false)
	x.waiting.Store(0)
	x.fault.Clear()
	x.upload.clear()
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

// sweep cuts the call off where it has taken too long, and notes whose fault that
// is. over says that the client is to be cut off too, or has gone; slow that who
// reads its body is to return.
func (x *exchange) sweep(now int64) (over, slow bool) {
	var e outcome.End
	if d := x.deadline.Load(); d != 0 && now > d && x.deadline.CompareAndSwap(d, 0) {
		e = outcome.WorkerLate
		if x.moving.Up.Load() == outcome.OnClient && !x.answered.Load() {
			e = outcome.ClientSlow // the worker waits for the rest of the body, too
		}
	} else {
		e = x.moving.Stalled(now)
	}
	if e != outcome.NotEnded {
		first := x.fault.Note(e) == e
		x.cutWorker()
		over, slow = e == outcome.ClientDeaf, e == outcome.ClientSlow && first
	}
	since := x.waiting.Load()
	return over || since != 0 && now-since > int64(goneAfter) && x.client.gone(), slow
}

// touch notes that the answer's body moved, and which side has to move it next. Calls
// that stand still are cut off by that.
func (x *exchange) touch(side uint32) { x.moving.Descend(x.g.now(), side) }

// awaitMore notes that the worker is to send the next of the answer, and that the
// client is missed if it goes meanwhile.
func (x *exchange) awaitMore() {
	now := x.g.now()
	x.moving.Descend(now, outcome.OnWorker)
	x.waiting.Store(now)
}

// feed notes that the request's body moved, and which side is to move the next of it.
func (x *exchange) feed(side uint32) { x.moving.Ascend(x.g.now(), side) }

// perform answers the request in req, or says what is wrong with its head, and is
// the one place where a call ends: there it is counted and logged. It reports
// whether the connection goes on.
func (x *exchange) perform(wrong *wire.Error) (keep bool) {
	x.fault.Clear()
	x.upload.clear()
	x.rec.Begin(x.g.now())
	x.pageOrigin, x.rules, x.span = nil, [2]*rules{}, nil
	c := &x.call
	c.f, c.st, c.ended = nil, x.g.state.Load(), 0
	x.seed()
	if share := c.st.cfg.AccessLog; share > 0 && (share >= 1 || c.rnd.Next()>>11 <= uint64(share*(1<<53))) {
		x.rec.Logged = true
		x.rec.Identify(&c.rnd)
	}
	if wrong != nil {
		keep = x.misheard(wrong)
	} else {
		keep = x.serveCall()
	}
	x.moving.Rest()
	x.waiting.Store(0)
	x.upload.close()
	x.conclude()
	return keep && !x.req.Close
}

// seed begins the call's own random numbers, if that was not done before.
func (x *exchange) seed() {
	if c := &x.call; c.rnd == 0 {
		c.rnd = outcome.Random(x.peer.Hash(nil, nil) ^ x.g.accepted.Load()<<32 ^ uint64(x.rec.Begun))
	}
}

// conclude counts the call and logs it.
func (x *exchange) conclude() {
	c, r := &x.call, &x.rec
	if r.End == outcome.NotEnded { // nothing has kept it from ending well
		r.End = outcome.EndedWell
	}
	r.Ended = c.ended
	if c.f == nil || r.Ended == 0 {
		r.Ended = x.g.now()
	}
	if c.f != nil {
		c.leave()
		c.f.count(x.g, r)
		if x.span != nil && x.span.SpanContext().IsSampled() {
			c.f.Examples.Add(x.span.SpanContext().TraceID(), time.Duration(r.Ended-r.Begun), x.g.at(r.Ended))
		}
	}
	x.endSpan()
	x.g.ends.Add(r)
	failed := r.Failed()
	if failed || r.End != outcome.EndedWell || r.Answered >= 500 {
		x.g.keep(x, failed)
	}
	x.log(failed)
	c.f = nil
}

// serveCall answers the request in req. It reports whether the connection goes on.
func (x *exchange) serveCall() (keep bool) {
	g := x.g
	st := x.call.st
	req := &x.req
	switch string(req.Method) {
	case "CONNECT", "TRACE", "TRACK": // TRACE shows a page what the browser and proxies have added
		return x.refuse(405, string(req.Method)+" is not supported")
	}
	if x.returned() {
		return x.fail(outcome.GatewayLoop, nil)
	}
	host, uri := req.Host, req.Target
	options := string(req.Method) == "OPTIONS"
	if options && string(uri) == "*" {
		return x.describe()
	}
	if len(uri) == 0 || uri[0] != '/' {
		if options && bareAuthority(uri) { // OPTIONS * of this host, to a proxy (RFC 9112, 3.2.4)
			return x.describe()
		}
		var ok bool
		if host, uri, ok = absolute(uri); !ok {
			return x.misread("malformed request target")
		}
		req.Host, req.Target = host, uri // whoever is told of the call is told where it goes
	}
	if !wire.IsHost(host) {
		return x.misread("malformed host")
	}
	if options && x.lastHop() {
		return x.describe()
	}
	t := st.resolve(host, uri, x.wanted())
	if r := x.admitPage(st, host, t.kind == toFunction); r != nil {
		return x.refusePage(r)
	}
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
	case toUnclear:
		return x.misread("a worker may take this path for one that is guarded")
	case toNowhere:
		return x.refuse(404, "not found")
	case toOther:
		return x.reply(&refusal{
			end: outcome.ClientRefused, status: 405, text: "this path is for other methods", fields: []wire.Field{{Name: []byte("Allow"), Value: []byte(t.allow)}},
		})
	case toOwn:
		return x.own(uri)
	}
	if x.preflight(st) {
		return x.answerPreflight(st)
	}
	if err := x.admitCaller(st); err != nil {
		return x.refuse(err.Status, err.Text)
	}
	x.rec.Function = f.name
	x.disbelieve()
	if t.named > 0 && st.guards.byRoute[string(t.fn)] {
		return x.refuse(403, "this function is called by its routes only")
	}
	if keep, ok := x.admitBy(&t); !ok {
		return keep
	}
	f = x.share(f, &t)
	x.call.begin(g, st, f, x.rec.Begun)
	x.rec.Function = f.name
	x.beginSpan(&t)
	x.inspect(&t, uri)
	x.abide(&t)
	return x.run(&t)
}

// unheard counts and logs a request whose head was so malformed that it gets no answer.
func (x *exchange) unheard(err error) {
	x.rec.Begin(x.g.now())
	x.span = nil
	x.call.f, x.call.st, x.call.ended = nil, x.g.state.Load(), 0
	x.seed()
	x.rec.End, x.rec.Err, x.rec.Logged = outcome.ClientMalformed, err, x.call.st.cfg.AccessLog >= 1
	x.conclude()
}

// misheard answers a request whose head cannot be understood.
func (x *exchange) misheard(we *wire.Error) bool {
	e := outcome.ClientMalformed
	if we.Status == 408 {
		e = outcome.ClientSlow
	}
	x.rec.Err = we
	return x.reply(&refusal{end: e, status: we.Status, text: we.Reason})
}

// misread refuses a request whose target others may read in another way: the
// connection ends with it, lest they read what follows in another way too.
func (x *exchange) misread(text string) bool {
	x.req.Close = true
	return x.reply(&refusal{end: outcome.ClientMalformed, status: 400, text: text})
}

// refuse answers what the client has asked for in vain.
func (x *exchange) refuse(status int, text string) bool {
	return x.reply(&refusal{end: outcome.ClientRefused, status: status, text: text})
}

// reply answers for the gateway, and keeps why.
func (x *exchange) reply(r *refusal) bool {
	x.rec.End = r.end
	if f := x.fault.Get(); x.left() && f.Silent() {
		x.rec.End = f
	}
	if x.rec.End.Silent() {
		return false
	}
	x.rec.Own = true
	x.upload.close()
	return x.client.refuse(r)
}

// fail answers for a call that cannot go on because of e.
func (x *exchange) fail(e outcome.End, err error) bool {
	x.rec.Err = err
	return x.reply(&refusal{end: e, status: e.Status(), text: e.Text()})
}

// inspect fills in what the policy core wants to know of the request.
func (x *exchange) inspect(t *target, uri []byte) {
	c := &x.call
	c.idempotent = wire.Idempotent(x.req.Method)
	if c.p.Rate > 0 {
		c.caller = x.callerOf()
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
	scheme, rest, found := bytes.Cut(uri, []byte("://"))
	if !found || !bytes.EqualFold(scheme, []byte("http")) && !bytes.EqualFold(scheme, []byte("https")) {
		return nil, nil, false
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
