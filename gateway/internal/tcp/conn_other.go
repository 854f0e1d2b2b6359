//go:build !linux || 386

package tcp

import "net"

// Take returns nc.
func Take(nc net.Conn) net.Conn { return nc }

// Silent believes that the connection is open and nothing has come.
func Silent(net.Conn) bool { return true }
