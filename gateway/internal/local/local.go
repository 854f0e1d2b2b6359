// Package local finds out which process is at the other end of a connection from
// this machine, and whether it can be speaking for anybody but its own user.
//
// The gateway asks it about calls of admin paths that come without a token, where
// such calls are allowed at all. It must never take a doubt for a yes: what cannot
// be found out is an error.
package local

import (
	"errors"
	"net/netip"
)

// Reasons why a caller is not taken at its word.
var (
	ErrElsewhere = errors.New("it does not come from this machine over loopback")
	ErrUser      = errors.New("it comes from another user of this machine")
	ErrServes    = errors.New("it comes from a program that serves others or talks to them, and may be speaking for them")
	ErrUnknown   = errors.New("the program that it comes from cannot be found out")
)

// Caller returns nil if the process that holds the other end of a connection over
// loopback belongs to the user of this process and acts for itself: it neither
// listens nor is connected to anybody but this process. A process that has started
// this one may do both, as a test with servers of its own does, as long as nobody
// else is connected to it. ours and theirs are the ends of the connection.
func Caller(ours, theirs netip.AddrPort) error {
	if !ours.Addr().Unmap().IsLoopback() || !theirs.Addr().Unmap().IsLoopback() {
		return ErrElsewhere
	}
	return direct(plain(ours), plain(theirs))
}

// plain is an address as both families write it.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
