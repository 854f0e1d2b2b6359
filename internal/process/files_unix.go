//go:build unix

package process

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

// keepFiles keeps what this process has inherited from those that it starts. What
// Go opens is kept anyway.
func keepFiles() error {
	dir := "/dev/fd"
	if runtime.GOOS == "linux" {
		dir = "/proc/self/fd" // what /dev/fd links to, where somebody has made that link
	}
	open, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("keep inherited files: %w", err)
	}
	for _, f := range open {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
