//go:build unix

package supervise

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// adopt takes over a descriptor that the keeper has left to this process.
func adopt(fd int) error {
	syscall.CloseOnExec(fd)
	return syscall.SetNonblock(fd, true)
}

func writeTo(fd int, b []byte) (int, error) { return unix.Write(fd, b) }

func closeOf(fd int) error { return unix.Close(fd) }

// monotonic is the machine's clock that only goes forward, in nanoseconds: the
// same for all processes.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // it cannot fail
	return ts.Nano()
}

func readFrom(fd int, b []byte) (int, error) { return unix.Read(fd, b) }
