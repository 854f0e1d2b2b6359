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

// Addr is an address on loopback, host:port, at which nobody listens. Until t ends this
// package gives it to nobody else, in any process of the machine.
func Addr(t testing.TB) string {
	t.Helper()
	ln := Listen(t)
	_ = ln.Close() // nobody was let in
	return ln.Addr().String()
}

// Free is the port of an Addr.
func Free(t testing.TB) int {
	t.Helper()
	ln := Listen(t)
	_ = ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// Listen listens at an Addr: who closes it can listen there again.
func Listen(t testing.TB) net.Listener {
	t.Helper()
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
		t.Cleanup(func() { _ = mine.Close() })
		return ln
	}
	t.Fatal("no port is free")
	return nil
}
