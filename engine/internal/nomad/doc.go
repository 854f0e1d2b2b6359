// Package nomad is the engine of a cluster that HashiCorp Nomad runs, 1.8 or later: each
// worker is a batch job of its own, with one group of one task.
//
//	Start: variable nomad/jobs/ID with the join token ──► job ID ──► Nomad's template puts
//	       the token into the task's environment ──► List sees it run, deletes the variable
//
// A job of its own is what lets the scheduler say which worker ends: of a group with a
// count Nomad itself picks. The job says that Nomad is to neither restart it, nor place it
// anew when it fails or its node is lost: the scheduler starts another worker, under
// another name. Who may read jobs reads no secret.
//
// Where Nomad is, and as whom, is the scheduler's: the variables NOMAD_ADDR and the like,
// and a file of the ACL token. A pool cannot say so, for then whoever declares a pool could
// have the token sent elsewhere.
package nomad
