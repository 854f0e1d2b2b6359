// Package blame finds tasks that kill the workers on which they run.
//
// Docket is told which workers died, and what each had on board. Tasks that were on
// board of several of them are suspects; it says what becomes of these:
//
//	      Limits.Deaths         after a        outlived the trial
//	(free) ─────────▶ Backoff ─────────▶ Trial ─────────────────▶ (free)
//	                     ▲                 │
//	                     └─────────────────┤ its worker dies, with others on trial
//	                                       └─▶ Held  it dies with this one alone
//
// On trial a suspect runs on a worker where few others are on trial, one if it can be,
// so that each death acquits all that were not there. What was held is free again
// when it is released, changed or deleted. A death that was none, because the same
// process is back, is taken back with what it led to.
//
// The leader of package scheduler calls it. It must never read a clock, talk to
// anybody or start anything: times are handed in.
package blame
