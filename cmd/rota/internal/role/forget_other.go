//go:build !linux

package role

// forgetStart has nothing to do here.
func forgetStart() {}
