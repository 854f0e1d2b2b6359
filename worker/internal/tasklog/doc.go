// Package tasklog keeps the end of what each instance on a worker has written: its
// current run, and the one before. A run is one call of the task's function.
//
// Package worker begins runs, and reads for who asks. Memory is bounded for each run and
// for all together; what is dropped is counted, so that a reader is told how much is
// missing. No character of UTF-8 is ever cut. It must never hold up who writes.
package tasklog
