package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// readHead reads until a final response head is in resp; 1xx are passed on. n
// counts what is in bufs.up, and is the same on return but for 1xx heads.
func (x *exchange) readHead(u *upstream.Conn, n int, pm **pump) (m int, err error) {
	patience := wire.Patience{}
	for {
		hn, err := 0, wire.ErrIncomplete
		if n > 0 && (patience.Over(x.bufs.up[:n]) || n > keepSize) {
			hn, err = x.resp.Parse(x.bufs.up[:n])
		}
		switch {
		case errors.Is(err, wire.ErrIncomplete):
			if n == len(x.bufs.up) {
				if n > keepSize {
					return n, outcome.ErrAnswer
				}
				x.bufs.up = append(x.bufs.up, make([]byte, n)...)
			}
			if n > 0 { // it has begun to answer
				x.touch(outcome.OnWorker)
			}
			k, err := u.Read(x.bufs.up[n:])
			x.rec.Last().Read += int64(k)
			if err != nil {
				if n == 0 {
					return n, fmt.Errorf("%w: %w", errNothing, err)
				}
				return n, fmt.Errorf("%w: %w", errCutOff, err)
			}
			n += k
		case err != nil:
			return n, fmt.Errorf("%w: %w", outcome.ErrAnswer, err)
		case x.resp.Status == 101 && x.req.UpgradeTo != nil || x.resp.Status >= 200:
			x.respHead = hn
			return n, nil
		case x.resp.Status == 101:
			return n, fmt.Errorf("%w: it switched protocols unasked", outcome.ErrAnswer)
		default:
			if x.resp.Status != 100 || x.req.Continue {
				if !x.interim() {
					x.fault.Note(outcome.ClientLeft)
					return 0, errClient
				}
			}
			copy(x.bufs.up, x.bufs.up[hn:n])
			n -= hn
			patience = wire.Patience{}
			if x.req.Continue && *pm == nil && x.resp.Status == 100 {
				*pm = x.startPump(u)
			}
		}
	}
}

// judge looks at the answer's head: is it one, or did the worker not run the
// call? Then it is passed on.
func (x *exchange) judge(u *upstream.Conn, n int, pm *pump, mode bodyMode) (next, keep bool) {
	c := &x.call
	x.answering()
	x.rec.Last().Status = x.resp.Status
	if most := c.st.refusalsOf(x.resp.Status); most > 0 {
		var err error
		n, err = x.peekBody(u, n, most)
		if r := c.st.refusal(x.resp.Status, x.peeked); err == nil && r != nil {
			pm.stop(x, u)
			leave := func() {
				if x.detach(u) {
					u.Close() // rare enough not to read the rest
				}
			}
			if r.inside {
				leave()
				return x.toldBy(r, x.peeked)
			}
			if (!x.upload.begun || x.upload.gather()) && x.refusedBy(r, x.peeked) {
				leave()
				return true, false
			}
		}
	}
	if x.resp.Status == 101 {
		x.rec.Answered = 101
		x.changeResponse()
		x.client.upgrade(u, n)
		return false, false
	}
	if pm != nil && !pm.endsWithin(earlyAnswer) {
		x.req.Close = true // the answer came before the body's end: say that this is the last
	}
	unasked := mode == bodyFlow && pm == nil
	if unasked {
		// The body was announced and nobody has asked for it: what comes next on
		// either connection may be it, or not.
		x.req.Close = true
		x.upload.begin(x)
	}
	x.allowPage()
	err := x.forward(u, n)
	reusable := err == nil && !x.resp.Close && !unasked
	if pm != nil {
		if err == nil {
			pm.endsWithin(earlyEnd)
		}
		pm.stop(x, u)
		reusable = reusable && pm.clean
	}
	mine := x.detach(u)
	x.settle(err)
	if reusable && mine && !u.Worn(c.ended, c.st.cfg.Limits.ofWorkers()) {
		u.Keep(c.ended)
	} else {
		u.Close()
	}
	if !x.upload.begun {
		x.client.closed(true)
	}
	return false, err == nil && !x.req.Close
}

// settle ends the attempt whose answer has been passed on, or has broken off: err is
// errClient if the client did not take it, else what the worker has done.
func (x *exchange) settle(err error) {
	last := x.rec.Last()
	if err == nil {
		x.call.settled(x.resp.Status)
		last.Ended = x.call.ended
		if last.End == outcome.NotEnded { // else it has refused, and nobody else is asked
			last.End, last.Verdict = outcome.EndedWell, outcome.Answered
		}
		return
	}
	e := x.whose(x.fault.Get())
	switch {
	case e != outcome.NotEnded:
		err = x.reason(e)
	case errors.Is(err, errClient):
		e = x.fault.Note(outcome.ClientLeft)
	default:
		e = outcome.WorkerEnd(err)
	}
	last.Verdict = outcome.Needless
	if e.Blame() == outcome.BlameWorker {
		x.call.failed(e, err, true)
		last.Verdict = outcome.Answered
	} else {
		x.call.dropped()
	}
	last.Ended, last.End, last.Err = x.g.now(), e, err
	x.rec.End, x.rec.Err = e, err
}

// refusedBy ends the attempt that the worker has refused with the answer in resp that
// begins so, and says whether another one is to be tried. If nobody else is, the caller
// gets this answer.
func (x *exchange) refusedBy(r *workerRefusal, body []byte) bool {
	last := x.rec.Last()
	last.Ended, last.End, last.Err = x.g.now(), outcome.WorkerRefused, fmt.Errorf("%w: %d %s", errRefused, x.resp.Status, body)
	last.Verdict = x.call.refusedBy(r.Failing, r.MayHaveRun, last.Err)
	return last.Verdict == outcome.Again
}

// toldBy ends the attempt of which the worker has told, in an answer that begins so and that
// is not for the caller, why there is none.
func (x *exchange) toldBy(r *workerRefusal, body []byte) (next, keep bool) {
	e := outcome.WorkerRefused
	if r.MayHaveRun {
		e = outcome.WorkerBroke
	}
	return x.broke(e, errors.New(string(bytes.TrimPrefix(body, []byte("rota: ")))), r.MayHaveRun)
}

const (
	// earlyAnswer is how long an answer waits for the end of the request's body
	// to be noticed, before it counts as an early one.
	earlyAnswer = 2 * time.Millisecond
	// earlyEnd is how long a body may go on after its answer's end.
	earlyEnd = 100 * time.Millisecond
)

// peekBody reads until the beginning of the answer's body is in peeked, most bytes of it
// or more.
func (x *exchange) peekBody(u *upstream.Conn, n, most int) (int, error) {
	for {
		body := x.bufs.up[x.respHead:n]
		done := false
		switch {
		case x.resp.Chunked:
			var ch wire.Chunks
			plain := x.peekBuf[:0]
			for at := 0; ; {
				d, _, k, err := ch.Next(body[at:])
				if err != nil {
					return n, err
				}
				plain = append(plain, d[:min(len(d), cap(plain)-len(plain))]...)
				at += k
				if done = ch.Done(); done || k == 0 {
					break
				}
			}
			body = plain
		case x.resp.Length >= 0:
			done = int64(len(body)) >= x.resp.Length
		}
		if done || len(body) >= most || n == len(x.bufs.up) || !x.resp.HasBody(x.req.Method) {
			x.peeked = body
			return n, nil
		}
		x.awaitMore()
		k, err := u.Read(x.bufs.up[n:])
		if k > 0 {
			x.rec.Last().Read += int64(k)
			n += k
			continue
		}
		if err != nil {
			x.peeked = body
			return n, nil //nolint:nilerr // what is there is passed on, the break shows again
		}
	}
}

// firstOfFlow waits for the first bytes of the answer to a streamed request. A
// client that waits for 100 (Continue) gets one from us if the worker says
// nothing for a while.
func (x *exchange) firstOfFlow(u *upstream.Conn, pm *pump) (int, *pump, error) {
	if pm != nil || !x.req.Continue {
		n, err := u.Read(x.bufs.up)
		return n, pm, err
	}
	_ = u.NC.SetReadDeadline(time.Now().Add(continueAfter))
	n, err := u.Read(x.bufs.up)
	if !errors.Is(err, os.ErrDeadlineExceeded) || x.fault.Get() != outcome.NotEnded {
		_ = u.NC.SetReadDeadline(time.Time{})
		return n, nil, err
	}
	_ = u.NC.SetReadDeadline(time.Time{})
	if !x.sayContinue() {
		x.fault.Note(outcome.ClientLeft)
		return 0, nil, errClient
	}
	pm = x.startPump(u)
	n, err = u.Read(x.bufs.up)
	return n, pm, err
}

// continueAfter is how long a worker may think about an Expect header.
const continueAfter = time.Second

var errClient = errors.New("the client has gone")

// sayContinue asks the client for the body that it holds back.
func (x *exchange) sayContinue() bool {
	x.resp = wire.Response{Head: wire.Head{Fields: x.resp.Fields[:0], Length: -1, Minor: 1}, Status: 100, Reason: []byte("Continue")}
	return x.interim()
}

// interim passes on the informational head in resp. Who does not take it is cut off.
func (x *exchange) interim() bool {
	x.touch(outcome.OnClient)
	defer x.moving.Down.Store(outcome.OnNobody)
	return x.client.interim()
}

// say gives an answer of the gateway's own: a page, or a line of text.
func (x *exchange) say(r *refusal) bool {
	if r.page != nil {
		return x.show(r.page)
	}
	return x.answer(r)
}

func (x *exchange) answer(r *refusal) bool {
	if x.call.f != nil {
		x.call.leave() // who is answered so may call again at once
	}
	x.begin(r.status)
	x.allowPage()
	x.resp.Fields = append(x.resp.Fields, r.fields...)
	x.add("Content-Type", "text/plain; charset=utf-8")
	x.add("X-Content-Type-Options", "nosniff")
	if r.retryAfter > 0 {
		x.add("Retry-After", strconv.FormatInt(int64(max(1, (r.retryAfter+time.Second-1)/time.Second)), 10))
	}
	if r.status == 405 && len(r.fields) == 0 {
		x.add("Allow", allowed)
	}
	return x.whole(append([]byte(r.text), '\n'))
}

// begin, add and whole make an answer of the gateway's own in resp and send it.
func (x *exchange) begin(status int) {
	x.resp = wire.Response{Head: wire.Head{Fields: x.resp.Fields[:0], Minor: 1}, Status: status, Reason: []byte(http.StatusText(status))}
}

func (x *exchange) add(name, value string) {
	x.resp.Fields = append(x.resp.Fields, wire.Field{Name: []byte(name), Value: []byte(value)})
}

func (x *exchange) whole(body []byte) bool {
	if x.rec.Logged || x.rec.Failed() {
		x.add("X-Request-Id", x.requestID())
	}
	x.resp.Length = int64(len(body))
	x.touch(outcome.OnClient)
	defer x.moving.Down.Store(outcome.OnNobody)
	if !x.resp.HasBody(x.req.Method) {
		x.head(framedNone)
		return x.client.flush()
	}
	x.head(framedLength)
	return x.data(body, true) && x.client.flush()
}

// head and data pass the answer on to the client, and count it.
func (x *exchange) head(f framing) {
	x.rec.Answered = x.resp.Status
	x.changeResponse()
	x.client.head(f)
}

func (x *exchange) data(p []byte, last bool) bool {
	x.rec.Out += int64(len(p))
	return x.client.data(p, last)
}

// own answers a request for one of the gateway's own paths.
func (x *exchange) own(uri []byte) bool {
	u, err := url.ParseRequestURI(string(uri))
	if err != nil {
		return x.misread("malformed request target")
	}
	ctx, cancel := context.WithTimeout(x.g.ctx, 30*time.Second)
	defer cancel()
	r := (&http.Request{
		Method: string(x.req.Method), URL: u, RequestURI: string(uri), Host: string(x.req.Host), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, RemoteAddr: x.peer.Addr,
	}).WithContext(x.withLocalAddr(ctx))
	for _, f := range x.req.Fields {
		r.Header.Add(string(f.Name), string(f.Value))
	}
	rec := &recorder{header: http.Header{}, status: 200}
	x.g.self.ServeHTTP(rec, r)
	e := outcome.EndedWell
	switch {
	case rec.status >= 500:
		e = outcome.GatewayFailed
	case rec.status >= 400:
		e = outcome.ClientRefused
	}
	return x.reply(&refusal{end: e, status: rec.status, page: rec})
}

// recorder keeps an answer of net/http. Its status is 200 unless it is told.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
	wrote  bool
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}

func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.wrote, r.status = true, status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.body.Write(b)
}

// show sends a page of the gateway's own.
func (x *exchange) show(rec *recorder) bool {
	x.begin(rec.status)
	x.allowPage()
	names := make([]string, 0, len(rec.header))
	for n := range rec.header {
		if n != "Content-Length" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		for _, v := range rec.header[n] {
			x.add(n, v)
		}
	}
	return x.whole(rec.body.Bytes())
}
