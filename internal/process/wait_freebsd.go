package process

import "syscall"

// waitExit returns when pid has ended, without reaping it.
func waitExit(pid int) {
	const pPid = 0
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAIT6, pPid, uintptr(pid), 0, syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}
