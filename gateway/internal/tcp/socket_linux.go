//go:build !386

package tcp

import (
	"encoding/binary"
	"syscall"
	"unsafe"
)

// The runtime is not told of these calls: they do not block.

// read reads what there is; EAGAIN says that there is nothing.
func read(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))) //nolint:gosec // a system call takes an address
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// write writes part of p; EAGAIN says that there is no room. A socket that the peer
// has closed raises no signal.
func write(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0) //nolint:gosec // a system call takes an address
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// peek looks for a byte that has come: 0 is the end, EAGAIN that nothing has.
func peek(fd uintptr) (int, syscall.Errno) {
	var one [1]byte
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0) //nolint:gosec // a system call takes an address
	if e != 0 {
		return -1, e
	}
	return int(n), 0
}

// tcpInfo is struct tcp_info (linux/tcp.h).
type tcpInfo [256]byte

// read fills it and returns how much of it the system knows.
func (info *tcpInfo) read(fd uintptr) (size uint32) {
	size = uint32(len(info))
	_, _, e := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // a system call takes an address
	if e != 0 {
		return 0
	}
	return size
}

// acked is tcpi_bytes_acked, which is at 120 since Linux 4.1.
func acked(fd uintptr) (bytes uint64, ok bool) {
	const at = 120
	var info tcpInfo
	if info.read(fd) < at+8 {
		return 0, false
	}
	return binary.NativeEndian.Uint64(info[at:]), true
}

// ended says whether the peer has closed its direction, or both, even if what it
// sent before has not been read. tcpi_state, the first byte, tells.
func ended(fd uintptr) bool {
	const closed, closeWait = 7, 8 // linux/tcp_states.h
	var info tcpInfo
	return info.read(fd) > 0 && (info[0] == closed || info[0] == closeWait)
}
