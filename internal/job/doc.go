// Package job holds what a job is and which state may follow which: a command
// with its rules, the attempts to run it, and what became of them. The
// scheduler decides with it, the API and the CLI speak its words.
//
//	   ┌──────────── Unplace: the worker would not, or was gone ─┐
//	   ▼                                                         │
//	queued ──Place──► starting ──Begin──► running                │
//	 ▲ │ ▲               │  └───────────────┼───────────────────►┘ (starting only)
//	 │ │ │               └──────┬───────────┘
//	 │ │ │ retries left, after  ├─ End ──► succeeded │ failed │ timed-out │ stopped
//	 │ │ └──a back-off──────────┤
//	 │ │    Rerun, at once      └─ Lose ─► lost ──Begin, End──► (found again)
//	 │ └─Stop─► stopped
//	 └──Retry, by a person── any of the ends
//
// Each placement has a generation, greater than every one before; what a worker
// says of another generation than the current one is ErrStale and changes
// nothing. So one attempt runs at a time: a job is placed again only after its
// worker said that the attempt ended, or after that worker's lease did, when it
// has killed the attempt itself.
//
// The package is pure: no clock, no file, no socket, no random source. Every
// method takes the time and returns a new Job; on an error the old one stands.
package job
