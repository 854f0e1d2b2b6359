//go:build !unix

package role

import (
	"os"
	"syscall"
)

var passedOn = []os.Signal{syscall.SIGQUIT}
