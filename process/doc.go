// Package process runs programs of the machine for a worker and leaves nothing
// of them behind: jobs and tasks that are processes are started, fed, limited
// and stopped by it. Its callers are packages job/runner and worker.
//
// A Process is a whole group, never a single pid:
//
//	Start ──► running ──leader ends──► group killed ──► output drained ──► Wait returns
//	             │ Stop, or ctx ends
//	             └── SIGTERM, SIGCONT to the group ──grace──► SIGKILL to the group
//
// What is left when the worker itself is killed is covered twice. The kernel
// kills the leader of each group (PR_SET_PDEATHSIG; it follows the thread that
// started the child, so all are started from one thread that outlives them),
// and Sweep, called when the worker starts again, finds by a mark in the
// environment whatever else the dead worker's processes had started. Processes
// that left their group with setsid(2) while the worker lives are found by the
// same mark, or by their cgroup where there is one.
//
// The package never passes on the environment of its own process, never
// interprets a shell's language, never touches a process that it did not start
// and never logs.
package process
