// Package pools is the scheduler's side of pools: it declares them in the store, has
// engines start and stop their workers, lets those workers join, and answers the API.
// Package server runs one in each scheduler.
//
//	API ──ApplyPools──► store ──watch──► picture ──► one loop for each engine, which the
//	                      ▲                          leader goes by: package fleet decides
//	      records of ─────┘ ◄── written first ◄────  Start, Stop, List ──► engine
//	      workers ◄── JoinWorker: its token is used up, its certificate signed
//
// Every start is written down before the engine is asked, with the hash of a join token
// that is good once. So whatever becomes of a leader, an engine or an answer: a worker
// that nobody has a record of is stopped, and could not have joined; one whose start
// nobody is sure of is given up, and its token with it; and a second copy of a worker
// finds its token used. A worker's name is used once.
//
// The leader's writes compare the creation of the leader's key, which is its term: a
// leader that is none any more starts nothing. Where each scheduler has an engine of its
// own (local), a worker's record says whose it is, and that scheduler stops it when the
// record says so or is gone.
//
// It must never decide how many workers there should be (package fleet does), and keeps
// no secret: tokens are known to the worker, and by their hashes to the store.
package pools
