// Package schedulerworker speaks with the old scheduler-worker-grpc, both ways:
//
//	old worker  ──RegisterWorker──► Registry   a rota scheduler dials back and drives it
//	old scheduler ──StartJob, ...──► Worker     a rota worker runs what its own rules allow
//	old client  ──POST /start, ...─► Handler    the four calls, with their old statuses
//
// The scheduler and the worker shells serve them. What the old one did wrong
// does not come along: no lock is held over a call, a worker has one connection
// that is kept, a worker that is gone is dropped when its connection dies, it
// gets the same id when it comes back to the same address, and stderr is part
// of the output.
//
// Nothing in here decides what may run or who may ask: the worker's runner and
// the scheduler's guard do.
package schedulerworker
