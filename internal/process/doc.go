// Package process runs programs of the machine for a worker and leaves nothing
// of them behind: jobs and tasks that are processes are started, fed, limited
// and stopped by it. Its callers are packages internal/job/runner and worker.
//
// A Process is a whole group and all its descendants, never a single pid:
//
//	Start ──► running ──leader ends──► the rest killed ──► output drained ──► Wait returns
//	             │ Stop, or ctx ends
//	             └── SIGTERM, SIGCONT to all ──grace──► SIGKILL to all
//
// On Linux this process adopts what its descendants leave behind, so whatever
// left the group (setsid, double forks) is a child of ours once its parent has
// ended; a mark that children inherit says to which Process it belongs.
//
// What is left when this process itself is killed is its own parent's, if that
// uses this package too (package supervise); else the kernel kills the leader of
// each group (PR_SET_PDEATHSIG), and Sweep, called when some worker starts on the
// machine, finds the rest by the mark.
//
// Who uses this package and starts processes by other means as well keeps them in
// its own group: a child in another group that is forked while Start is under
// way would take the mark.
//
// The package never passes on the environment of its own process, never
// interprets a shell's language, never touches a process that it did not start
// and never logs.
package process
