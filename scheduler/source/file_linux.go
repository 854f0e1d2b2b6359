package source

import (
	"io/fs"
	"syscall"
	"time"
)

// nonblock has a pipe that replaced a file at the last moment be opened at once.
const nonblock = syscall.O_NONBLOCK

// changed is when a file's content or what is known of it changed last: nobody can
// set that time.
func changed(info fs.FileInfo) time.Time {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return info.ModTime()
}
