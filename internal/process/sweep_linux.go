package process

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// sweepTime bounds how long a sweep waits for what it has killed.
const sweepTime = 10 * time.Second

// Sweep kills what processes of this package have left behind on this machine:
// all that descends from a host that is dead, whose ending nobody has seen to
// because its keeper died with it. It returns how many it killed, when they are
// gone. A worker calls it once before it starts anything.
func Sweep() int {
	killed := map[int]bool{}
	for until, pause := time.Now().Add(sweepTime), time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		left := false
		for _, pid := range processes() {
			if pid != os.Getpid() && orphan(pid) && killOrphan(pid) {
				killed[pid], left = true, true
			}
		}
		if !left || time.Now().After(until) {
			return len(killed)
		}
		time.Sleep(pause) // dying takes a moment, and what forked meanwhile is seen by the next look
	}
}

// killOrphan looks again with the process held by a descriptor, so that the
// signal cannot hit one that took over the pid.
func killOrphan(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return orphan(pid) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// orphan reports whether a process carries the mark of a host that is dead. A
// living host adopts its descendants, so it is among the ancestors of each.
func orphan(pid int) bool {
	m, ok := markOf(pid)
	if !ok || m.host() == os.Getpid() || m.host() == pid || !sameNamespace(pid) {
		// Ours; a host that is just forking, see marking; or of a container, where
		// the mark has a pid of in there.
		return false
	}
	s, err := statOf(pid)
	if err != nil || s.zombie {
		return false
	}
	if gone(m.host()) {
		return true
	}
	// Somebody has the host's pid: the host itself, if it is an ancestor. The
	// line may break while it is read, as parents die: then look again.
	for range 10 {
		at := pid
		for {
			s, err := statOf(at)
			if err != nil {
				break
			}
			if s.parent == m.host() {
				return false
			}
			if at = s.parent; at <= 1 {
				return true
			}
		}
	}
	return false
}

func sameNamespace(pid int) bool {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return false
	}
	theirs, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", "pid"))
	return err == nil && own == theirs
}
