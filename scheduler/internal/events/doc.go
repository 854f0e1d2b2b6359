// Package events is the memory of the cluster: a bounded log of what happened, kept in
// the store, so that it outlives whoever leads.
//
// A Recorder takes events from the leader's loop, the API, the sessions and the jobs of
// one scheduler. It never blocks: events wait in memory, within budgets, and are written
// some at a time, beside everything else. What is over its budget is left out and counted.
// A Log is every scheduler's picture of what all of them recorded. It answers lists and
// watches, and says what is too old to be kept.
//
// The log is for people. Nothing may be decided by it.
package events
