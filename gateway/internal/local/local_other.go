//go:build !linux

package local

import "net/netip"

func direct(_, _ netip.AddrPort) error { return ErrUnknown }
