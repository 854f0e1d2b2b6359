package supervise

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// A keeper and its worker hold a pipe each way. On one the worker says by when
// what must not outlive its lease has to have ended; nothing is sent on the
// other, which says by its end that the keeper is gone.
const (
	saysFD = 3 // the worker writes
	lostFD = 4 // the worker reads
)

// Link is a worker's end of what joins it to its keeper. It is safe for
// concurrent use; a nil Link is that of a worker that has none.
type Link struct {
	lost chan struct{}

	mu    sync.Mutex
	says  int // the descriptor, or -1
	until int64
	holds int
	said  int64
}

// Join takes up the link to the keeper of this process. It is nil if there is none.
func Join() (*Link, error) {
	if os.Getenv(KeptEnv) == "" {
		return nil, nil //nolint:nilnil // documented
	}
	for _, fd := range []int{saysFD, lostFD} {
		if err := adopt(fd); err != nil {
			return nil, fmt.Errorf("keeper: descriptor %d: %w", fd, err)
		}
	}
	l := &Link{says: saysFD, lost: make(chan struct{})}
	l.write(joined)
	r := os.NewFile(lostFD, "keeper")
	go func() {
		_, _ = io.Copy(io.Discard, r) // ends with the keeper
		close(l.lost)
	}()
	return l, nil
}

// Lost is closed when the keeper is gone.
func (l *Link) Lost() <-chan struct{} {
	if l == nil {
		return nil
	}
	return l.lost
}

// Hold says that something begins that must have ended when the lease does.
// Until was called before. release says that it has ended.
func (l *Link) Hold() (release func()) {
	if l == nil {
		return func() {}
	}
	l.change(func() { l.holds++ })
	return sync.OnceFunc(func() { l.change(func() { l.holds-- }) })
}

// Until tells the guard until when the lease is trusted.
func (l *Link) Until(t time.Time) {
	if l != nil {
		at := monotonic() + time.Until(t).Nanoseconds()
		l.change(func() {
			if l.until == 0 {
				l.write(leased)
			}
			l.until = at
		})
	}
}

// What a worker says once beside moments: that it says things, and that it has
// trusted a lease.
const (
	joined = -1
	leased = -2
)

// change tells the keeper what follows from a change: the end of the lease, by
// the clock that both share, or 0 while nothing has to end by then.
func (l *Link) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	now := int64(0)
	if l.holds > 0 {
		now = l.until
	}
	if now == l.said || l.says < 0 {
		return
	}
	l.said = now
	l.write(now)
}

func (l *Link) write(v int64) {
	if l.says < 0 {
		return
	}
	_, err := writeTo(l.says, binary.NativeEndian.AppendUint64(nil, uint64(v)))
	if err != nil && !errors.Is(err, syscall.EINTR) {
		// It has not read for an hour. Better no word than an old one.
		_ = closeOf(l.says)
		l.says = -1
	}
}

// watch reads what a worker says until its end. It calls fence when a moment has
// passed by which the worker should have said that nothing is left to end.
// leaseless says that it would have told of a lease, and had none.
func watch(says *os.File, fence func()) (leaseless bool) {
	var until time.Time
	for {
		_ = says.SetReadDeadline(until)
		var b [8]byte
		_, err := io.ReadFull(says, b[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// The keeper may have stood still itself: what has been said counts.
			_ = says.SetReadDeadline(time.Time{})
			if err = readNow(says, b[:]); errors.Is(err, syscall.EAGAIN) {
				fence()
				return false
			}
		}
		if err != nil {
			return leaseless // it has ended
		}
		switch at := int64(binary.NativeEndian.Uint64(b[:])); at {
		case joined, leased:
			leaseless = at == joined
		case 0:
			until = time.Time{}
		default:
			until = time.Now().Add(time.Duration(at - monotonic()))
		}
	}
}

// readNow reads what is there without waiting: EAGAIN if nothing is. What is said
// is written, and so read, whole.
func readNow(f *os.File, b []byte) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var result error
	err = conn.Read(func(fd uintptr) bool {
		n, result = readFrom(int(fd), b)
		return true
	})
	switch {
	case err != nil:
		return err
	case result == nil && n < len(b):
		return io.EOF
	}
	return result
}
