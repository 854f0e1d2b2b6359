// Package fleet decides what becomes of a pool's workers: how many there should be, and
// what to do next so that there are. Package pools calls it with what is desired and
// what was observed; the answer is a list of actions, and what to remember.
//
//	asked ──► started ──► joined ──► leaving ──► stopping ──► forgotten
//	  │          │           │
//	  │          │           └─ its allocation ends soon: replaced first, then leaving
//	  │          └─ not joined in time, or ended before: stopped, and tried anew later
//	  └─ nobody knows whether it was started: forgotten; should it come, it cannot join
//
// The size of a pool that is not fixed follows one rule. It grows when something that its
// template would take has waited for GrowAfter, by as many workers as that needs, those
// that are on their way counted. It shrinks when for the whole of IdleAfter nothing
// waited, nothing was on its way, and all that its workers hold would have fit on fewer
// of them with Headroom to spare; then by at most a tenth, and the time begins anew. So
// between a shrink and a growth the load rises by the headroom at least, and between two
// shrinks lies IdleAfter: a load that stands still moves nothing.
//
// It is pure: it must never read a clock, do I/O or draw random numbers.
package fleet
