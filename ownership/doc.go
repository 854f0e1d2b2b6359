// Package ownership decides who may run what: the hand-over of instances from
// worker to worker so that an exclusive one never has two owners.
//
// It has two halves, both state machines without clock, socket or goroutine:
// events go in, effects come out, and the same events give the same effects.
//
// Ledger is the leader's half. It is told what the store holds (Record), which
// sessions live (Session), what workers acknowledge (Ack) and where each
// instance should be (Target); Ready answers what to write to the store next.
//
//	            Target              Ack stopped,
//	          elsewhere             or session over
//	granted ────────────▶ revoked ──────────────────▶ (free) ──▶ granted elsewhere
//	   ▲                                                            with a greater
//	   └── Record: only what the store has confirmed counts ──┘     generation
//
// Holder is the worker's half. It counts the lease from when a renewal was
// sent, starts what is granted, stops what is revoked, and when it can no
// longer trust its lease it stops exclusive instances by itself, before anybody
// else may be given them; what does not stop by then takes the process down.
//
// What the callers owe it, and its simulation shows to be needed:
//
//   - A transaction of unknown outcome is followed by a reading of everything,
//     and the next one is done only if nothing was written in between. Changes
//     that a watch tells while the leader reads are taken after the reading, and
//     those that are older than it are not taken at all.
//   - Grants are written only while the worker's session lives, in the same
//     transaction, and after Release and Revoke are confirmed.
//   - A hello that comes later than a newer one of its session is refused, and
//     acknowledgements are taken from the session's latest stream only.
//   - A worker's full list is read from the store after its hello, and each
//     change after it is pushed in order, removed grants as revoked ones.
//   - Next is asked for anew after every event.
//
// The package is called by scheduler and worker. It must never read a clock,
// talk to anybody or start anything: times are handed in.
package ownership
