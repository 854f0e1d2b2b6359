package gateway

import (
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/rota-project/rota/gateway/internal/h2"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// muxed is a client connection that speaks HTTP/2. The connection's goroutine
// reads it; each call is a stream with a goroutine of its own. Whoever has
// something to send puts it into the session and flushes: one writes at a time,
// and takes along what the others have put there.
type muxed struct {
	c *conn
	g *Gateway

	mu       sync.Mutex // guards what follows
	sess     *h2.Session
	live     []*stream
	empty    sync.Cond // live has become empty
	flushing bool
	crowded  bool // somebody waits until less is unsent
	spare    []byte
	broken   bool  // nothing can be sent any more
	writing  int64 // since when a write is under way, 0 if none is
	began    int64 // since when a head is incomplete, 0 if none is
	quiet    int64 // since when there is no call
	retiring uint8 // steps of a shutdown

	buf *[]byte // of the reader, while there is something in it
}

const (
	// maxStreams is how many calls one connection may have at once.
	maxStreams = 128
	// streamWindow and connWindow are how much of bodies may lie here, unread by
	// workers, of one call and of all of a connection.
	streamWindow = 256 << 10
	connWindow   = 1 << 20
	// unsentMost is how much lies unsent before those who send have to wait.
	unsentMost = 64 << 10
	// flushMost is how many times one goroutine writes before another takes over.
	flushMost = 4
	// keepUnsent is the largest buffer that a quiet connection keeps.
	keepUnsent = 4 << 10
)

func newMuxed(c *conn) *muxed {
	l := &c.g.state.Load().cfg.Limits
	m := &muxed{c: c, g: c.g, quiet: c.g.now(), began: c.g.now()}
	m.sess = h2.New(h2.Config{Streams: maxStreams, HeadBytes: l.HeadBytes, StreamWindow: streamWindow, ConnWindow: connWindow})
	m.empty.L = &m.mu
	return m
}

// lend and takeBack are what Idle gets its buffer by.
func (m *muxed) lend() []byte {
	m.buf = getPumpBuffer()
	return *m.buf
}

func (m *muxed) takeBack() {
	pumpBuffers.Put(m.buf)
	m.buf = nil
}

// serve reads frames until the connection ends, and waits for its calls.
func (m *muxed) serve(early []byte) {
	n := copy(m.lend(), early)
	err := m.read(n)
	m.mu.Lock()
	if err != nil && !m.broken {
		m.sess.Fail(err)
		m.flushLocked()
	}
	m.mu.Unlock()
	m.abort()
	m.mu.Lock()
	for len(m.live) > 0 {
		m.empty.Wait()
	}
	m.mu.Unlock()
	if m.buf != nil {
		m.takeBack()
	}
	if err != nil {
		m.c.bufs = getBuffers()
		m.c.linger()
	}
}

// read reads frames, n bytes of which are in the buffer. An error is one that the
// client has to be told of.
func (m *muxed) read(n int) error {
	for {
		buf := *m.buf
		at := 0
		m.mu.Lock()
		for {
			var ev h2.Event
			k, err := m.sess.Next(buf[at:n], &ev)
			if err == nil {
				err = m.event(&ev)
			}
			if err != nil {
				m.mu.Unlock()
				return err
			}
			if k == 0 {
				break
			}
			at += k
		}
		n = copy(buf, buf[at:n])
		switch {
		case !m.sess.Busy() && (n == 0 || n > 3 && buf[3] == 0): // a piece of a body may take its time
			m.began = 0
		case m.began == 0:
			m.began = m.g.now()
		}
		m.flushLocked()
		m.mu.Unlock()
		var k int
		var err error
		if n == 0 {
			m.takeBack()
			if k, err = m.c.Idle(m); err != nil {
				return nil //nolint:nilerr // the client has gone: there is nobody to tell
			}
		} else if k, err = m.c.Read(buf[n:]); err != nil {
			return nil //nolint:nilerr // as above
		}
		n += k
	}
}

// event acts upon what a frame has brought.
func (m *muxed) event(ev *h2.Event) error {
	if ev.Kind == h2.Request {
		return m.request(ev)
	}
	if ev.Stream == nil {
		if ev.Kind == h2.Room {
			m.wakeAll()
		}
		return nil
	}
	s, _ := ev.Stream.Owner.(*stream) // request has set it
	switch ev.Kind {
	case h2.Data:
		if s.taken > 0 && len(s.in)+len(ev.Data) > cap(s.in) {
			s.in, s.taken = s.in[:copy(s.in, s.in[s.taken:])], 0
		}
		s.in = append(s.in, ev.Data...)
		s.ended = s.ended || ev.End
	case h2.Trailers:
		for name, value := range ev.All() {
			var err error
			if s.end, err = wire.AppendTrailer(s.end, name, value); err != nil {
				m.sess.Reset(ev.Stream, h2.ProtocolError)
				s.lost()
				return nil //nolint:nilerr // it ends the call only
			}
		}
		s.ended = true
	case h2.Gone:
		s.lost()
	case h2.None, h2.Request, h2.Room:
	}
	s.cond.Broadcast()
	return nil
}

// request begins a call.
func (m *muxed) request(ev *h2.Event) error {
	s := newStream(m)
	if err := s.take(ev); err != nil {
		m.g.malformed.Add(1)
		if !errors.As(err, &s.malformed) || s.malformed.Status == 400 {
			s.release()
			return m.sess.Refuse(ev.ID, h2.ProtocolError)
		}
	}
	m.sess.Accept(ev, &s.st, s.req.Length)
	s.at = len(m.live)
	m.live = append(m.live, s)
	go s.serve()
	return nil
}

// leave takes a call that is over out of the connection.
func (m *muxed) leave(s *stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !s.st.Closed() { // the answer has broken off, and must not look whole
		m.sess.Reset(&s.st, h2.InternalError)
	}
	m.sess.Release(&s.st, int64(len(s.in)-s.taken))
	last := m.live[len(m.live)-1]
	m.live[s.at], last.at = last, s.at
	m.live[len(m.live)-1] = nil
	if m.live = m.live[:len(m.live)-1]; len(m.live) == 0 {
		m.quiet = m.g.now()
		m.empty.Broadcast()
	}
	s.release()
	m.flushLocked()
}

func (m *muxed) wakeAll() {
	for _, s := range m.live {
		s.cond.Broadcast()
	}
}

// flush sends what is there to be sent, if nobody else does.
func (m *muxed) flush() {
	m.mu.Lock()
	m.flushLocked()
	m.mu.Unlock()
}

func (m *muxed) flushLocked() {
	if m.flushing || m.broken || len(m.sess.Out) == 0 {
		return
	}
	m.flushing = true
	if len(m.live) > 1 { // calls that are ready to answer may join
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
	}
	for range flushMost {
		if len(m.sess.Out) == 0 || m.broken {
			break
		}
		out := m.sess.Out
		m.sess.Out, m.spare = m.spare[:0], nil
		m.writing = m.g.now()
		m.mu.Unlock()
		_, err := m.c.Write(out)
		m.mu.Lock()
		m.writing, m.spare = 0, out
		if err != nil {
			m.broken = true
			m.crowded = true
		}
		if m.crowded {
			m.crowded = false
			m.wakeAll()
		}
	}
	m.flushing = false
	if len(m.sess.Out) > 0 && !m.broken {
		go m.flush() // who came to send its own has sent enough for others
	}
	if len(m.live) == 0 && cap(m.spare)+cap(m.sess.Out) > 2*keepUnsent {
		m.spare = nil
		if len(m.sess.Out) == 0 {
			m.sess.Out = nil
		}
	}
}

// abort ends all calls at once.
func (m *muxed) abort() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = true
	for _, s := range m.live {
		s.lost()
		s.cond.Broadcast()
	}
}

// sweep cuts off what has taken too long.
func (m *muxed) sweep(now int64) {
	cfg := &m.g.state.Load().cfg
	m.mu.Lock()
	m.sess.Tick()
	for _, s := range m.live {
		if s.exchange.sweep(now) {
			m.sess.Reset(&s.st, h2.Cancel)
			s.lost()
			s.cond.Broadcast()
		}
	}
	over := m.writing != 0 && now-m.writing > int64(cfg.Defaults.IdleTimeout) ||
		m.began != 0 && now-m.began > int64(cfg.Limits.HeadTimeout)
	idle := len(m.live) == 0 && now-m.quiet > int64(cfg.Limits.IdleTimeout)
	m.mu.Unlock()
	switch {
	case over:
		m.c.abort()
	case idle:
		m.retire()
	default:
		m.flushAside()
	}
}

// flushAside flushes without waiting.
func (m *muxed) flushAside() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sess.Out) > 0 && !m.flushing && !m.broken {
		m.g.wg.Go(m.flush)
	}
}

// retire ends the connection step by step: it is called again and again. The
// client learns that no more calls are wanted; then, when it has had time to
// hear, which was the last; and when that is over, that is the end.
func (m *muxed) retire() {
	m.mu.Lock()
	over := false
	switch m.retiring {
	case 0:
		m.sess.Warn()
	case 1:
		m.sess.Leave()
	default:
		over = len(m.live) == 0 && len(m.sess.Out) == 0 && !m.flushing
	}
	m.retiring = min(m.retiring+1, 2)
	m.mu.Unlock()
	if over {
		m.c.abort()
		return
	}
	m.flushAside()
}

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
	s.bufs, s.malformed, s.kept, s.peeked = nil, nil, nil, nil
	s.in, s.end, s.taken = s.in[:0], s.end[:0], 0
	if cap(s.in) > inSize {
		s.in = nil
	}
	s.ended, s.lapsed, s.cutOff = false, false, false
	s.call = call{rnd: s.call.rnd}
	streamPool.Put(s)
}

// take makes a request of a header list.
func (s *stream) take(ev *h2.Event) error {
	head := append(s.bufs.in[:0], ev.Head...)
	s.bufs.in = head[:cap(head)]
	s.req.Begin()
	s.ended = ev.End
	if ev.TooLarge {
		return &wire.Error{Status: 431, Reason: "request head too large"}
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
	if s.malformed != nil {
		s.req.Begin()
		s.answer(&refusal{status: s.malformed.Status, text: s.malformed.Reason})
	} else {
		s.serveCall()
	}
	s.m.leave(s)
}

// lost notes that nobody wants the answer any more.
func (s *stream) lost() {
	s.lapsed = true
	s.exchange.abort()
}

var _ client = (*stream)(nil)

// body implements client.
func (s *stream) body() (mode bodyMode, ok bool) {
	replay := s.call.st.cfg.Limits.ReplayBytes
	switch {
	case s.req.Length < 0 && !s.req.Chunked || s.req.Length == 0:
		return bodyNone, true
	case s.req.Continue, s.req.Length > int64(replay):
		return bodyFlow, true
	case s.req.Length < 0:
		s.m.mu.Lock()
		here := s.ended && len(s.in) <= replay
		if here && len(s.end) == 0 { // its length is known after all
			s.req.Chunked, s.req.Length = false, int64(len(s.in))
		}
		s.m.mu.Unlock()
		if !here {
			return bodyFlow, true
		}
	}
	b := slices.Grow(s.kept, int(max(s.req.Length, 0))+1)
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, inSize)
		}
		s.touch()
		n, err := s.read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			s.kept = b
			s.moved.Store(0)
			return bodyKept, errors.Is(err, io.EOF)
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

// closed implements client.
func (s *stream) closed(bool) {}

// interim implements client.
func (s *stream) interim([]byte) bool {
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
	for i := range s.resp.Fields {
		if f := &s.resp.Fields[i]; !f.Drop && f.Kind != wire.ContentLength {
			b = h2.AppendField(b, f.Name, f.Value)
		}
	}
	return b
}

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
func (s *stream) upgrade(u *upstream, _ int) { s.clientLeft(u) }

// gone implements client: the protocol tells.
func (s *stream) gone() bool { return false }
