package wire

import (
	"bytes"
	"net/netip"
)

// IsHost says whether b, which may be empty, is a host as a Host header names it:
// a name, an IPv4 address or an IPv6 address in brackets, and a port after it or
// not (RFC 9110, 7.2; RFC 3986, 3.2.2).
func IsHost(b []byte) bool {
	name, port, bracketed := b, []byte(nil), false
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return false
		}
		name, port, bracketed = b[1:end], b[end+1:], true
		if len(port) > 0 && port[0] != ':' {
			return false
		}
	} else if i := bytes.IndexByte(b, ':'); i >= 0 {
		name, port = b[:i], b[i:]
	}
	if len(port) > 6 { // ":65535"
		return false
	}
	for _, c := range port[min(1, len(port)):] {
		if c < '0' || c > '9' {
			return false
		}
	}
	if bracketed {
		ip, err := netip.ParseAddr(string(name))
		return err == nil && ip.Is6() && ip.Zone() == ""
	}
	return (len(name) > 0 || len(port) == 0) && all(name, hostByte)
}
