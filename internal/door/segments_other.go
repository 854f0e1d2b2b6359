//go:build !linux

package door

import "net"

// segments does nothing: elsewhere a listener cannot hand it to its connections.
func segments(net.Listener, int) error { return nil }
