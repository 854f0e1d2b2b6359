//go:build unix

package secretfile

import (
	"io/fs"
	"os"
	"syscall"
)

// check holds a file to the rule. A terminal or another device has nothing to keep.
func check(path string, fi fs.FileInfo) error {
	if fi.IsDir() { // the mode that a file should have would shut it
		return &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || fi.Mode()&fs.ModeDevice != 0 {
		return nil
	}
	return judge(path, fi.Mode(), int(st.Uid), os.Geteuid())
}
