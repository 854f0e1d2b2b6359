// Package poll waits for TCP connections in place of the runtime's poller where
// that would keep calls waiting.
//
// The runtime's hands all connections that are ready to the thread that looked.
// On a machine whose processors are all busy the system soon takes that thread
// off its processor, for a tick of 4 ms where there are 250 a second; what it had
// not got to waits as long, and no other thread takes it over while there is news
// for it to find. Here whoever runs out of work takes the next few, so that only
// as many can be caught. While there are processors to spare the runtime's is
// better: it wakes who waits with one switch less, and no other thread besides.
//
// Under Linux (but on 386, which has no system calls of its own for sockets) a
// Poller changes from one to the other as the load does; elsewhere
// it leaves connections as they are.
package poll

// Lender lends a buffer to a connection that waits for something to read.
type Lender interface {
	// Lend lends the buffer, TakeBack takes it back.
	Lend() []byte
	TakeBack()
}
