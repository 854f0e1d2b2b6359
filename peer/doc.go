// Package peer makes each replica of a service a scheduler and a worker at once: N replicas
// of the same program share a list of tasks, and each task runs on exactly one of them.
// They need nothing but an etcd.
//
// Each replica creates a Node with the same root and the same Generator, registers its task
// functions (or takes events from WatchTask) and calls Run. One of them leads; when it
// dies, another takes over. Main functions call it; for separate schedulers and workers,
// use the packages scheduler and worker.
//
//	replica 1 ─┐
//	replica 2 ─┼─ etcd     each: scheduler ── in memory ── worker
//	replica 3 ─┘
//
// It makes no decisions itself, and it listens on no port: the service serves ReadyHandler,
// Node.Cluster says who runs what, and rota --etcd --root inspects a cluster from outside.
// docs/peer.md is for users of the old escheduler.
package peer
