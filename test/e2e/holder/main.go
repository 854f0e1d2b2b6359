// Command holder is the task of the tests: a process that says on a socket that
// it runs, until it is asked to stop. The end of its connection is its end.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// main is called with the socket, the worker, the task and the generation, and
// the word stubborn if it is to go on when it is asked to stop.
func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	stubborn := len(os.Args) == 6 && os.Args[5] == "stubborn"
	if len(os.Args) != 5 && !stubborn {
		fmt.Fprintln(os.Stderr, "holder: want socket, worker, task, generation[, stubborn]")
		os.Exit(2)
	}
	conn, err := net.Dial("unix", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "holder:", err)
		os.Exit(1)
	}
	if _, err := fmt.Fprintf(conn, "%s %s %s\n", os.Args[2], os.Args[3], os.Args[4]); err != nil {
		os.Exit(1)
	}
	beat := time.NewTicker(25 * time.Millisecond)
	for {
		select {
		case <-beat.C:
			if _, err := fmt.Fprintln(conn, "."); err != nil {
				os.Exit(1)
			}
		case <-stop:
			if !stubborn {
				os.Exit(0)
			}
		}
	}
}
