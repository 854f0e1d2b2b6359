//go:build unix

package role

import (
	"os"
	"syscall"
)

// passedOn are the signals that a keeper passes on to its worker.
var passedOn = []os.Signal{syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
