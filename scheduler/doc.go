// Package scheduler is a control-plane node: it serves workers and the API, and
// one of its kind, the leader, decides.
//
//	             ┌── sessions ◀──▶ workers
//	store ─▶ view┤
//	  ▲          ├── service ◀──▶ API, CLI, console
//	  │          └── leader: sources ─▶ placement ─▶ ownership ─┐
//	  └──────────────────────── guarded transactions ◀──────────┘
//
// Any number of schedulers share one store. All of them keep the same picture
// (package view) and serve from it; the leader alone writes grants. It is elected
// by the key "leader", whose creation revision is its epoch: each transaction
// of the leader compares that key and writes it again, so that one that is no
// longer leader, or a transaction that comes late, changes nothing.
//
// The decisions are made by the pure packages placement and ownership. This
// package is their shell: clocks, the store, goroutines.
package scheduler
