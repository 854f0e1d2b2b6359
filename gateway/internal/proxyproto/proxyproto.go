// Package proxyproto reads the header with which a proxy begins a connection to say whose
// it is: the PROXY protocol, version 1 and 2.
//
// The gateway reads it from connections of proxies that it is told of. It is pure, and
// never guesses: bytes are a header, or not yet a whole one, or wrong.
//
// Source: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

var (
	// ErrIncomplete says that the header has not yet come in full.
	ErrIncomplete = errors.New("incomplete PROXY header")
	// ErrMalformed says that the bytes are no header.
	ErrMalformed = errors.New("no PROXY header, or a malformed one")
)

const (
	// MaxV1 is the most bytes of a header of version 1.
	MaxV1 = 107
	// MaxV2 is the most bytes of one of version 2 that is taken, its TLVs with it.
	MaxV2 = 4096
)

// signature begins a header of version 2.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// Parse reads a header from the beginning of b, and returns its length and who has opened
// the connection. The address is not valid if the proxy speaks for itself, as it does in
// its checks, or does not know.
func Parse(b []byte) (from netip.AddrPort, n int, err error) {
	switch {
	case bytes.HasPrefix(b, []byte(signature[:min(len(b), len(signature))])):
		return parseV2(b)
	case bytes.HasPrefix(b, []byte("PROXY "[:min(len(b), 6)])):
		return parseV1(b)
	}
	return from, 0, ErrMalformed
}

func parseV1(b []byte) (from netip.AddrPort, n int, err error) {
	end := bytes.Index(b[:min(len(b), MaxV1)], []byte("\r\n"))
	switch {
	case end < 0 && len(b) >= MaxV1:
		return from, 0, ErrMalformed
	case end < 0:
		return from, 0, ErrIncomplete
	}
	n = end + len("\r\n")
	words := strings.Split(string(b[len("PROXY "):end]), " ")
	if words[0] == "UNKNOWN" {
		return from, n, nil // whatever follows it
	}
	if len(words) != 5 || words[0] != "TCP4" && words[0] != "TCP6" {
		return from, 0, ErrMalformed
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, err := netip.ParseAddr(words[1+i])
		port, perr := strconv.ParseUint(words[3+i], 10, 16)
		if err != nil || perr != nil || addr.Zone() != "" || addr.Is4() != (words[0] == "TCP4") || strconv.FormatUint(port, 10) != words[3+i] {
			return from, 0, ErrMalformed
		}
		ends[i] = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	return ends[0], n, nil
}

func parseV2(b []byte) (from netip.AddrPort, n int, err error) {
	const head = len(signature) + 4
	if len(b) < head {
		return from, 0, ErrIncomplete
	}
	version, family := b[len(signature)], b[len(signature)+1]
	size := int(binary.BigEndian.Uint16(b[head-2:]))
	if version>>4 != 2 || version&15 > 1 || head+size > MaxV2 {
		return from, 0, ErrMalformed
	}
	if len(b) < head+size {
		return from, 0, ErrIncomplete
	}
	n, b = head+size, b[head:head+size]
	if version&15 == 0 { // LOCAL: the proxy's own
		return from, n, nil
	}
	var addr int // bytes of an address
	switch family {
	case 0x00, 0x31: // unspecified, or over a unix socket
		return from, n, nil
	case 0x11: // TCP over IPv4
		addr = 4
	case 0x21: // TCP over IPv6
		addr = 16
	default:
		return from, 0, ErrMalformed
	}
	if len(b) < 2*addr+4 {
		return from, 0, ErrMalformed
	}
	ip, _ := netip.AddrFromSlice(b[:addr])
	return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(b[2*addr:])), n, nil
}
