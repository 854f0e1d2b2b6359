package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// needsHTTP2 says whether the call must reach that worker over HTTP/2: the worker
// speaks nothing else, or it is gRPC, which needs HTTP/2 all the way.
func (x *exchange) needsHTTP2(w *upstream.Worker) bool {
	if w.H2C || !w.Negotiates() {
		return w.H2C
	}
	for i := range x.req.Fields {
		if f := &x.req.Fields[i]; f.Kind == wire.ContentType {
			return bytes.HasPrefix(f.Value, []byte("application/grpc"))
		}
	}
	return false
}

// attemptHTTP2 is attempt over HTTP/2, by net/http's client.
func (x *exchange) attemptHTTP2(w *upstream.Worker, t *target, mode bodyMode) (next, keep bool) {
	c := &x.call
	ctx, cancel := context.WithCancelCause(x.context())
	defer cancel(nil)
	u := &upstream.Conn{Cancel: cancel}
	if mode == bodyFlow && x.req.Continue && !x.upload.begun && !x.sayContinue() {
		return x.broke(x.fault.Note(outcome.ClientLeft), errClient, false)
	}
	hints := &hints{x: x}
	body := &flowing{x: x, over: make(chan struct{})}
	trace := &httptrace.ClientTrace{
		Got1xxResponse: hints.pass, GotConn: body.got, WroteHeaders: body.wroteHead, WroteRequest: body.wrote,
	}
	req, err := x.request(httptrace.WithClientTrace(ctx, trace), w, t, mode, body)
	if err != nil {
		return x.broke(outcome.ClientMalformed, err, false)
	}
	x.attach(u)
	if mode == bodyKept {
		x.moving.Ascend(c.sent, outcome.OnWorker)
	}
	resp, err := w.Transport(c.st.cfg.Limits.ofWorkers()).RoundTrip(req)
	hints.end()
	last := x.rec.Last()
	last.Reused = body.reused.Load()
	if err == nil && (resp.StatusCode < 200 || resp.StatusCode > 999) { // net/http lets it pass
		_ = resp.Body.Close()
		err = outcome.ErrAnswer
	}
	if err != nil {
		body.stop()
		last.Sent = body.sent.Load()
		x.detach(u)
		e := outcome.WorkerEnd(err)
		ok, _ := upstream.Unreachable(err)
		ran := body.begun() || !notRun(err) // a verdict is about another connection
		if !ok && w.Asks.Load() && x.fault.Get() == outcome.NotEnded {
			if why := w.Verdict(ctx); why != nil {
				ok, err = true, why
			}
		}
		if ok {
			e = outcome.WorkerUnreachable
		}
		return x.broke(e, err, ran)
	}
	x.answering()
	x.take(resp)
	last.Status = resp.StatusCode
	n := 0
	if most := c.st.refusalsOf(resp.StatusCode); most > 0 {
		x.awaitMore()
		n, _ = io.ReadFull(resp.Body, x.bufs.up[:most]) // what breaks here breaks again
		last.Read += int64(n)
		if r := c.st.refusal(resp.StatusCode, x.bufs.up[:n]); r != nil {
			body.stop()
			last.Sent = body.sent.Load()
			if r.inside {
				more, _ := io.ReadFull(resp.Body, x.bufs.up[n:min(n+maxTold, len(x.bufs.up))]) // the cause
				x.detach(u)
				_ = resp.Body.Close()
				return x.toldBy(r, x.bufs.up[:n+more])
			}
			if (!x.upload.begun || x.upload.gather()) && x.refusedBy(r, x.bufs.up[:n]) {
				x.detach(u)
				_ = resp.Body.Close()
				return true, false
			}
		}
	}
	if mode == bodyFlow && !body.endsWithin(earlyAnswer) {
		x.req.Close = true // the answer came before the body's end: say that this is the last
	}
	x.allowPage()
	err = x.forwardHTTP2(resp, n)
	_ = resp.Body.Close()
	body.stop()
	last.Sent = body.sent.Load()
	x.detach(u)
	x.settle(err)
	if !x.upload.begun {
		x.client.closed(true)
	}
	return false, err == nil && !x.req.Close
}

// request makes what net/http sends of the head that other workers would get, with
// body if it flows.
func (x *exchange) request(ctx context.Context, w *upstream.Worker, t *target, mode bodyMode, body *flowing) (*http.Request, error) {
	kept := mode == bodyKept
	b := x.appendRequest(x.bufs.out[:0], t, w, mode)
	x.bufs.out = b
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return nil, err
	}
	req = req.WithContext(ctx)
	req.RequestURI = ""
	req.URL.Scheme, req.URL.Host = "http", w.Host
	if w.TLS {
		req.URL.Scheme = "https"
	}
	req.Header.Del("Expect")
	if x.req.Trailers {
		req.Header.Set("TE", "trailers") // gRPC wants it
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "") // do not let net/http add its own
	}
	body.req, body.head = req, int64(len(b))
	switch {
	case kept:
		raw := x.appendBody(nil)
		if x.req.Chunked {
			again := append(append([]byte(nil), b...), raw...)
			whole, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(again)))
			if err != nil {
				return nil, err
			}
			if raw, err = io.ReadAll(whole.Body); err != nil {
				return nil, err
			}
			req.Trailer = whole.Trailer
		}
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
		req.Body, _ = req.GetBody()
		body.kept = int64(len(raw))
		if req.ContentLength = int64(len(raw)); len(req.Trailer) > 0 {
			req.ContentLength = -1
		}
	case mode == bodyFlow:
		x.upload.begin(x)
		req.Body = body
	default:
		req.Body = http.NoBody
	}
	return req, nil
}

// hints passes informational answers on, until there is an answer.
type hints struct {
	x    *exchange
	mu   sync.Mutex
	over bool
}

func (h *hints) pass(status int, header textproto.MIMEHeader) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || status <= http.StatusSwitchingProtocols { // the one was said, the other cannot be
		return nil
	}
	x := h.x
	x.take(&http.Response{StatusCode: status, Header: http.Header(header), ContentLength: -1})
	if !x.interim() {
		return errClient
	}
	return nil
}

// end waits until none is under way.
func (h *hints) end() {
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
}

// take makes the answer that net/http has read the one in resp.
func (x *exchange) take(resp *http.Response) {
	x.begin(resp.StatusCode)
	x.resp.Length = resp.ContentLength
	for name, values := range resp.Header {
		for _, v := range values {
			x.resp.Fields = append(x.resp.Fields, wire.NewField([]byte(name), []byte(v)))
		}
	}
}

// forwardHTTP2 passes the answer on: its head and n bytes of its body are here.
func (x *exchange) forwardHTTP2(resp *http.Response, n int) error {
	empty := !x.resp.HasBody(x.req.Method)
	if !empty && resp.ContentLength == 0 { // gRPC's errors are such, and must be one frame
		_, err := resp.Body.Read(x.bufs.up)
		empty = errors.Is(err, io.EOF) && len(resp.Trailer) == 0
	}
	if empty {
		x.head(framedNone)
		return taken(x.client.flush())
	}
	if x.resp.Length > 0 && len(resp.Trailer) == 0 {
		x.head(framedLength)
	} else {
		x.head(framedUnknown)
	}
	x.slow()
	for {
		x.touch(outcome.OnClient)
		if n > 0 && !x.data(x.bufs.up[:n], false) || !x.client.flush() {
			return errClient
		}
		x.awaitMore()
		var err error
		n, err = resp.Body.Read(x.bufs.up)
		if x.rec.Last().Read += int64(n); err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %w", errCutOff, err)
		}
		x.touch(outcome.OnClient)
		defer x.moving.Down.Store(outcome.OnNobody)
		if n > 0 && !x.data(x.bufs.up[:n], false) {
			return errClient
		}
		var ok bool
		if lines := trailerLines(resp.Trailer); lines != nil {
			ok = x.client.trailers(lines)
		} else {
			ok = x.data(nil, true)
		}
		return taken(ok && x.client.flush())
	}
}

func trailerLines(h http.Header) (lines []byte) {
	for name, values := range h {
		for _, v := range values {
			f := wire.NewField([]byte(name), []byte(v))
			lines = appendField(lines, &f)
		}
	}
	return lines
}

// notRun says that an attempt failed before the worker can have seen the call.
func notRun(err error) bool {
	ok, _ := upstream.Unreachable(err)
	return ok || strings.Contains(err.Error(), "server closed idle connection")
}

// flowing is a request's body that net/http reads while the answer is awaited.
type flowing struct {
	x      *exchange
	req    *http.Request
	mu     sync.Mutex // held while it is read
	reads  bool       // it was read from
	whole  bool       // and to its end
	closed atomic.Bool
	over   chan struct{} // closed when it was read to its end, or cannot be

	head, kept int64        // how long the head is, as HTTP/1 has it, and a body that is kept
	sent       atomic.Int64 // of those, and of the body that flows
	reused     atomic.Bool  // the connection had carried calls before

	cutting sync.Mutex
	stopped bool // the call goes on without it, and is not to be touched
}

// Read implements io.Reader.
func (f *flowing) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed.Load() {
		return 0, io.ErrClosedPipe
	}
	f.reads = true
	up := &f.x.upload
	n, err := up.read(p)
	if err != nil && !f.whole {
		f.whole = errors.Is(err, io.EOF)
		select {
		case <-f.over:
		default:
			close(f.over)
		}
	}
	if errors.Is(err, io.EOF) {
		for name, value := range wire.Lines(up.lines) {
			if f.req.Trailer == nil {
				break // they were not announced: net/http cannot send them
			}
			f.req.Trailer.Add(string(name), string(value))
		}
	}
	f.sent.Add(int64(n))
	return n, err
}

// Close implements io.Closer.
func (f *flowing) Close() error {
	f.cutting.Lock()
	defer f.cutting.Unlock()
	if f.stopped {
		return nil
	}
	f.closed.Store(true)
	if f.mu.TryLock() { // nobody reads
		f.mu.Unlock()
	} else {
		f.x.upload.cut()
	}
	return nil
}

// stop ends the reading.
func (f *flowing) stop() {
	if f.req.Body == f {
		_ = f.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
	}
	f.cutting.Lock() // net/http may close it late
	f.stopped = true
	f.x.moving.Up.Store(outcome.OnNobody)
	f.cutting.Unlock()
}

// got notes over what connection the request goes.
func (f *flowing) got(info httptrace.GotConnInfo) { f.reused.Store(info.Reused) }

// wroteHead notes that the request's head was sent.
func (f *flowing) wroteHead() { f.sent.Store(f.head) }

// wrote notes that the worker has taken all of the request.
func (f *flowing) wrote(info httptrace.WroteRequestInfo) {
	if info.Err == nil {
		f.sent.Add(f.kept)
	}
	f.cutting.Lock()
	defer f.cutting.Unlock()
	if !f.stopped {
		f.x.moving.Up.Store(outcome.OnNobody)
	}
}

// endsWithin waits for the body's end at most for a time, and says whether it was read whole.
func (f *flowing) endsWithin(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-f.over:
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.whole
	case <-t.C:
		return false
	}
}

// begun says that the worker may have got some of it.
func (f *flowing) begun() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}
