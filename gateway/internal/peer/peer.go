// Package peer knows who a gateway's clients are: what a connection tells of its own, and
// what trusted proxies tell of those behind them. It is pure, and must never decide what a
// client may do.
package peer

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// Peer is what the calls of one connection have in common.
type Peer struct {
	Addr   string   // the address and port, as net/http shows them
	At     net.Addr // the gateway's own address
	Remote netip.Addr
	Node   []byte // Remote, as X-Forwarded-For has it
	TLS    bool
	// Local says that it came over loopback, and not through a proxy.
	Local bool
	// Proxied says that a PROXY header named the client, or could not.
	Proxied bool
	// Mounted says that another server than the gateway's accepted the connection.
	Mounted bool

	hash uint64 // of Node
}

// New is the peer of a connection between two addresses.
func New(addr string, at net.Addr) *Peer {
	p := &Peer{Addr: addr, At: at}
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		p.Remote = ap.Addr().Unmap().WithZone("")
	}
	if tcp, ok := at.(*net.TCPAddr); ok {
		p.Local = tcp.IP.IsLoopback()
	}
	p.Node = []byte(p.Remote.String())
	p.hash = balance.HashBytes(p.Node)
	return p
}

// Client is the address of the client that sent the fields: the peer, or the one that a
// trusted proxy names. Proxies append to X-Forwarded-For, or to Forwarded, so it reads from
// the end, up to the first address that is not a trusted proxy's: anybody could have written
// what stands before that.
func (p *Peer) Client(fields []wire.Field, trusted []netip.Prefix) netip.Addr {
	who := p.Remote
	if !In(trusted, who) {
		return who
	}
	kind := wire.Forwarded
	for i := range fields {
		if fields[i].Kind == wire.XForwardedFor {
			kind = wire.XForwardedFor
			break
		}
	}
	for i := len(fields) - 1; i >= 0; i-- {
		f := &fields[i]
		if f.Kind != kind {
			continue
		}
		for list := f.Value; len(list) > 0; {
			var last []byte
			if at := bytes.LastIndexByte(list, ','); at >= 0 {
				list, last = list[:at], list[at+1:]
			} else {
				list, last = nil, list
			}
			if kind == wire.Forwarded {
				last = forwardedFor(last)
			}
			addr, ok := nodeAddr(bytes.TrimSpace(last))
			if !ok {
				return who // hidden, or nonsense: whoever wrote it is the last that is known
			}
			if who = addr; !In(trusted, who) {
				return who
			}
		}
	}
	return who
}

// Hash is that of the client's address.
func (p *Peer) Hash(fields []wire.Field, trusted []netip.Prefix) uint64 {
	addr := p.Client(fields, trusted)
	if addr == p.Remote {
		return p.hash
	}
	var b [64]byte
	return balance.HashBytes(addr.AppendTo(b[:0]))
}

// In says whether the address is in one of the networks.
func In(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// forwardedFor is the value of "for" in an element of Forwarded (RFC 7239, 4).
func forwardedFor(element []byte) []byte {
	for len(element) > 0 {
		var pair []byte
		pair, element, _ = bytes.Cut(element, []byte{';'})
		name, value, _ := bytes.Cut(bytes.TrimSpace(pair), []byte{'='})
		if bytes.EqualFold(name, []byte("for")) {
			return bytes.Trim(value, `"`)
		}
	}
	return nil
}

// nodeAddr reads an address with or without a port, IPv6 in brackets or not.
func nodeAddr(v []byte) (netip.Addr, bool) {
	s := string(v)
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : n-1]); err == nil {
			return a.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}
