// Package scheduler is a control-plane node. Every scheduler serves workers and the API;
// one of them, the leader, decides.
//
//	             ┌── sessions ◀──▶ workers
//	store ─▶ view┤
//	  ▲          ├── service ◀──▶ API, CLI, console
//	  │          └── leader: sources ─▶ placement ─▶ ownership ─┐
//	  └──────────────────────── guarded transactions ◀──────────┘
//
// Any number of schedulers share one store. All of them keep the same view of it (package
// view) and serve from that; only the leader writes grants. The key "leader" elects it, and
// the key's creation revision is its epoch. Each transaction of the leader compares that
// key and writes it again, so that a former leader, or a late transaction, changes nothing.
//
// The pure packages placement and ownership make the decisions. This package surrounds them
// with clocks, the store and goroutines.
package scheduler
