//go:build unix

package program

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// socketPair returns two ends of a stream that no other process can reach.
func socketPair() (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "program"), os.NewFile(uintptr(fds[1]), "program"), nil
}

// connFile returns a stream whose far end can be given to a child.
func connFile() (near net.Conn, far *os.File, err error) {
	a, b, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	if near, err = fileConn(a); err != nil {
		_ = b.Close()
		return nil, nil, err
	}
	return near, b, nil
}

// connPair returns both ends of a stream within this process.
func connPair() (near, far net.Conn, err error) {
	near, b, err := connFile()
	if err != nil {
		return nil, nil, err
	}
	if far, err = fileConn(b); err != nil {
		_ = near.Close()
		return nil, nil, err
	}
	return near, far, nil
}

// fileConn makes a connection of a file, and closes the file.
func fileConn(f *os.File) (net.Conn, error) {
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("making a connection of a file: %w", err)
	}
	return c, nil
}

// inheritedConn is the stream that the parent gave to this process.
func inheritedConn() (net.Conn, error) { return fileConn(os.NewFile(3, "program")) }
