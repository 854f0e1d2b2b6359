package peer

import (
	"net"
	"testing"
)

// TestFirstIP: the default name begins with an address of IPv4, if there is one that
// others may know this host by.
func TestFirstIP(t *testing.T) {
	t.Parallel()
	for want, list := range map[string][]string{
		"10.1.2.3":    {"127.0.0.1/8", "::1/128", "fe80::1/64", "2001:db8::1/64", "10.1.2.3/24", "10.9.9.9/24"},
		"2001:db8::1": {"127.0.0.1/8", "fe80::1/64", "2001:db8::1/64", "2001:db8::2/64"},
		"127.0.0.1":   {"127.0.0.1/8", "169.254.1.1/16", "fe80::1/64"},
	} {
		var addresses []net.Addr
		for _, s := range list {
			ip, n, err := net.ParseCIDR(s)
			if err != nil {
				t.Fatal(err)
			}
			addresses = append(addresses, &net.IPNet{IP: ip, Mask: n.Mask})
		}
		if got := firstIP(append(addresses, &net.TCPAddr{})); got != want {
			t.Errorf("%v: %s, want %s", list, got, want)
		}
	}
}
