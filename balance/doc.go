// Package balance picks a worker for each call: without locks or allocations, in ten to
// fifty nanoseconds, whether there are ten workers or a thousand.
//
// A Set holds the workers; Set.Pick asks a Rule for one and reserves a place on it in the
// same step, so that simultaneous calls see each other. Each Pick is released exactly once.
// The gateway uses the package for every call; it can also be used alone.
//
// It is a pure core: it has no clock, socket, file, goroutine or random source. Time and
// random numbers are passed in with the Call, so the same seed replays the same history
// (package balance/internal/sim does).
//
//	members ──Update──▶ snapshot ◀──atomic load── Pick ──compare and swap──▶ Worker.state
//	                    (immutable)                                          in flight, closed, turn
package balance
