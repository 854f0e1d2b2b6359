package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rota-project/rota/gateway/internal/body"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/peer"
	"github.com/rota-project/rota/gateway/internal/sock"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// Handler answers calls on net/http: for programs that have a server of their
// own. It knows the same paths as Serve.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serveHTTP) }

func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	h := &handled{w: w, r: r, rc: http.NewResponseController(w)}
	at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr) // a server has set it
	h.g, h.client, h.peer, h.bufs = g, h, peer.New(r.RemoteAddr, at), getBuffers()
	h.peer.TLS, h.peer.Mounted = r.TLS != nil, true
	defer func() { putBuffers(h.bufs) }()
	var wrong *wire.Error
	if err := h.take(); err != nil && !errors.As(err, &wrong) {
		wrong = &wire.Error{Status: http.StatusBadRequest, Reason: err.Error()}
	}
	if !g.conns.add(h) {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	defer g.conns.remove(h)
	defer context.AfterFunc(r.Context(), h.abort)()
	keep := h.perform(wrong)
	h.stopReading()
	if !keep && !h.ended.Load() {
		panic(http.ErrAbortHandler) // the answer must not look whole
	}
}

// handled is a call that net/http has taken: the client of its exchange.
type handled struct {
	exchange
	w      http.ResponseWriter
	r      *http.Request
	rc     *http.ResponseController
	kept   []byte
	flow   body.Inflow
	unread bool        // the body was not read to its end
	lines  []byte      // trailers
	ended  atomic.Bool // the answer is whole
}

var _ client = (*handled)(nil)

// take makes a request of what net/http has read.
func (h *handled) take() error {
	size := len(h.r.Method) + len(h.r.RequestURI) + len(h.r.Host)
	for name, values := range h.r.Header {
		for _, v := range values {
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	if size > h.g.state.Load().cfg.Limits.HeadBytes {
		return errHeadTooLarge
	}
	h.req.Begin()
	for _, p := range [][2]string{{":method", h.r.Method}, {":scheme", "http"}, {":path", h.r.URL.RequestURI()}, {":authority", h.r.Host}} {
		if p[1] != "" {
			if err := h.req.Add([]byte(p[0]), []byte(p[1])); err != nil {
				return err
			}
		}
	}
	if err := h.req.Take(h.r.Header); err != nil {
		return err
	}
	h.req.Length = h.r.ContentLength
	h.req.Chunked = h.r.ContentLength < 0
	if h.r.Body == nil || h.r.Body == http.NoBody {
		h.req.Length, h.req.Chunked = -1, false
		if h.r.Header.Get("Content-Length") == "0" {
			h.req.Length = 0
		}
	}
	return nil
}

// sweep and retire implement served.
func (h *handled) sweep(now int64) {
	over, slow := h.exchange.sweep(now)
	if slow && !h.ended.Load() { // after its end net/http may have lost the connection
		_ = h.rc.SetReadDeadline(sock.LongAgo)
	}
	if over {
		h.abort()
	}
}

func (h *handled) retire() {}

func (h *handled) abort() {
	h.exchange.abort()
	if !h.ended.Load() {
		_ = h.rc.SetReadDeadline(sock.LongAgo)
		_ = h.rc.SetWriteDeadline(sock.LongAgo)
	}
}

// body implements client.
func (h *handled) body() (mode bodyMode, err error) {
	switch {
	case h.req.Length <= 0 && !h.req.Chunked:
		return bodyNone, nil
	case h.req.Continue, h.req.Chunked, h.req.Length > int64(h.call.st.cfg.Limits.ReplayBytes), !endsReads(h.w):
		return bodyFlow, nil
	}
	h.kept = make([]byte, h.req.Length)
	h.feed(outcome.OnClient)
	n, err := io.ReadFull(h.r.Body, h.kept)
	if h.rec.In = int64(n); err != nil {
		return 0, body.CutShort(err)
	}
	return bodyKept, nil
}

// appendKept implements client.
func (h *handled) appendKept(b []byte) []byte { return append(b, h.kept...) }

// open implements client. Answers may come before the body has ended.
func (h *handled) open() {
	_ = h.rc.EnableFullDuplex()
	h.flow.Begin(h.r.Body)
}

// read implements client.
func (h *handled) read(p []byte) (int, error) {
	n, err := h.flow.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && h.r.ProtoMajor == 1 && strings.Contains(err.Error(), "chunk") {
		err = &wire.Error{Status: 400, Reason: "malformed chunk"} // net/http has no type for it
	}
	if errors.Is(err, io.EOF) {
		for name, values := range h.r.Trailer {
			for _, v := range values {
				if lines, err := wire.AppendTrailer(h.lines, []byte(strings.ToLower(name)), []byte(v)); err == nil {
					h.lines = lines
				}
			}
		}
	}
	return n, err
}

// trailer implements client.
func (h *handled) trailer() []byte { return h.lines }

// cut implements client.
func (h *handled) cut() { h.flow.Leave(true) }

// resume implements client.
func (h *handled) resume() bool {
	h.flow.Leave(false)
	return true
}

// closed implements client.
func (h *handled) closed(whole bool) {
	if h.unread = !whole; whole {
		_ = h.rc.SetReadDeadline(time.Time{})
	}
}

// stopReading ends the reading of a body that nobody wants the rest of, when the call has
// its answer: net/http takes a read that fails for the client's end, and without a
// deadline would read on and stumble over it.
func (h *handled) stopReading() {
	if !h.unread {
		return
	}
	if h.ended.Load() {
		_ = h.rc.Flush()
	}
	if h.rc.SetReadDeadline(sock.LongAgo) != nil {
		panic(http.ErrAbortHandler) // only the end of the connection ends the read
	}
	h.flow.Stop()
}

// endsReads says whether a read of the body can be cut short by a deadline. Middleware may
// hide that behind a ResponseWriter without Unwrap.
func endsReads(w http.ResponseWriter) bool {
	for {
		switch is := w.(type) {
		case interface{ SetReadDeadline(time.Time) error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = is.Unwrap()
		default:
			return false
		}
	}
}

// interim implements client.
func (h *handled) interim() bool {
	if h.resp.Status == http.StatusContinue {
		return true // net/http says it when the body is read
	}
	h.copyHeader()
	h.w.WriteHeader(h.resp.Status)
	clear(h.w.Header())
	return !h.left()
}

func (h *handled) copyHeader() {
	for i := range h.resp.Fields {
		if f := &h.resp.Fields[i]; !f.Drop && f.Kind != wire.ContentLength {
			name := http.CanonicalHeaderKey(string(f.Name))
			h.w.Header()[name] = append(h.w.Header()[name], string(f.Value))
		}
	}
}

// head implements client.
func (h *handled) head(f framing) {
	h.copyHeader()
	if h.resp.Length >= 0 && h.resp.Status != 204 && f != framedUnknown {
		h.w.Header().Set("Content-Length", string(h.appendLength(nil)))
	}
	if h.req.Close && h.r.ProtoMajor == 1 { // of the body some is left
		h.w.Header().Set("Connection", "close")
	}
	h.w.WriteHeader(h.resp.Status)
	h.ended.Store(f == framedNone)
}

// data implements client.
func (h *handled) data(p []byte, last bool) bool {
	_, err := h.w.Write(p)
	h.ended.Store(last && err == nil)
	return err == nil
}

// trailers implements client.
func (h *handled) trailers(lines []byte) bool {
	for name, value := range wire.Lines(lines) {
		h.w.Header().Add(http.TrailerPrefix+string(name), string(value))
	}
	h.ended.Store(true)
	return true
}

// flush implements client. The end of the answer flushes by itself.
func (h *handled) flush() bool {
	return h.ended.Load() || h.rc.Flush() == nil
}

// refuse implements client.
func (h *handled) refuse(r *refusal) bool { return h.say(r) }

// upgrade implements client.
func (h *handled) upgrade(u *upstream.Conn, n int) {
	h.ended.Store(true)
	nc, rw, err := h.rc.Hijack()
	if err != nil {
		h.lostUpgrade(u)
		return
	}
	defer nc.Close() //nolint:errcheck // it has ended
	b := h.appendResponse(h.bufs.out[:0])
	b = append(b, "Connection: Upgrade\r\n\r\n"...)
	b = append(b, h.bufs.up[h.respHead:n]...)
	h.rec.Out += int64(n - h.respHead)
	h.tunnel(nc, u, b, buffered(rw.Reader))
}

// buffered is what a reader has read and not given out.
func buffered(r *bufio.Reader) []byte {
	b, _ := r.Peek(r.Buffered()) // it is there
	return b
}

// gone implements client: the request's context tells.
func (h *handled) gone() bool { return false }
