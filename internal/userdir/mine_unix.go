//go:build unix

package userdir

import (
	"fmt"
	"os"
	"syscall"
)

// mine returns an error if a directory is another user's.
func mine(fi os.FileInfo, dir string) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() && st.Uid != 0 {
		return fmt.Errorf("%s belongs to another user", dir)
	}
	return nil
}
