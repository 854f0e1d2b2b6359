package process

import (
	"math"
	"os"
	"time"

	"github.com/rota-project/rota"
)

// Limits bound a process. Zero fields mean no limit. The first three are of the
// process and all its descendants together, exact, and need a cgroup; the others
// are the kernel's limits of single processes, which each descendant has anew.
type Limits struct {
	// Memory in bytes (memory.max).
	Memory int64
	// CPUs is the number of processors' worth of time (cpu.max).
	CPUs float64
	// Processes is the most processes and threads (pids.max).
	Processes int64
	// AddressSpace in bytes of each process (RLIMIT_AS). It counts what is mapped
	// and not what is used: Node and Go cannot start below about 1 GiB.
	AddressSpace int64
	// UserProcesses is the most processes and threads of the user, whoever started
	// them (RLIMIT_NPROC). It needs a user other than root and the caller's.
	UserProcesses int64
	// OpenFiles of each process (RLIMIT_NOFILE).
	OpenFiles int64
	// FileSize in bytes of each file that is written (RLIMIT_FSIZE).
	FileSize int64
	// CPUTime of each process (RLIMIT_CPU), in whole seconds, rounded up.
	CPUTime time.Duration
}

// validate returns a *rota.FieldError for a limit that is out of range, or that
// nothing could keep in this cgroup, nil for none, and for this user.
func (l Limits) validate(cgroup *Cgroup, user *User) error {
	for _, f := range []struct {
		field string
		value int64
	}{
		{"limits.memory", l.Memory},
		{"limits.processes", l.Processes},
		{"limits.address_space", l.AddressSpace},
		{"limits.user_processes", l.UserProcesses},
		{"limits.open_files", l.OpenFiles},
		{"limits.file_size", l.FileSize},
		{"limits.cpu_time", int64(l.CPUTime)},
	} {
		if f.value < 0 {
			return &rota.FieldError{Field: f.field, Value: f.value, Want: "zero or more"}
		}
	}
	if math.IsNaN(l.CPUs) || math.IsInf(l.CPUs, 0) || l.CPUs < 0 {
		return &rota.FieldError{Field: "limits.cpus", Value: l.CPUs, Want: "a finite number, zero or more"}
	}
	for _, f := range []struct {
		field      string
		value      any
		set        bool
		controller string
		without    string
	}{
		{"limits.memory", l.Memory, l.Memory > 0, "memory", "; address-space bounds each process without one"},
		{"limits.processes", l.Processes, l.Processes > 0, "pids", "; user-processes bounds those of another user without one"},
		{"limits.cpus", l.CPUs, l.CPUs > 0, "cpu", ""},
	} {
		if f.set && !cgroup.keeps(f.controller) {
			return &rota.FieldError{Field: f.field, Value: f.value, Want: "a cgroup v2 with the controller " + f.controller + " to keep it with" + f.without}
		}
	}
	if l.UserProcesses > 0 && (user == nil || user.UID == 0 || int(user.UID) == os.Geteuid()) {
		return &rota.FieldError{Field: "limits.user_processes", Value: l.UserProcesses, Want: "a user to run as, other than root and the worker's own: it counts all of the user's"}
	}
	return nil
}
