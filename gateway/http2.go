package gateway

import (
	"errors"
	"runtime"
	"sync"

	"github.com/rota-project/rota/gateway/internal/h2"
	"github.com/rota-project/rota/gateway/internal/outcome"
	"github.com/rota-project/rota/gateway/internal/sock"
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
	reading  sync.Cond // less is unsent: the reader may go on
	flushing bool
	crowded  bool // somebody waits until less is unsent
	spare    []byte
	broken   bool  // nothing can be sent any more
	writing  int64 // since when a write is under way, 0 if none is
	began    int64 // since when a head is incomplete, 0 if none is
	quiet    int64 // since when there is no call
	retiring uint8 // steps of a shutdown
	carried  int   // calls

	sock.Borrowed // by the reader, while there is something in it
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
	// crowdedMost is how much lies unsent before no more is read.
	crowdedMost = 256 << 10
	// flushMost is how many times one goroutine writes before another takes over.
	flushMost = 4
	// joinMost is how many times it lets others run before, as long as they have
	// something to send.
	joinMost = 3
	// keepUnsent is the largest buffer that a quiet connection keeps.
	keepUnsent = 4 << 10
)

func newMuxed(c *conn) *muxed {
	l := &c.g.state.Load().cfg.Limits
	m := &muxed{c: c, g: c.g, quiet: c.g.now(), began: c.g.now()}
	m.sess = h2.New(h2.Config{Streams: maxStreams, HeadBytes: l.HeadBytes, StreamWindow: streamWindow, ConnWindow: connWindow})
	m.empty.L, m.reading.L = &m.mu, &m.mu
	return m
}

// serve reads frames until the connection ends, and waits for its calls.
func (m *muxed) serve(early []byte) {
	n := copy(m.Lend(), early)
	err := m.read(n)
	m.mu.Lock()
	if err != nil && !m.broken {
		m.loseAll()
		m.sess.Fail(err)
		for (len(m.sess.Out) > 0 || m.flushing) && !m.broken { // the client is to hear why
			if m.flushing {
				m.crowded = true
				m.reading.Wait()
			}
			m.flushLocked()
		}
	}
	m.mu.Unlock()
	m.abort()
	m.mu.Lock()
	for len(m.live) > 0 {
		m.empty.Wait()
	}
	m.mu.Unlock()
	if m.Buf != nil {
		m.TakeBack()
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
		buf := *m.Buf
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
		case m.began == 0 || at > 0 && !m.sess.Busy(): // the incomplete frame is another one
			m.began = m.g.now()
		}
		m.flushLocked()
		for len(m.sess.Out) > crowdedMost && !m.broken { // who does not read may not ask either
			if m.flushing {
				m.crowded = true
				m.reading.Wait()
			}
			m.flushLocked()
		}
		m.mu.Unlock()
		var k int
		var err error
		if n == 0 {
			m.TakeBack()
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
				s.lost(outcome.ClientMalformed)
				return nil // it ends the call only
			}
		}
		s.ended = true
	case h2.Gone:
		if ev.Broken {
			s.lost(outcome.ClientMalformed)
		} else {
			s.lost(outcome.ClientLeft)
		}
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
			s.unheard(err)
			s.release()
			return m.sess.Refuse(ev.ID, h2.ProtocolError)
		}
	}
	m.sess.Accept(ev, &s.st, s.req.Length)
	m.carried++
	if most := m.g.state.Load().cfg.Limits.ConnectionCalls; most > 0 && m.carried >= most && m.retiring == 0 {
		m.sess.Warn()
		m.retiring = 1 // sweep does the rest
	}
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
	m.reading.Broadcast()
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
	for had, n := 0, 0; len(m.live) > 1 && had < len(m.sess.Out) && n < joinMost; n++ { // calls that are ready to answer may join
		had = len(m.sess.Out)
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
	m.reading.Broadcast()
	m.loseAll()
}

// loseAll ends all calls; m.mu is held.
func (m *muxed) loseAll() {
	for _, s := range m.live {
		s.lost(outcome.NotEnded)
		s.cond.Broadcast()
	}
}

// sweep cuts off what has taken too long.
func (m *muxed) sweep(now int64) {
	cfg := &m.g.state.Load().cfg
	m.mu.Lock()
	m.sess.Tick()
	for _, s := range m.live {
		over, slow := s.sweep(now)
		if slow {
			s.cutOff = true
			s.cond.Broadcast()
		}
		if over {
			m.sess.Reset(&s.st, h2.Cancel)
			s.lost(outcome.NotEnded)
			s.cond.Broadcast()
		}
	}
	over := m.writing != 0 && now-m.writing > int64(cfg.Defaults.IdleTimeout) ||
		m.began != 0 && now-m.began > int64(cfg.Limits.HeadTimeout)
	old := m.retiring > 0 || m.c.aged(now)
	idle := len(m.live) == 0 && (m.retiring > 1 || now-m.quiet > int64(cfg.Limits.IdleTimeout))
	m.mu.Unlock()
	switch {
	case over:
		m.c.abort()
	case idle, old:
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
