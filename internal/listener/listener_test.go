package listener_test

import (
	"net"
	"testing"

	"github.com/rota-project/rota/internal/listener"
)

// TestReached: what listens is reached at this machine's own address. The end-to-end
// tests do this on machines with IPv4 or IPv6 only.
func TestReached(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", "[::]", "localhost", "LocalHost", listener.Loopback()} {
		all, err := listener.All(t.Context(), host+":0")
		if host == listener.Loopback() {
			all, err = listener.All(t.Context(), net.JoinHostPort(host, "0"))
		}
		if err != nil || len(all) == 0 {
			t.Errorf("%q: %d listeners, %v", host, len(all), err)
			continue
		}
		ports := map[string]bool{}
		for _, l := range all {
			_, port, err := net.SplitHostPort(l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			ports[port] = true
			conn, err := net.Dial("tcp", net.JoinHostPort(listener.Loopback(), port))
			if err != nil {
				t.Errorf("%q: it listens on %s and is not reached: %v", host, l.Addr(), err)
				continue
			}
			_ = conn.Close()
		}
		if len(ports) != 1 {
			t.Errorf("%q: it listens on ports %v, want one", host, ports)
		}
		for _, l := range all {
			_ = l.Close()
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	l, err := listener.TCP(t.Context(), net.JoinHostPort(listener.Loopback(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, addr := range []string{"nowhere", "127.0.0.1:x", l.Addr().String(), "192.0.2.1:0", "localhost:" + port} {
		if all, err := listener.All(t.Context(), addr); err == nil {
			t.Errorf("%q: it listens on %s", addr, all[0].Addr())
		}
	}
}
