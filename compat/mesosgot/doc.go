// Package mesosgot is the door for programs written for mesosgot: its names, over
// package program. A ported program changes its import lines and nothing else:
//
//	got   "github.com/yglcode/mesosgot"            becomes "github.com/rota-project/rota/compat/mesosgot"
//	sched "github.com/mesos/mesos-go/scheduler"    the same
//	exec  "github.com/mesos/mesos-go/executor"     the same
//
// The scheduler's executable runs on a cluster whose address -master gives, or, with
// -master local, in one process with the tasks that it has registered itself. The
// executor's executable is a worker of that cluster: it is started on each machine, with
// the schedulers' addresses in ROTA_SCHEDULERS, its name in ROTA_NAME (the host's name
// and the process's number without it), and for TLS the files in ROTA_TLS_CA,
// ROTA_TLS_CERT and ROTA_TLS_KEY; with rota dev nothing of this is needed. Both are of
// one Go module, see package internal/program/build.
//
// What differs: messages may hold any bytes; nothing is served for download, so that
// -address, -artifactPort and -executor are read and do nothing, and neither do those
// of Mesos's authentication; resources "cpus" and "mem" (MiB) are counted on workers
// that state a capacity; a failed task ends the program; Args and Env of a task reach
// it, Args after its name. New programs use package program.
//
// People who have such programs call it. It must never be imported by the rest of the
// product.
package mesosgot
