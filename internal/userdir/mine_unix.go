//go:build unix

package userdir

import (
	"fmt"
	"os"
	"syscall"
)

// mine returns an error if a directory is another user's.
func mine(fi os.FileInfo, dir string) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return owned(int(st.Uid), os.Geteuid(), dir)
	}
	return nil
}

// owned is mine for a directory of this owner.
func owned(owner, self int, dir string) error {
	if owner == self || owner == 0 {
		return nil
	}
	return fmt.Errorf("%s belongs to user %d, who could change what is in it: chown %d %s", dir, owner, self, dir)
}
