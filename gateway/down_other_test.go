//go:build !unix

package gateway_test

import (
	"net"
	"testing"
)

// down is a URL at which nobody listens before listen, unless the port is taken.
func down(t testing.TB) (url string, listen func() net.Listener) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().String()
	_ = ln.Close()
	return "http://" + at, func() net.Listener {
		t.Helper()
		ln, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
}
