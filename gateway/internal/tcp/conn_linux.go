//go:build !386

package tcp

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conn is a TCP connection, a net.Conn as the runtime's.
type Conn struct {
	tc            *net.TCPConn
	raw           syscall.RawConn
	local, remote net.Addr
	in, out       side

	mu       sync.Mutex // guards peeked
	peeked   result
	peekStep func(fd uintptr)
}

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
}

// Take takes over a plain TCP connection, which must not be used any more, and
// returns what to use instead. Another connection it returns as it is.
func Take(nc net.Conn) net.Conn {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return nc
	}
	c := &Conn{tc: tc, raw: raw, local: tc.LocalAddr(), remote: tc.RemoteAddr()}
	c.in.step, c.out.step = c.readStep, c.writeStep
	c.peekStep = func(fd uintptr) { c.peeked.n, c.peeked.errno = peek(fd) }
	return c
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

// read makes the attempt that in is set to. The caller holds in.using.
func (c *Conn) read() (int, error) {
	s := &c.in
	switch err := c.raw.Read(s.step); {
	case err != nil:
		return 0, err
	case s.errno != 0:
		return 0, os.NewSyscallError("read", s.errno)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
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
	err := c.raw.Write(s.step)
	s.p = nil
	if err == nil && s.errno != 0 {
		err = os.NewSyscallError("write", s.errno)
	}
	return s.n, err
}

// Close closes the connection. Who reads or writes is told net.ErrClosed.
func (c *Conn) Close() error { return c.tc.Close() }

// CloseWrite tells the peer that nothing more comes.
func (c *Conn) CloseWrite() error { return c.tc.CloseWrite() }

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.tc.SetDeadline(t) }

// SetReadDeadline sets the deadline of reads, those under way too.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.tc.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of writes, those under way too.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.tc.SetWriteDeadline(t) }

// Silent reports, without waiting, whether the connection is open and nothing has
// come.
func (c *Conn) Silent() bool {
	n, e := c.peek()
	return n < 0 && e == syscall.EAGAIN
}

// Silent is Conn.Silent of a connection over a unix socket. Of others that Take left as
// they are it cannot be known: it is believed.
func Silent(nc net.Conn) bool {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return true
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		n, e := peek(fd)
		silent = n < 0 && e == syscall.EAGAIN
	})
	return err == nil && silent
}

// Gone reports, without waiting, whether the connection is closed, here or by the
// peer, whatever of it is unread. It may be called while somebody reads.
func (c *Conn) Gone() bool {
	n, e := c.peek()
	if n <= 0 {
		return e != syscall.EAGAIN
	}
	gone := false
	lost := c.raw.Control(func(fd uintptr) { gone = ended(fd) })
	return gone || lost != nil
}

// peek looks for a byte that has come: 0 bytes are the end, -1 with EAGAIN that
// nothing has.
func (c *Conn) peek() (n int, e syscall.Errno) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.raw.Control(c.peekStep) != nil {
		return 0, 0
	}
	return c.peeked.n, c.peeked.errno
}

// Acked is how many bytes the peer's system has acknowledged. What it has not, the
// peer's program cannot have read. ok is false where that is not known.
func (c *Conn) Acked() (bytes uint64, ok bool) {
	_ = c.raw.Control(func(fd uintptr) { bytes, ok = acked(fd) }) // nothing is known of a closed one
	return bytes, ok
}
