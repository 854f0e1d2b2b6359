package ports_test

import (
	"net"
	"testing"

	"github.com/rota-project/rota/internal/test/ports"
)

// TestFree asks for as many ports as a large test does: none comes twice, and the
// system, asked for any port or for a connection, gives none of them.
func TestFree(t *testing.T) {
	t.Parallel()
	mine := map[string]bool{}
	for range 200 {
		addr := ports.Addr(t)
		if mine[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		mine[addr] = true
	}
	for range 2000 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if addr := ln.Addr().String(); mine[addr] {
			t.Fatalf("the system gave %s", addr)
		}
		_ = ln.Close()
	}
	for addr := range mine {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close()
	}
}
