// Package balance picks a worker for a call: lock-free, without allocation, in
// ten to fifty nanoseconds whether there are ten workers or a thousand.
//
// A Set holds the workers that may be picked; Set.Pick asks a Rule for one and
// reserves a place on it in the same step, so that two calls at one instant see
// each other. The Pick that comes back is released exactly once. The gateway
// calls it on every call; it stands alone as a library too.
//
// It is a pure core: it has no clock, no socket, no file, no goroutine and no
// random source. Time and random numbers are handed in with the Call, so that
// one seed replays any history (package balance/sim does).
//
//	members ──Update──▶ snapshot ◀──atomic load── Pick ──compare and swap──▶ Worker.state
//	                    (immutable)                                          in flight, closed, turn
package balance
