package gateway

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/rota-project/rota/gateway/internal/h2"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/upstream"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// stream is one call on a muxed connection: the client of its exchange.
type stream struct {
	exchange
	m         *muxed
	st        h2.Stream
	at        int // in live
	malformed *wire.Error

	// Guarded by the connection's lock.
	cond   sync.Cond
	in     []byte // what has come of the body
	taken  int    // how much of it was read
	end    []byte // trailers
	ended  bool
	lapsed bool // the client has, or the call was ended
	cutOff bool // who reads the body shall stop

	kept []byte // a body that is kept
}

var streamPool = sync.Pool{New: func() any { return &stream{} }}

func newStream(m *muxed) *stream {
	s, _ := streamPool.Get().(*stream) // it holds nothing else
	s.m, s.g, s.peer, s.client = m, m.g, m.c.peer, s
	s.cond.L = &m.mu
	s.st.Owner = s
	s.bufs = getBuffers()
	return s
}

// release gives back what the call has used. It is the end of the stream.
func (s *stream) release() {
	putBuffers(s.bufs)
	s.again()
	s.bufs, s.malformed, s.kept, s.peeked, s.pageOrigin = nil, nil, nil, nil, nil
	s.in, s.end, s.taken = s.in[:0], s.end[:0], 0
	if cap(s.in) > inSize {
		s.in = nil
	}
	s.ended, s.lapsed, s.cutOff = false, false, false
	s.call = call{rnd: s.call.rnd}
	s.rec.Begin(0)
	streamPool.Put(s)
}

// take makes a request of a header list.
func (s *stream) take(ev *h2.Event) error {
	s.bufs.in = append(s.bufs.in[:0], ev.Head...)
	head := s.bufs.in
	s.bufs.in = head[:cap(head)]
	s.req.Begin()
	s.ended = ev.End
	if ev.TooLarge {
		return errHeadTooLarge
	}
	at := 0
	for _, f := range ev.Fields {
		if err := s.req.Add(head[at:f.Name:f.Name], head[f.Name:f.Value:f.Value]); err != nil {
			return err
		}
		at = f.Value
	}
	if err := s.req.End(); err != nil {
		return err
	}
	if s.ended {
		if s.req.Length > 0 {
			return &wire.Error{Status: 400, Reason: "a body that is not there"}
		}
		return nil
	}
	s.req.Chunked = s.req.Length < 0
	s.kept = s.bufs.in[len(head):len(head)]
	return nil
}

func (s *stream) serve() {
	s.perform(s.malformed)
	s.m.leave(s)
}

// lost notes that nobody wants the answer any more, and why: the connection's end
// if nothing else.
func (s *stream) lost(e outcome.End) {
	s.lapsed = true
	if e != outcome.NotEnded {
		s.fault.Note(e)
	}
	s.abort()
}

var _ client = (*stream)(nil)

// body implements client.
func (s *stream) body() (mode bodyMode, err error) {
	replay := s.call.st.cfg.Limits.ReplayBytes
	switch {
	case s.req.Length < 0 && !s.req.Chunked || s.req.Length == 0:
		return bodyNone, nil
	case s.req.Continue, s.req.Length > int64(replay):
		return bodyFlow, nil
	case s.req.Length < 0:
		s.m.mu.Lock()
		here := s.ended && len(s.in) <= replay
		if here && len(s.end) == 0 { // its length is known after all
			s.req.Chunked, s.req.Length = false, int64(len(s.in))
		}
		s.m.mu.Unlock()
		if !here {
			return bodyFlow, nil
		}
	}
	b := slices.Grow(s.kept, int(max(s.req.Length, 0))+1)
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, inSize)
		}
		s.feed(outcome.OnClient)
		n, err := s.read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		s.rec.In = int64(len(b))
		switch {
		case errors.Is(err, io.EOF):
			s.kept = b
			return bodyKept, nil
		case err != nil:
			return 0, err
		}
	}
}

// appendKept implements client.
func (s *stream) appendKept(b []byte) []byte {
	if !s.req.Chunked {
		return append(b, s.kept...)
	}
	return wire.AppendLast(wire.AppendChunk(b, s.kept), s.end)
}

// open implements client.
func (s *stream) open() {}

// read implements client.
func (s *stream) read(p []byte) (int, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for s.taken == len(s.in) && !s.ended && !s.lapsed && !s.cutOff {
		s.cond.Wait()
	}
	n := copy(p, s.in[s.taken:])
	s.taken += n
	s.m.sess.Consume(&s.st, int64(n))
	switch whole := s.taken == len(s.in); {
	case whole && s.ended:
		return n, io.EOF
	case s.lapsed || s.cutOff:
		return n, io.ErrUnexpectedEOF
	case whole:
		s.in, s.taken = s.in[:0], 0
	}
	s.m.flushLocked()
	return n, nil
}

// trailer implements client.
func (s *stream) trailer() []byte { return s.end }

// cut implements client.
func (s *stream) cut() {
	s.m.mu.Lock()
	s.cutOff = true
	s.cond.Broadcast()
	s.m.mu.Unlock()
}

// resume implements client.
func (s *stream) resume() bool {
	s.m.mu.Lock()
	s.cutOff = false
	s.m.mu.Unlock()
	return true
}

// closed implements client.
func (s *stream) closed(bool) {}

// interim implements client.
func (s *stream) interim() bool {
	s.send(s.appendHead(s.bufs.out[:0]), false)
	return s.flush()
}

// head implements client.
func (s *stream) head(f framing) {
	b := s.appendHead(s.bufs.out[:0])
	if r := &s.resp; r.Length >= 0 && r.Status != 204 {
		b = h2.AppendLength(b, r.Length)
	}
	s.bufs.out = b
	s.send(b, f == framedNone)
}

func (s *stream) appendHead(b []byte) []byte {
	b = h2.AppendStatus(b, s.resp.Status)
	dated := s.resp.Status < 200
	for i := range s.resp.Fields {
		f := &s.resp.Fields[i]
		dated = dated || f.Kind == wire.Date
		if !f.Drop && f.Kind != wire.ContentLength {
			b = h2.AppendField(b, f.Name, f.Value)
		}
	}
	if !dated {
		b = h2.AppendField(b, dateName, s.g.date())
	}
	return b
}

var dateName = []byte("date")

func (s *stream) send(block []byte, end bool) {
	s.m.mu.Lock()
	s.m.sess.Head(&s.st, block, end)
	s.m.mu.Unlock()
}

// data implements client.
func (s *stream) data(p []byte, last bool) bool {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		n := min(len(p), m.sess.Room(&s.st))
		switch {
		case s.lapsed || m.broken:
			return false
		case len(p) == 0:
			if last {
				m.sess.Data(&s.st, nil, true)
			}
			return true
		case n > 0 && len(m.sess.Out) < unsentMost:
			m.sess.Data(&s.st, p[:n], last && n == len(p))
			if p = p[n:]; len(p) == 0 {
				return true
			}
		case len(m.sess.Out) > 0 && !m.flushing:
			m.flushLocked()
		default:
			m.crowded = true
			s.cond.Wait()
		}
	}
}

// trailers implements client.
func (s *stream) trailers(lines []byte) bool {
	b := s.bufs.out[:0]
	for name, value := range wire.Lines(lines) {
		b = h2.AppendField(b, name, value)
	}
	s.bufs.out = b
	s.send(b, true)
	return true
}

// flush implements client. What ends the answer is flushed when the call has
// left its worker.
func (s *stream) flush() bool {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if !s.st.Closed() {
		m.flushLocked()
	}
	return !s.lapsed && !m.broken
}

// refuse implements client.
func (s *stream) refuse(r *refusal) bool { return s.say(r) }

// upgrade implements client: there is no such thing here, and nobody has asked.
func (s *stream) upgrade(u *upstream.Conn, _ int) { s.lostUpgrade(u) }

// gone implements client: the protocol tells.
func (s *stream) gone() bool { return false }
