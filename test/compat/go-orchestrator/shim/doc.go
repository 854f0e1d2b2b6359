// Package orchestrator has the names of the old go-orchestrator, with any in the place
// of its interface{}, and is package orchestrator of this module below. It is for
// tests, ours and those of a user's checkout, and for nothing else.
package orchestrator
