// Package orchestrator keeps workers busy with the tasks that they should do,
// over any transport.
//
// It is for people who have workers of their own and only want the splitting
// of work done well: they supply a Communicator, say what is expected with
// AddTask and AddWorker, and call NextTerm as often as they like. Each term
// asks every worker what it does, and removes and adds tasks until both agree;
// after one term the workers are balanced, by the fewest moves (see package
// placement).
//
// It imports nothing but the standard library and the pure cores of this
// module, and keeps nothing on disk: what runs is what the workers say. Its
// goroutines are calls of the Communicator; one that heeds its context leaves none
// behind.
package orchestrator
