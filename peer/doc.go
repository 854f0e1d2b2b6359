// Package peer makes a replica of a service scheduler and worker at once: N
// replicas of the same program share a list of tasks, and each task runs on
// exactly one of them, with nothing beside them but an etcd.
//
// Each replica makes a Node of the same root and the same Generator, registers
// its task functions (or takes events from WatchTask) and calls Run. One of them
// leads; when it dies another does. It is called by main functions; whoever
// wants schedulers and workers apart uses packages scheduler and worker.
//
//	replica 1 ─┐
//	replica 2 ─┼─ etcd     each: scheduler ── in memory ── worker
//	replica 3 ─┘
//
// It decides nothing itself, and it listens nowhere: ReadyHandler is for the
// service to serve, Node.Cluster answers who runs what, and rota --etcd --root looks
// into a cluster from outside. docs/peer.md is for users of the old escheduler.
package peer
