// Package orchestrator distributes tasks over existing workers, over any transport.
//
// It is for programs that have workers of their own and only need the distribution of work:
// they supply a Communicator, declare tasks and workers with AddTask and AddWorker, and
// call NextTerm as often as they like. Each term asks every worker what it runs, and
// removes and adds tasks until that is what was declared; after one term the workers are
// balanced, with the fewest moves (see package placement).
//
// It imports only the standard library and the pure cores of this module, and keeps nothing
// on disk: the workers' answers are the state. Its goroutines are calls of the
// Communicator; they end if the Communicator respects its contexts.
package orchestrator
