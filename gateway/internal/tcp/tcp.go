// Package tcp lends buffers to TCP connections that wait for something to read, and
// looks at connections without waiting: whether the peer has gone, and what its system
// has acknowledged. The gateway has all of its plain connections taken over by it. It
// must never know what is said on them.
//
// The system can be asked under Linux (but on 386, which has no system calls of its own
// for sockets); elsewhere connections stay as they are.
package tcp

// Lender lends a buffer to a connection that waits for something to read.
type Lender interface {
	// Lend lends the buffer, TakeBack takes it back.
	Lend() []byte
	TakeBack()
}
