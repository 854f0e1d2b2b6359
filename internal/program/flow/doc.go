// Package flow is the protocol by which two ends of a program exchange
// messages: in order, exactly once while both live, within bounded memory,
// over a path that may be cut at any byte and mended later.
//
// It is the pure core of package link, which gives it a clock, sockets and
// locks: frames in, frames out. It must never import any of those, and holds
// no goroutine; a Flow is guarded by whoever owns it.
//
// A Flow is one end's half of a conversation with one peer. It has channels
// that do not hold each other up: Messages, which wait until they are read,
// and Replies, which are read at once. Each channel is a stream of bytes in
// each direction, numbered from zero, as in TCP (RFC 9293): the receiver says
// how far it has consumed, the sender keeps what is not consumed and never has
// more than the receiver's window under way. The path under it is reliable and
// ordered while it lasts, so there are no timers: only after a cut do the ends
// tell each other how far they got (Sync), and go on from there.
//
//	             Append                          Take
//	sender ──▶ [acked ... sent ... end)   ┄┄▶  [consumed ... received) ──▶ reader
//	               ▲  Data(offset, bytes)            │
//	               └────────── Ack(consumed) ────────┘
//	                  after a cut: Sync(received, consumed, window)
//
// Messages are framed inside the stream (tag, length, bytes), so that a segment
// on its way carries thousands of small ones or a part of a large one, and a
// relay looks at neither.
package flow
