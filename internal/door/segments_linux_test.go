package door

import (
	"net"
	"syscall"
	"testing"
)

// TestSegment: a client is asked for segments no larger than the limit says.
func TestSegment(t *testing.T) {
	t.Parallel()
	segment := func(limits Limits) (size int) {
		raw, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := New(raw, limits)
		defer l.Close()
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fd, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if e := fd.Control(func(fd uintptr) { size, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		return size
	}
	if n := segment(Limits{Segment: 1000}); n > 1000 {
		t.Errorf("segments of %d bytes", n)
	}
	if n := segment(Limits{}); n <= 1000 {
		t.Errorf("segments of %d bytes without a limit", n)
	}
}
