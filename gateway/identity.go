package gateway

import (
	"bytes"
	"net/netip"

	"github.com/rota-project/rota/balance"
	"github.com/rota-project/rota/gateway/internal/wire"
)

// clientAddr is who calls: the peer, or whom a trusted proxy names. Proxies add to
// the end of X-Forwarded-For, or of Forwarded, so what is believed is read from
// there, up to the first address that is not a trusted proxy's: what stands before
// that, anybody may have written.
func (x *exchange) clientAddr() netip.Addr {
	st, who := x.call.st, x.peer.remote
	if len(st.cfg.TrustedProxies) == 0 || !st.trusts(who) {
		return who
	}
	kind := wire.XForwardedFor
	if !has(x.req.Fields, kind) {
		kind = wire.Forwarded
	}
	for i := len(x.req.Fields) - 1; i >= 0; i-- {
		f := &x.req.Fields[i]
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
			if who = addr; !st.trusts(who) {
				return who
			}
		}
	}
	return who
}

// callerOf is what rates go by where they go by the client.
func (x *exchange) callerOf() uint64 {
	addr := x.clientAddr()
	if addr == x.peer.remote {
		return x.peer.caller
	}
	var b [64]byte
	return balance.HashBytes(addr.AppendTo(b[:0]))
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
