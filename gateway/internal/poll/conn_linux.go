//go:build !386

package poll

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a TCP connection, a net.Conn as the runtime's. The runtime's poller
// waits for it, or a loop: see home.
type Conn struct {
	poller        *Poller
	local, remote net.Addr
	in, out       side

	// home changes with the using of both sides and mu held; so any of the three is
	// enough to look at it.
	home
	mu sync.Mutex // and guards the deadlines, and peeked

	peeked   result
	peekStep func(fd uintptr)

	// state is closedBit and, in the bits above, how many attempts use the descriptor
	// of the loop's, which is closed when none does any more.
	state atomic.Int64
}

// home is who waits for a connection: the runtime for tc, or, if it is nil, the loop
// for the descriptor.
type home struct {
	tc   *net.TCPConn
	raw  syscall.RawConn
	loop *loop
	fd   uintptr
}

const (
	closedBit = 1
	oneUser   = 2
)

// result is what a system call comes to.
type result struct {
	n     int
	errno syscall.Errno
}

// side is one direction.
type side struct {
	using sync.Mutex // who reads, or writes
	// What an attempt is about; it is here so that nothing is allocated.
	lender Lender // nil: p is there
	p      []byte
	result
	step func(fd uintptr) bool

	news chan struct{} // of one place: something may have changed; of the loop's only
	late atomic.Bool   // the deadline is over; of the loop's only
	// dry says that the last read took all that had come, so that there is news of
	// what comes next. Urgent data, of which HTTP has none, belies it: what came behind
	// it is read when more comes.
	dry bool
	// over says that the peer sends nothing more: there may be no more news, but
	// nobody has to wait either.
	over atomic.Bool

	deadline time.Time
	set      func(*net.TCPConn, time.Time) error // has the runtime keep it
	timer    *time.Timer                         // of the loop's only
}

func newConn(p *Poller, tc *net.TCPConn, raw syscall.RawConn) *Conn {
	c := &Conn{poller: p, local: tc.LocalAddr(), remote: tc.RemoteAddr(), home: home{tc: tc, raw: raw}}
	c.in.news, c.out.news = make(chan struct{}, 1), make(chan struct{}, 1)
	c.in.step, c.out.step = c.readStep, c.writeStep
	c.in.set, c.out.set = (*net.TCPConn).SetReadDeadline, (*net.TCPConn).SetWriteDeadline
	c.peekStep = func(fd uintptr) { c.peeked.n, c.peeked.errno = peek(fd) }
	return c
}

func (s *side) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// arm has the side keep its deadline while a loop waits.
func (c *Conn) arm(s *side) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	left := time.Until(s.deadline)
	s.late.Store(!s.deadline.IsZero() && left <= 0)
	switch {
	case s.late.Load():
		s.wake()
	case !s.deadline.IsZero():
		var timer *time.Timer
		timer = time.AfterFunc(left, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if s.timer == timer { // no other deadline has been set
				s.late.Store(true)
				s.wake()
			}
		})
		s.timer = timer
	}
}

// use keeps the loop's descriptor open until unuse.
func (c *Conn) use() error {
	for {
		s := c.state.Load()
		if s&closedBit != 0 {
			return net.ErrClosed
		}
		if c.state.CompareAndSwap(s, s+oneUser) {
			return nil
		}
	}
}

func (c *Conn) unuse() {
	if c.state.Add(-oneUser) == closedBit {
		c.loop.drop(c)
	}
}

// Close closes the connection. Who reads or writes is told net.ErrClosed.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.state.Or(closedBit)
	if was&closedBit != 0 {
		return net.ErrClosed
	}
	if c.tc != nil {
		return c.tc.Close()
	}
	for _, s := range []*side{&c.in, &c.out} {
		s.deadline = time.Time{}
		c.arm(s)
		s.wake()
	}
	if was == 0 {
		c.loop.drop(c)
	}
	return nil
}

// read makes the attempt that in is set to. The caller holds in.using.
func (c *Conn) read() (int, error) {
	s := &c.in
	if (c.tc == nil) != c.poller.crowded.Load() && c.out.using.TryLock() { // nobody writes just now
		c.move()
		c.out.using.Unlock()
	}
	var err error
	if c.tc != nil {
		err = c.raw.Read(s.step)
	} else {
		err = c.attempt(s)
	}
	if err != nil {
		return 0, err
	}
	if s.errno != 0 {
		return 0, os.NewSyscallError("read", s.errno)
	}
	if s.n == 0 {
		return 0, io.EOF
	}
	return s.n, nil
}

// attempt steps until that is done, and waits for news of the side between two
// steps, or before the first if there is nothing to be had without.
func (c *Conn) attempt(s *side) error {
	if err := c.use(); err != nil {
		return err
	}
	defer c.unuse()
	wait := s.dry && !s.over.Load()
	if !wait { // the step is to see for itself what there was news of
		select {
		case <-s.news:
		default:
		}
	}
	for {
		if c.state.Load()&closedBit != 0 {
			return net.ErrClosed
		}
		if s.late.Load() {
			s.dry = false // there may have been other news with that of the deadline
			return os.ErrDeadlineExceeded
		}
		if !wait && s.step(c.fd) {
			return nil
		}
		wait = false
		<-s.news
	}
}

// readStep reads what there is, and reports whether there was something.
func (c *Conn) readStep(fd uintptr) bool {
	s := &c.in
	p := s.p
	if s.lender != nil {
		p = s.lender.Lend()
	}
	s.n, s.errno = read(fd, p)
	none := s.errno == syscall.EAGAIN
	s.dry = none || s.errno == 0 && 0 < s.n && s.n < len(p) // see epoll(7), questions and answers
	if s.lender != nil && (none || s.errno != 0 || s.n == 0) {
		s.lender.TakeBack()
	}
	return !none
}

// writeStep writes what there is room for, and reports whether that was the rest.
func (c *Conn) writeStep(fd uintptr) bool {
	s := &c.out
	for s.n < len(s.p) {
		n, e := write(fd, s.p[s.n:])
		if s.errno = e; e != 0 {
			return e != syscall.EAGAIN
		}
		s.n += n
	}
	return true
}

// Read reads what there is, or waits for it.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s := &c.in
	s.using.Lock()
	defer s.using.Unlock()
	s.p = p
	n, err := c.read()
	s.p = nil
	return n, err
}

// Idle is Read into a buffer that is lent only when something may have come. On
// success it stays lent and holds n bytes.
func (c *Conn) Idle(l Lender) (n int, err error) {
	s := &c.in
	s.using.Lock()
	defer s.using.Unlock()
	s.lender = l
	n, err = c.read()
	s.lender = nil
	return n, err
}

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) {
	s := &c.out
	s.using.Lock()
	defer s.using.Unlock()
	s.p, s.n, s.errno = p, 0, 0
	var err error
	if c.tc != nil {
		err = c.raw.Write(s.step)
	} else {
		err = c.attempt(s)
	}
	s.p = nil
	if err == nil && s.errno != 0 {
		err = os.NewSyscallError("write", s.errno)
	}
	return s.n, err
}

// CloseWrite tells the peer that nothing more comes.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if lost := c.look(func(fd uintptr) {
		err = os.NewSyscallError("shutdown", syscall.Shutdown(int(fd), syscall.SHUT_WR))
	}); lost != nil {
		return lost
	}
	return err
}

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.until(t, &c.in, &c.out) }

// SetReadDeadline sets the deadline of reads, those under way too.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.until(t, &c.in) }

// SetWriteDeadline sets the deadline of writes, those under way too.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.until(t, &c.out) }

func (c *Conn) until(t time.Time, sides ...*side) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Load()&closedBit != 0 {
		return net.ErrClosed
	}
	for _, s := range sides {
		s.deadline = t
		if c.tc == nil {
			c.arm(s)
		} else if err := s.set(c.tc, t); err != nil {
			return err
		}
	}
	return nil
}

// look lets a function see the descriptor of a connection that is not closed. It
// must not block. The caller holds mu.
func (c *Conn) look(do func(fd uintptr)) error {
	if c.state.Load()&closedBit != 0 {
		return net.ErrClosed
	}
	if c.tc != nil {
		return c.raw.Control(do)
	}
	do(c.fd) // it stays open: closing takes mu
	return nil
}

// Silent reports, without waiting, whether the connection is open and nothing has
// come.
func (c *Conn) Silent() bool {
	n, e := c.peek()
	return n < 0 && e == syscall.EAGAIN
}

// Gone reports, without waiting, whether the connection is closed, here or by the
// peer, whatever of it is unread. It may be called while somebody reads.
func (c *Conn) Gone() bool {
	n, e := c.peek()
	if n <= 0 {
		return e != syscall.EAGAIN
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := false
	lost := c.look(func(fd uintptr) { gone = ended(fd) })
	return gone || lost != nil
}

// peek looks for a byte that has come: 0 bytes are the end, -1 with EAGAIN that
// nothing has.
func (c *Conn) peek() (n int, e syscall.Errno) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.look(c.peekStep) != nil {
		return 0, 0
	}
	return c.peeked.n, c.peeked.errno
}

// Acked is how many bytes the peer's system has acknowledged. What it has not, the
// peer's program cannot have read. ok is false where that is not known.
func (c *Conn) Acked() (bytes uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.look(func(fd uintptr) { bytes, ok = acked(fd) }) // nothing is known of a closed one
	return bytes, ok
}
