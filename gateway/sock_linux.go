package gateway

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// sock reads and writes a connection. On a plain TCP connection under Linux it
// makes the system calls itself, which saves the scheduler's bookkeeping of
// calls that never block, the failed read before each wait, and the buffer of a
// connection that only waits.
type sock struct {
	nc net.Conn
	rc syscall.RawConn // nil: not a plain TCP connection

	// What the callbacks work on: kept here so that nothing is allocated.
	in, out   []byte
	n         int
	err       error // of a read, or of Ask
	wrote     int
	writeErr  error // of a Write: one may be under way beside a Read
	lender    lender
	lent      bool
	armed     bool
	onRead    func(fd uintptr) bool
	onWrite   func(fd uintptr) bool
	onAsk     func(fd uintptr) bool
	onIdle    func(fd uintptr) bool
	onControl func(fd uintptr)
	silent    bool // still open, and nothing has come: of Alive
	first     [1]byte
}

func (s *sock) init(nc net.Conn) {
	s.nc = nc
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return
	}
	s.rc = rc
	s.onRead, s.onWrite, s.onAsk, s.onIdle = s.rawRead, s.rawWrite, s.rawAsk, s.rawIdle
}

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))) //nolint:gosec // a system call takes an address
		if e == syscall.EINTR {
			continue
		}
		return int(n), e
	}
}

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0) //nolint:gosec // a system call takes an address
		if e == syscall.EINTR {
			continue
		}
		return int(n), e
	}
}

// sysPeek looks, without waiting, for a byte that has come: 0 without an error is
// the end, EAGAIN that nothing has.
func sysPeek(fd uintptr) (int, syscall.Errno) {
	var one [1]byte
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0) //nolint:gosec // a system call takes an address
	return int(n), e
}

// Read reads what is there, or waits for it.
func (s *sock) Read(p []byte) (int, error) {
	if s.rc == nil || len(p) == 0 {
		return s.nc.Read(p)
	}
	s.in = p
	err := s.rc.Read(s.onRead)
	s.in = nil
	return s.result(err)
}

func (s *sock) result(err error) (int, error) {
	if err != nil {
		return 0, err
	}
	if s.err != nil {
		return 0, s.err
	}
	if s.n == 0 {
		return 0, io.EOF
	}
	return s.n, nil
}

func (s *sock) rawRead(fd uintptr) bool {
	n, e := sysRead(fd, s.in)
	if e == syscall.EAGAIN {
		return false
	}
	s.done(n, e)
	return true
}

func (s *sock) done(n int, e syscall.Errno) {
	s.n, s.err = n, nil
	if e != 0 {
		s.n, s.err = 0, os.NewSyscallError("read", e)
	}
}

// Write writes all of p.
func (s *sock) Write(p []byte) (int, error) {
	if s.rc == nil || len(p) == 0 {
		return s.nc.Write(p)
	}
	s.out, s.wrote, s.writeErr = p, 0, nil
	err := s.rc.Write(s.onWrite)
	s.out = nil
	if err == nil {
		err = s.writeErr
	}
	return s.wrote, err
}

func (s *sock) rawWrite(fd uintptr) bool {
	for s.wrote < len(s.out) {
		n, e := sysWrite(fd, s.out[s.wrote:])
		if e == syscall.EAGAIN {
			return false
		}
		if e != 0 {
			s.writeErr = os.NewSyscallError("write", e)
			return true
		}
		s.wrote += n
	}
	return true
}

// Ask writes all of out and then reads the beginning of the answer into in. It
// goes to sleep between the two without looking in vain. wrote says how much was
// written, whatever came of it.
func (s *sock) Ask(out, in []byte) (n, wrote int, err error) {
	if s.rc == nil {
		if wrote, err = s.nc.Write(out); err == nil {
			n, err = s.nc.Read(in)
		}
		return n, wrote, err
	}
	s.out, s.in, s.wrote, s.err, s.armed = out, in, 0, nil, false
	err = s.rc.Read(s.onAsk)
	s.out, s.in = nil, nil
	if err == nil && s.err == nil && s.wrote < len(out) { // the socket's buffer is full
		rest := out[s.wrote:]
		wrote = s.wrote
		m, err := s.Write(rest)
		wrote += m
		if err != nil {
			return 0, wrote, err
		}
		n, err = s.Read(in)
		return n, wrote, err
	}
	wrote = s.wrote
	n, err = s.result(err)
	return n, wrote, err
}

func (s *sock) rawAsk(fd uintptr) bool {
	if !s.armed {
		s.armed = true
		for s.wrote < len(s.out) {
			n, e := sysWrite(fd, s.out[s.wrote:])
			if e == syscall.EAGAIN {
				return true
			}
			if e != 0 {
				s.err = os.NewSyscallError("write", e)
				return true
			}
			s.wrote += n
		}
		return false // wait: readiness was reset before the request went out
	}
	return s.rawRead(fd)
}

// Idle waits for the first bytes of a request. It takes a buffer from l when it
// looks and gives it back while it waits. On success the buffer stays lent and
// holds n bytes.
func (s *sock) Idle(l lender) (n int, err error) {
	if s.rc == nil {
		return idle(s.nc, &s.first, l)
	}
	s.lender, s.lent = l, false
	s.err, s.n = nil, 0
	err = s.rc.Read(s.onIdle)
	n, err = s.result(err)
	if s.lent && err != nil {
		l.takeBack()
	}
	return n, err
}

func (s *sock) rawIdle(fd uintptr) bool {
	n, e := sysRead(fd, s.lender.lend())
	if e == syscall.EAGAIN {
		s.lender.takeBack()
		return false
	}
	s.lent = true
	s.done(n, e)
	return true
}

// Alive looks, without waiting, whether an idle connection is still open and has
// nothing to say.
func (s *sock) Alive() bool {
	if s.rc == nil {
		return true
	}
	if s.onControl == nil {
		s.onControl = func(fd uintptr) {
			_, e := sysPeek(fd)
			s.silent = e == syscall.EAGAIN
		}
	}
	return s.rc.Control(s.onControl) == nil && s.silent
}

// gone looks, without waiting, whether the peer has closed the connection.
// Unlike the other methods it may be called while one of them waits.
func gone(nc net.Conn) bool {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return false
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = rc.Control(func(fd uintptr) {
		n, e := sysPeek(fd)
		closed = e == 0 && n == 0 || e != 0 && e != syscall.EAGAIN
	})
	return err != nil || closed
}

// Acked is how many bytes the peer's system has acknowledged on this connection.
// What it has not acknowledged, the peer's program cannot have read. ok is false
// where that cannot be known.
func (s *sock) Acked() (bytes uint64, ok bool) {
	if s.rc == nil {
		return 0, false
	}
	// struct tcp_info, linux/tcp.h: tcpi_bytes_acked is at 120 (since 4.1).
	var info [256]byte
	size := uint32(len(info))
	err := s.rc.Control(func(fd uintptr) {
		_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // a system call takes an address
		ok = e == 0 && size >= 128
	})
	if err != nil || !ok {
		return 0, false
	}
	return binary.NativeEndian.Uint64(info[120:]), true
}
