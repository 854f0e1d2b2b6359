// Package output keeps what a job writes: stdout and stderr apart and in order,
// on the worker's disk, for any number of followers at any offset, while it runs
// and after. Package internal/job/runner writes and serves it.
//
// A Log is a directory of segments, each named by the offset of its first byte.
// A segment is a row of records:
//
//	crc32c 4 │ length 4 │ offset 8 │ unix µs 8 │ stream 1 │ data ...
//	         └────────────── covered by the crc ───────────────────┘
//
// An offset counts the bytes of both streams from the start of the job, so it
// means the same to each follower and after a restart. A log is bounded: the
// oldest segment goes when a new one would exceed the bound, and a reader that
// comes too late is told how much it missed. What the disk refuses is kept in
// memory, as much as that may be, so that followers get it; the rest is counted as
// missed in the same way. It never stops the job.
//
// Each stream is in the order in which the job wrote it; between the two it is
// the order in which they were read, a pipe each.
//
// Total bounds many logs together: the oldest ended one goes first, and a reader
// is told in the same way.
//
// A Write returns when the kernel has the bytes and the log's rate allows, so a
// job that writes faster than that waits, and nobody else does. Readers never hold up the
// writer. A torn tail, from a crash in the middle of a write, is cut off when
// the log is opened again.
//
// Nothing in here interprets the bytes, knows what a job is, or logs.
package output
