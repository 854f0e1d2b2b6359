package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A mark says whose a process is: which process of this package started it, or
// what it descends from, and for which Process. It is kept in the soft limit
// RLIMIT_LOCKS, which no kernel since 2.4.25 enforces but which each hands on
// to every child. So a mark outlives setsid(2), double forks, a change of user
// and an emptied environment, and anybody can read it (/proc/PID/limits).
type mark uint64

const (
	markTag   = 0xa7a // tells a mark from a limit that somebody set
	tokenBits = 29
	pidBits   = 22 // the kernel's most (PID_MAX_LIMIT)
	tokenMask = 1<<tokenBits - 1
	pidMask   = 1<<pidBits - 1
)

func newMark(host int, token uint64) mark {
	return mark(markTag<<(tokenBits+pidBits) | (uint64(host)&pidMask)<<tokenBits | token&tokenMask)
}

func (m mark) valid() bool   { return m>>(tokenBits+pidBits) == markTag }
func (m mark) host() int     { return int(m >> tokenBits & pidMask) }
func (m mark) token() uint64 { return uint64(m) & tokenMask }

// marking calls f while what this process forks inherits m. Only the spawner
// calls it, so two marks never meet.
func marking(m mark, f func() error) error {
	var own unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_LOCKS, nil, &own); err != nil {
		return fmt.Errorf("mark: read RLIMIT_LOCKS: %w", err)
	}
	marked := unix.Rlimit{Cur: uint64(m), Max: own.Max}
	if err := unix.Prlimit(0, unix.RLIMIT_LOCKS, &marked, nil); err != nil {
		return fmt.Errorf("mark: set RLIMIT_LOCKS (its hard limit must be unlimited): %w", err)
	}
	defer func() { _ = unix.Prlimit(0, unix.RLIMIT_LOCKS, &own, nil) }() // what was there may be set
	return f()
}

// markOf reads the mark of a process; ok is false if it has none, or is gone.
func markOf(pid int) (m mark, ok bool) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "limits"))
	if err != nil {
		return 0, false
	}
	_, line, ok := bytes.Cut(b, []byte("Max file locks"))
	if !ok {
		return 0, false
	}
	fields := bytes.Fields(line[:min(len(line), 64)])
	if len(fields) == 0 {
		return 0, false
	}
	v, err := strconv.ParseUint(string(fields[0]), 10, 64) // or "unlimited"
	return mark(v), err == nil && mark(v).valid()
}

// stat is what /proc/PID/stat says of a process.
type stat struct {
	parent, group int
	start         uint64 // in the kernel's ticks since boot
	zombie        bool
}

func statOf(pid int) (s stat, err error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = fs.ErrNotExist // it went while it was read
		}
		return s, err
	}
	// The name in field 2 may hold anything; fields go on after its last ')'.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return s, fmt.Errorf("process: /proc/%d/stat: %d fields", pid, len(fields))
	}
	s.zombie = fields[0] == "Z" || fields[0] == "X"
	s.parent, _ = strconv.Atoi(fields[1])
	s.group, _ = strconv.Atoi(fields[2])
	s.start, err = strconv.ParseUint(fields[19], 10, 64)
	return s, err
}

// gone reports whether a process is no more, or a zombie.
func gone(pid int) bool {
	s, err := statOf(pid)
	return errors.Is(err, fs.ErrNotExist) || err == nil && s.zombie
}

// childrenOf lists the children of a process, zombies among them.
func childrenOf(pid int) []int {
	tasks := filepath.Join("/proc", strconv.Itoa(pid), "task")
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return nil
	}
	var out []int
	for _, t := range threads {
		tid, _ := strconv.Atoi(t.Name())
		list, err := childrenOfThread(pid, tid)
		if _, e := os.Stat(filepath.Join(tasks, t.Name())); err != nil && e == nil {
			return scanChildren(pid) // a kernel without these lists
		}
		out = append(out, list...)
	}
	return out
}

// adoptedChildren lists the children of this process that it did not fork, and
// maybe others. The kernel gives them to the first living thread, which is the
// main one: Go never ends that.
func adoptedChildren() []int {
	pid := os.Getpid()
	list, err := childrenOfThread(pid, pid)
	if err != nil {
		return scanChildren(pid)
	}
	return list
}

func childrenOfThread(pid, tid int) ([]int, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/task/"+strconv.Itoa(tid)+"/children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	var out []int
	var space [4096]byte
	for word := 0; ; {
		n, err := unix.Read(fd, space[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return out, err
		}
		for _, c := range space[:n] {
			switch {
			case c >= '0' && c <= '9':
				word = 10*word + int(c-'0')
			case word > 0:
				out = append(out, word)
				word = 0
			}
		}
	}
}

// scanChildren is childrenOf by a look at every process of the machine.
func scanChildren(pid int) []int {
	var out []int
	for _, p := range processes() {
		if s, err := statOf(p); err == nil && s.parent == pid {
			out = append(out, p)
		}
	}
	return out
}

// processes lists the processes of the machine.
func processes() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	var out []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			out = append(out, pid)
		}
	}
	return out
}
