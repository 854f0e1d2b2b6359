//go:build !386

package poll

import (
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Poller has taken connections over. The zero value is ready for use; Close ends
// it.
type Poller struct {
	// crowded says that connections are better waited for by loops.
	crowded atomic.Bool

	mu      sync.Mutex
	loops   []*loop
	next    int
	closed  bool
	sampled sample
	calm    int64 // for how long there were processors to spare, in nanoseconds
}

// procsPerLoop is how many processors one loop keeps busy at least: it takes about
// a tenth of the time that handling what it finds takes.
const procsPerLoop = 4

// Take takes over a plain TCP connection, which must not be used any more, and
// returns what to use instead. Another connection it returns as it is.
func (p *Poller) Take(nc net.Conn) net.Conn {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return nc
	}
	return newConn(p, tc, raw)
}

// pickLoop is the loop whose turn it is, nil if there is none.
func (p *Poller) pickLoop() *loop {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if len(p.loops) < (runtime.GOMAXPROCS(0)+procsPerLoop-1)/procsPerLoop {
		l, err := newLoop()
		if err == nil {
			p.loops = append(p.loops, l)
			go l.run()
			return l
		}
		if len(p.loops) == 0 {
			return nil
		}
	}
	p.next++
	return p.loops[p.next%len(p.loops)]
}

// Close ends the loops, and closes the connections that they still have.
func (p *Poller) Close() {
	p.mu.Lock()
	loops := p.loops
	p.loops, p.closed = nil, true
	p.mu.Unlock()
	for _, l := range loops {
		l.close()
	}
}

// batch is how many connections that are ready are handed out at a time. More
// make for fewer system calls, fewer for fewer that wait behind others.
const batch = 3

// loop hands out the connections of one epoll instance that are ready.
type loop struct {
	file *os.File // the instance; the runtime waits for it while nothing is ready
	raw  syscall.RawConn
	fd   int
	done chan struct{}

	events [batch]syscall.EpollEvent
	found  int // of events

	mu     sync.Mutex
	conns  []*Conn // by file descriptor
	closed bool
}

func newLoop() (*loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or the runtime would not wait for it
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &loop{file: os.NewFile(uintptr(fd), "epoll"), fd: fd, done: make(chan struct{})}
	if l.raw, err = l.file.SyscallConn(); err != nil {
		_ = l.file.Close()
		return nil, err
	}
	return l, nil
}

func (l *loop) run() {
	defer close(l.done)
	defer l.file.Close() //nolint:errcheck // there is nothing in it to lose
	for l.raw.Read(l.look) == nil {
		l.wake()
		for l.found == batch { // there may be more
			// Who was woken is in this thread's queue, and this goes to the end of the
			// common one: the thread that is idle first looks next.
			runtime.Gosched()
			if !l.look(uintptr(l.fd)) {
				break
			}
			l.wake()
		}
	}
}

// look reports whether something is ready, and notes what.
func (l *loop) look(fd uintptr) bool {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&l.events)), batch, 0, 0, 0) //nolint:gosec // a system call takes an address
		if e == syscall.EINTR {
			continue
		}
		l.found = 0
		if e == 0 {
			l.found = int(n)
		}
		return l.found > 0
	}
}

func (l *loop) wake() {
	var conns [batch]*Conn
	l.mu.Lock()
	for i := range l.found {
		conns[i] = l.conns[l.events[i].Fd]
	}
	l.mu.Unlock()
	for i := range l.found {
		c, ev := conns[i], l.events[i].Events
		if c == nil {
			continue // closed meanwhile
		}
		if ev&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
			c.in.over.Store(true)
		}
		if ev&(syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
			c.in.wake()
		}
		if ev&(syscall.EPOLLOUT|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
			c.out.wake()
		}
	}
}

// edge is EPOLLET: tell of what has changed, once. The constant of package syscall
// is negative.
const edge = 1 << 31

// keep begins to wait for the descriptor of a connection. If it fails it is not
// the loop's.
func (l *loop) keep(c *Conn, fd uintptr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	for int(fd) >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge, Fd: int32(fd)}
	err := syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_ADD, int(fd), &ev)
	if err != nil {
		l.conns[fd] = nil
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func (l *loop) close() {
	l.mu.Lock()
	l.closed = true
	left := slices.Clone(l.conns)
	l.mu.Unlock()
	for _, c := range left {
		if c != nil {
			_ = c.Close()
		}
	}
	_ = l.file.SetReadDeadline(time.Unix(1, 0)) // it waits no more
	<-l.done
}

// forget waits no more for a connection's descriptor, which stays open.
func (l *loop) forget(c *Conn) {
	_ = syscall.EpollCtl(l.fd, syscall.EPOLL_CTL_DEL, int(c.fd), nil)
	l.mu.Lock()
	l.conns[c.fd] = nil
	l.mu.Unlock()
}

// drop closes the descriptor of a connection that nobody uses any more.
func (l *loop) drop(c *Conn) {
	l.mu.Lock()
	l.conns[c.fd] = nil
	l.mu.Unlock()
	_ = syscall.Close(int(c.fd)) // which takes it out of the epoll instance
}
