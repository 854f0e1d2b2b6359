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
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// markKey is the variable that marks a process and all its descendants:
// "<pid of the worker>-<its start time>-<token>:<owner>".
const markKey = "ROTA_PROCESS"

// sweepPasses bounds how often a sweep looks again because it found something:
// what forks while it is being killed is found by the next pass.
const sweepPasses = 20

var self = sync.OnceValue(func() string {
	start, _ := startTime(os.Getpid())
	return fmt.Sprintf("%d-%d", os.Getpid(), start)
})

// mark is the environment entry of p, or empty if nobody owns it.
func (p *Process) mark() string {
	if p.owner == "" {
		return ""
	}
	return fmt.Sprintf("%s=%s-%d:%s", markKey, self(), p.token, p.owner)
}

// Sweep kills what processes of owner left behind: everything that carries
// owner's mark and was started by a process that is dead, or by this one for a
// Process that has ended. It returns how many it killed. A worker calls it once
// before it starts anything.
func Sweep(owner string) (int, error) {
	if owner == "" {
		return 0, nil
	}
	return sweep(owner)
}

func sweep(owner string) (int, error) {
	if owner == "" {
		return 0, nil
	}
	killed := map[int]bool{} // dying takes a moment, and is seen by the next pass
	var errs []error
	for range sweepPasses {
		before := len(killed)
		if err := sweepOnce(owner, killed); err != nil {
			errs = append(errs, err)
		}
		if len(killed) == before {
			break
		}
	}
	return len(killed), errors.Join(errs...)
}

func sweepOnce(owner string, killed map[int]bool) error {
	dir, err := os.Open("/proc")
	if err != nil {
		return fmt.Errorf("process: sweep: %w", err)
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close()
	if err != nil {
		return fmt.Errorf("process: sweep: %w", err)
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if orphan(name, owner) && killOrphan(pid, owner) {
			killed[pid] = true
		}
	}
	return nil
}

// killOrphan looks again with the process held by a descriptor, so that the
// signal cannot hit one that took over the pid.
func killOrphan(pid int, owner string) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	if !orphan(strconv.Itoa(pid), owner) {
		return false
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// orphan reports whether the process carries owner's mark and should not live.
func orphan(pid, owner string) bool {
	env, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
	if err != nil || len(env) == 0 {
		return false // gone, a zombie, or not ours to read
	}
	i := bytes.Index(env, []byte(markKey+"="))
	if i < 0 || i > 0 && env[i-1] != 0 {
		return false
	}
	value := string(env[i+len(markKey)+1:])
	if j := strings.IndexByte(value, 0); j >= 0 {
		value = value[:j]
	}
	origin, markOwner, ok := strings.Cut(value, ":")
	if !ok || markOwner != owner {
		return false
	}
	parts := strings.SplitN(origin, "-", 3)
	if len(parts) != 3 {
		return false
	}
	worker, err1 := strconv.Atoi(parts[0])
	start, err2 := strconv.ParseUint(parts[1], 10, 64)
	token, err3 := strconv.ParseUint(parts[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return false
	}
	if parts[0]+"-"+parts[1] == self() {
		_, alive := live.Load(token)
		return !alive
	}
	now, err := startTime(worker)
	return errors.Is(err, fs.ErrNotExist) || err == nil && now != start
}

// startTime is when the process started, in the kernel's ticks since boot; with
// the pid it names a process for good. A zombie counts as gone.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// The name in field 2 may hold anything; fields go on after its last ')'.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, fmt.Errorf("process: /proc/%d/stat: no name", pid)
	}
	fields := strings.Fields(string(b[i+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("process: /proc/%d/stat: %d fields", pid, len(fields))
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// What ended may have left something that had gone its own way with setsid(2).
// One look for many ends, and at most a fiftieth of the time spent looking.
var sweeps struct {
	sync.Mutex
	pending map[string]bool
	delay   time.Duration
}

func sweepSoon(owner string) {
	if owner == "" {
		return
	}
	sweeps.Lock()
	defer sweeps.Unlock()
	if sweeps.pending[owner] {
		return
	}
	if sweeps.pending == nil {
		sweeps.pending = map[string]bool{}
	}
	sweeps.pending[owner] = true
	time.AfterFunc(max(sweeps.delay, time.Second), func() {
		sweeps.Lock()
		delete(sweeps.pending, owner)
		sweeps.Unlock()
		began := time.Now()
		_, _ = sweep(owner)
		sweeps.Lock()
		sweeps.delay = 50 * time.Since(began)
		sweeps.Unlock()
	})
}
