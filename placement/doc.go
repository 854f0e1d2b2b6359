// Package placement decides which worker should run what.
//
// A Planner keeps the tasks, the workers and the current assignment, and returns the plan
// that leads to the desired assignment: the fewest moves, each with its reason. It keeps
// state between passes, so that one change among a million tasks costs microseconds. The
// scheduler's leader and package orchestrator call it; so may any program that schedules
// work of its own.
//
// It is pure. It must never read a clock, open a socket or a file, start a
// goroutine, or draw a random number: the same tasks, workers, assignment and
// options give the same plan, whatever the order in which they were told.
//
// # How a pass goes
//
//	evict    what may not stay: its worker is gone or draining, a rule changed
//	place    what is nowhere, higher priority first, on the emptiest worker
//	         that the rules allow; keys by hash, gangs all or none
//	reunite  what has to be together or apart and is not
//	spread   what should be even over a label such as the zone
//	balance  relieve workers above the mean, fill those below it
//
// With equal weights and strengths and no rules every worker ends with the
// floor or the ceiling of the mean, by the provably least number of moves: the
// ceilings go to the fullest holders. With weights the fullest worker ends at
// or below the mean plus the largest task (or one percent of the mean).
//
// Measured load, where it is reported, blends with declared weight; hot spots
// are relieved by moves and, where those cannot help, by swaps. Every chosen
// move makes the fuller of two workers emptier, and balance takes nothing back
// to where it took it from until something changes, so that while loads stand
// still nothing goes back and forth.
//
// # What may not be enough
//
// Placing is greedy: it does not shuffle what runs to make room for what
// waits (preemption, where a task's rules allow it, does displace), and where
// rules forbid most moves an evener assignment may exist than the one it ends
// with. Finding the best is NP-hard.
package placement
