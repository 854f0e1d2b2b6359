// Package capacity keeps the one account of what is taken of each worker's capacity:
// by tasks, which members of programs are, and by every other kind of work, as jobs are.
//
//	grants  ── watch ──►┌─────────┐◄── what runs ── picture of each other kind
//	targets ── leader ─►│ Account │◄── places being written ── who places it
//	                    └─────────┘
//
// Every scheduler has one. What the store holds is in it as soon as the scheduler's
// picture has it. Where the scheduler leads, so is what was decided and not written
// yet: a place is entered before it is written, and leaves the account only when it is
// known not to be in the store. The leader's loop and those of other kinds decide at the
// same time; whoever enters first has the room, and the other finds it taken.
//
// The account decides nothing else: it must never talk to the store, and it reads no
// clock. Only what states resources is in it, so tasks that state none cost nothing.
package capacity
