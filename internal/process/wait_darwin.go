package process

import (
	"syscall"
	"unsafe"
)

// waitExit returns when pid has ended, without reaping it.
func waitExit(pid int) {
	const (
		pPid    = 1
		wexited = 0x4
		wnowait = 0x20
	)
	var info [128]byte // siginfo_t and more
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPid, uintptr(pid), uintptr(unsafe.Pointer(&info[0])), wexited|wnowait, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}
