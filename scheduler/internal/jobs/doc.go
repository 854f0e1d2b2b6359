// Package jobs is the scheduler's side of jobs: it declares them in the
// store, places them, drives the workers that have their job stream here, and
// answers the API. Package server runs one in each scheduler.
//
//	API ──RunJob──► loop ──transaction──► store ──watch──► picture of every scheduler
//	                 ▲                                        │
//	   reports ──────┘ (also: placing, losing, expiring        ├─► job streams: start, stop
//	   of workers        where this scheduler leads)           └─► watchers
//
// One goroutine, the loop, decides and writes: it gathers what was asked and
// reported since its last write, applies it to the jobs by the rules of package
// job, and commits many jobs in one transaction. Each write compares the
// revision of its own job, and a placement also that the worker's session is
// alive, so two schedulers, a leader that is none any more, or a write whose
// outcome is unknown can never place a job twice: whoever loses looks again.
//
// A job stream belongs to one session of its worker and ends with it: an order of
// an earlier session could begin what runs elsewhere by now. What a worker is told
// on a new stream comes from a picture as new as that stream, and a report of what
// the picture does not know has the store asked first.
//
// What a worker was given and nobody has said to have begun is not given up for lost
// at once: its process may come back, and is asked. One that it has never begun it
// refuses from then on, so the job may be placed anew. A worker that leaves in order
// is sent every order that there will be, and refuses it, before its session ends.
//
// Output never passes through the loop or the store: it flows from the worker's
// disk over a stream of its own to whoever asked, as fast as that one reads.
package jobs
