// Package ports finds ports that a test can name before anybody listens there, or
// listen at twice. Who lets the system choose (":0"), closes and listens again may find
// that another test got the port meanwhile: the system gives it to the next that asks,
// and to connections going out.
package ports

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Below what systems give out by themselves (from 32768 on Linux, 49152 elsewhere).
const first, count = 10000, 20000

// Addr is an address on loopback, host:port, at which nobody listens. Until tb ends this
// package gives it to nobody else, in any process of the machine.
func Addr(tb testing.TB) string {
	tb.Helper()
	ln := Listen(tb)
	_ = ln.Close() // nobody was let in
	return ln.Addr().String()
}

// Free is the port of an Addr.
func Free(tb testing.TB) int {
	tb.Helper()
	ln := Listen(tb)
	_ = ln.Close()
	addr, _ := ln.Addr().(*net.TCPAddr) // it is one
	return addr.Port
}

// Listen listens at an Addr: who closes it can listen there again.
func Listen(tb testing.TB) net.Listener {
	tb.Helper()
	for range 1000 {
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(count)))
		mine, err := net.ListenPacket("udp", at) // tells other tests that it is taken
		if err != nil {
			continue
		}
		ln, err := net.Listen("tcp", at)
		if err != nil {
			_ = mine.Close()
			continue
		}
		tb.Cleanup(func() { _ = mine.Close() })
		return ln
	}
	tb.Fatal("no port is free")
	return nil
}
