package gateway_test

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// A worker that does not even answer a connection costs the connect timeout, and
// the call goes to another.
func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	rc, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	for range 100 { // until its queue is full
		c, err := net.DialTimeout("tcp", ln.Addr().String(), 50*time.Millisecond)
		if err != nil {
			break
		}
		defer c.Close()
	}
	cfg := simple("http://"+ln.Addr().String(), named(t, "fine"))
	cfg.Defaults.ConnectTimeout = 50 * time.Millisecond
	g, addr := start(t, cfg)
	for range 4 {
		if status, body := call(t, "POST", addr, "/run/f", []byte("x")); status != 200 || body != "fine" {
			t.Errorf("%d %q", status, body)
		}
	}
	if g.Status().Workers[0].Failures == 0 {
		t.Error("it was never tried")
	}
}
