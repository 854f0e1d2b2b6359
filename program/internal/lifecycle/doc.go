// Package lifecycle decides what happens to a program: when its tasks start,
// what its scheduler function is told, what follows from a failure, and when it
// is over. Package program carries the decisions out.
//
// It is a pure core: what happened goes in as method calls, what is to be done
// comes out as Effects, in order. It must never import a clock, a socket, a
// file or a random source.
//
//	         Begin            Launched (all)         Return, Stop,
//	New ──▶ waiting ─────────▶ running ────────────▶ a failure under stop-all ──▶ stopping ──▶ over
//	           ▲                  │ a failure under restart-all                       (all ended,
//	           └── (all ended) ── restarting                                  scheduler function too)
//
// Each generation of a task ends exactly once, whatever is reported of it how
// often: reports of older generations, and of what has ended, change nothing.
package lifecycle
