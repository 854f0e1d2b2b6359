// Package runner runs jobs on a worker: it decides by the worker's own
// configuration what may run (Allow), runs it as a process group (package
// process), keeps its output (package internal/job/output) and says what became of it.
// Its callers are the worker's job session and the adapter for old schedulers.
//
// What it keeps is on disk, one directory an attempt:
//
//	DIR/ID/GENERATION/*.out          the output
//	                 /result.json    how it ended; renamed to
//	                 /told.json      once a scheduler has it in the store
//	   /work                         where jobs work that name no directory; empty
//
// The outputs have a bound each and one for all (output.Total): the oldest ended
// ones are emptied first, and how their jobs ended is still known.
//
// An attempt that wrote nothing, and whose end a scheduler keeps at once, leaves
// nothing there.
//
// So a worker that was killed still serves the output of what ran on it, and
// tells of ends that nobody had heard of.
//
// The runner never runs what Allow does not list, never passes on its own
// environment, and never decides where or how often a job runs: that is for
// package job and the scheduler.
package runner
