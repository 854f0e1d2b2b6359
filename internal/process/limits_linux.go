package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rota-project/rota"
)

type rlimit struct {
	field    string
	resource int
	value    uint64
}

func (l Limits) rlimits() []rlimit {
	var out []rlimit
	add := func(field string, resource int, v int64) {
		if v > 0 {
			out = append(out, rlimit{"limits." + field, resource, uint64(v)})
		}
	}
	add("address_space", unix.RLIMIT_AS, l.AddressSpace)
	add("user_processes", unix.RLIMIT_NPROC, l.UserProcesses)
	add("open_files", unix.RLIMIT_NOFILE, l.OpenFiles)
	add("file_size", unix.RLIMIT_FSIZE, l.FileSize)
	add("cpu_time", unix.RLIMIT_CPU, int64((l.CPUTime+time.Second-1)/time.Second))
	return out
}

// switches reports whether running as u means to change who runs.
func (u *User) switches() bool {
	return u != nil && (int(u.UID) != os.Geteuid() || int(u.GID) != os.Getegid() || len(u.Groups) > 0)
}

// Possible reports whether this process may run things as u with these limits in
// this cgroup (nil is none of each): nil, or a *rota.FieldError that says what is
// missing. Where it is nil no Start fails for a limit.
func (l Limits) Possible(cgroup *Cgroup, u *User) error {
	if err := l.validate(cgroup, u); err != nil {
		return err
	}
	capable, err := capabilities()
	if err != nil {
		return err
	}
	if u.switches() {
		for _, c := range []struct {
			name string
			bit  int
		}{{"CAP_SETUID", unix.CAP_SETUID}, {"CAP_SETGID", unix.CAP_SETGID}, {"CAP_KILL", unix.CAP_KILL}} {
			if !capable(c.bit) {
				return &rota.FieldError{Field: "user", Value: u.UID, Want: "the worker's own user; as another the worker needs " + c.name}
			}
		}
	}
	for _, r := range l.rlimits() {
		var own unix.Rlimit
		if err := unix.Getrlimit(r.resource, &own); err != nil {
			return fmt.Errorf("process: limits: %w", err)
		}
		switch most := mostFiles(); {
		case r.resource == unix.RLIMIT_NOFILE && most > 0 && r.value > most:
			return &rota.FieldError{Field: r.field, Value: r.value, Want: fmt.Sprintf("at most %d, the machine's fs.nr_open", most)}
		case capable(unix.CAP_SYS_RESOURCE):
		case u.switches():
			return &rota.FieldError{Field: r.field, Value: r.value, Want: "no limit together with another user; the worker needs CAP_SYS_RESOURCE for that"}
		case r.value > own.Max:
			return &rota.FieldError{Field: r.field, Value: r.value, Want: fmt.Sprintf("at most the worker's own hard limit, %d; more needs CAP_SYS_RESOURCE", own.Max)}
		}
	}
	return nil
}

// mostFiles is the most that RLIMIT_NOFILE can be set to, 0 if that is not known.
func mostFiles() uint64 {
	b, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64) // 0 is not known
	return n
}

// capabilities answers which this process has.
func capabilities() (has func(bit int) bool, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("process: capabilities: %w", err)
	}
	return func(bit int) bool { return data[bit/32].Effective&(1<<(bit%32)) != 0 }, nil
}
