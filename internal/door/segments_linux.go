package door

import (
	"net"
	"syscall"
)

// segments has clients of l send in segments of at most so many bytes. The error is
// the system's.
func segments(l net.Listener, most int) error {
	t, ok := l.(syscall.Conn)
	if !ok {
		return nil // it has no segments
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, most) }); err != nil {
		return err
	}
	return set
}
