//go:build !linux

package upstream

// canProveUnread says that the system tells how much of what was sent has been
// acknowledged.
const canProveUnread = false
